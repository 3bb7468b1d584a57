"""The data folder: where everything of one installation lies, and the lock that lets one server use it."""

from __future__ import annotations

import errno
import fcntl
import getpass
import os
import pwd
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from valetkey.errors import Conflict, Invalid

_LONGEST_SOCKET_PATH = 100
"""sun_path holds 108 bytes on Linux, the ending NUL included; a little room for our longest name."""


class Home:
    """Paths inside one data folder. Making the object touches nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().absolute()
        self.config = self.folder / "config.toml"
        self.database = self.folder / "valetkey.db"
        self.counters = self.folder / "counters"
        self.journal = self.folder / "journal"
        self._id_file = self.folder / "home-id"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Home:
        """The home that VALETKEY_HOME names, or the default one."""
        named = environment.get("VALETKEY_HOME")
        if named:
            return cls(Path(named))
        data = environment.get("XDG_DATA_HOME") or "~/.local/share"
        return cls(Path(data) / "valetkey")

    @property
    def exists(self) -> bool:
        """Whether it has been initialised."""
        return self._id_file.exists()

    @property
    def id(self) -> str:
        """The home's own random name: root key files are named after it."""
        return self._id_file.read_text(encoding="ascii").strip()

    @property
    def run(self) -> Path:
        """Folder of the sockets: inside the home, or in the runtime folder where that path is too long."""
        inside = self.folder / "run"
        if len(os.fsencode(inside / "control.sock")) <= _LONGEST_SOCKET_PATH:
            return inside
        base = os.environ.get("XDG_RUNTIME_DIR")
        # Without a runtime folder the temporary one serves: the folder below is ours alone or refused.
        root = Path(base) if base else Path("/tmp") / f"valetkey-{os.getuid()}"  # noqa: S108
        return root / f"valetkey-{self.id}"

    @property
    def control_socket(self) -> Path:
        return self.run / "control.sock"

    @property
    def remote_socket(self) -> Path:
        """Where the API listens behind its TLS port. It asks for a token, unlike `control_socket`."""
        return self.run / "remote.sock"

    @property
    def worker_socket(self) -> Path:
        return self.run / "workers.sock"

    def prepare(self) -> None:
        """Make the folders, 0700, and the home's id. Raises `Invalid` where others could get in."""
        for folder in (self.folder, self.journal):
            _private_folder(folder)
        if not self.exists:
            _write_whole(self._id_file, f"{secrets.token_hex(8)}\n".encode())
        _private_folder(self.run.parent) if self.run.parent != self.folder else None
        _private_folder(self.run)

    def lock(self) -> int:
        """Hold the home for this process and its life. Raises `Conflict` when another server holds it."""
        descriptor = _open_own(self.folder / "lock", os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = _holder_in(descriptor)
            os.close(descriptor)
            raise Conflict(
                f"Another valetkey server (process {holder}) already uses {self.folder}.",
                "Stop it, or give this one a folder of its own with VALETKEY_HOME.",
            ) from None
        owner = self.folder.stat()
        if os.geteuid() == 0 and owner.st_uid != 0:
            # Root looks into the folder of another: what it leaves there must not keep its owner out.
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        with suppress(OSError):
            # It only tells others who holds it: a full disk must not keep what mends it from running.
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return descriptor

    def holder(self) -> str | None:
        """Process id of the server that holds this home, None when none does. Changes nothing."""
        try:
            descriptor = os.open(self.folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder_in(descriptor)
        finally:
            os.close(descriptor)
        return None

    def owner_name(self) -> str:
        """Name of the operating-system user who owns the home."""
        try:
            return pwd.getpwuid(self.folder.stat().st_uid).pw_name
        except (KeyError, FileNotFoundError):
            return getpass.getuser()


def disk_refusal(error: OSError) -> str | None:
    """What to do about a disk that takes nothing; None when it is not the disk's fault."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Make room on that disk, then try again."
    if error.errno == errno.EROFS:
        return "Mount that disk so that it can be written, then try again."
    if error.errno == errno.EIO:
        return "Look at the disk and the system's log."
    return None


def _holder_in(descriptor: int) -> str:
    return os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"


def _unwritable(path: Path, error: OSError) -> Invalid:
    return Invalid(
        f"{path} cannot be written ({error.strerror}).",
        disk_refusal(error) or "Correct the rights of the data folder, or choose another with VALETKEY_HOME.",
    )


def _open_own(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unwritable(path, error) from None


def _write_whole(path: Path, content: bytes) -> None:
    """Make a small file: whole or not at all, whatever happens meanwhile; one that another made stays as it is.

    Raises `Invalid`.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    descriptor = _open_own(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    try:
        try:
            os.write(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        with suppress(FileExistsError):
            os.link(draft, path)  # unlike a rename, this never replaces
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        draft.unlink(missing_ok=True)


def _private_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise Invalid(
            f"The folder {folder} cannot be made or entered ({error.strerror}).",
            disk_refusal(error) or "Choose another with VALETKEY_HOME, or correct its rights.",
        ) from None
    if status.st_uid != os.getuid():
        raise Invalid(
            f"{folder} belongs to another user.",
            "Run as its owner, or choose another folder with VALETKEY_HOME.",
        )
    if status.st_mode & 0o077:
        raise Invalid(f"{folder} can be entered by other users.", f"Run: chmod 700 {folder}")
