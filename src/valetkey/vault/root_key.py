"""Where the root key comes from: a file, a passphrase, a systemd credential or the environment.

Each provider has one method, `load`. None falls back to another or makes a new key by itself: a root key that
is not found must stop the start, for a fresh one would open nothing.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Final

import msgspec

from valetkey.errors import Invalid, Unavailable
from valetkey.vault.plain import PlainSecret
from valetkey.vault.sealing import KEY_BYTES, RandomBytes, RootKey

CREDENTIAL_NAME: Final = "valetkey-root-key"
"""Name for systemd's ``LoadCredentialEncrypted=``."""
VARIABLE_NAME: Final = "VALETKEY_ROOT_KEY"
MAX_FILE_BYTES: Final = 1024
"""A root key file has 89 bytes, a salt file about 150; what is larger is something else."""

_TEXT: Final = re.compile(rb"vkroot1:([0-9a-f]{16}):([0-9a-f]{64})\n?")
_HOME_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class RootKeyRefused(Unavailable):
    """The root key cannot be used; nothing sealed can be opened."""

    code = "ROOT_KEY_REFUSED"


def default_path(home_id: str, environ: Mapping[str, str]) -> Path:
    """Where the key file of a home stands: outside the home, so that a copy of the data opens nothing.

    ``VALETKEY_ROOT_KEY_FILE``, else ``valetkey/HOME_ID.key`` in the XDG configuration folder.
    """
    named = environ.get("VALETKEY_ROOT_KEY_FILE")
    if named:
        return Path(named)
    if not _HOME_ID.fullmatch(home_id):
        raise Invalid("A home's id has 1 to 64 letters, digits, - and _.", "Use the id in the home.")
    configuration = environ.get("XDG_CONFIG_HOME", "")
    # The specification says to ignore a relative path.
    folder = Path(configuration) if os.path.isabs(configuration) else _user_folder(environ) / ".config"
    return folder / "valetkey" / f"{home_id}.key"


def _user_folder(environ: Mapping[str, str]) -> Path:
    home = environ.get("HOME")
    return Path(home) if home else Path.home()


def encode_root_key(key: RootKey) -> bytes:
    """The text of a root key: ``vkroot1:ID:HEX`` and a newline. The id shows a damaged file."""
    return f"vkroot1:{key.id}:{key.reveal().hex()}\n".encode()


def decode_root_key(text: bytes, place: str) -> RootKey:
    """Read `encode_root_key`'s text. `place` says in the error where it was read."""
    match = _TEXT.fullmatch(text)
    key = RootKey(bytes.fromhex(match[2].decode())) if match else None
    if match is None or key is None or key.id != match[1].decode():
        raise RootKeyRefused(f"{place} holds no whole root key.", "Restore it from where you keep a copy.")
    return key


class FileRootKey:
    """The default: a file that only its owner can read, outside the data folder."""

    def __init__(self, path: Path, data_folder: Path | None = None) -> None:
        self.path = path
        if data_folder is not None and path.resolve().is_relative_to(data_folder.resolve()):
            raise RootKeyRefused(
                f"The root key {path} lies inside the data folder, where every backup would hold it.",
                "Move it elsewhere and name the place in VALETKEY_ROOT_KEY_FILE.",
            )

    def create(self, randbytes: RandomBytes = os.urandom) -> RootKey:
        """Draw a new root key and write it. Raises `RootKeyRefused` when there is a file already."""
        key = RootKey(randbytes(KEY_BYTES))
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_new(self.path, encode_root_key(key))
        return key

    def load(self) -> RootKey:
        """The key in the file."""
        return decode_root_key(_read_private(self.path), str(self.path))


class PassphraseKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept of a passphrase: salt and cost. No secret, but without it the passphrase is useless."""

    salt: bytes
    root_key_id: str
    version: int = 1
    time_cost: int = 3
    memory_kib: int = 65536
    """RFC 9106, second recommended option: 64 MiB, 3 passes, 4 lanes."""
    lanes: int = 4

    def derive(self, passphrase: PlainSecret) -> RootKey:
        """Argon2id over the passphrase."""
        from argon2.low_level import Type, hash_secret_raw  # a quarter of the start-up time, rarely needed

        raw = hash_secret_raw(
            passphrase.reveal(),
            self.salt,
            time_cost=self.time_cost,
            memory_cost=self.memory_kib,
            parallelism=self.lanes,
            hash_len=KEY_BYTES,
            type=Type.ID,
        )
        return RootKey(raw)


class PassphraseRootKey:
    """A root key that is derived from a passphrase each time; a file holds salt and cost."""

    def __init__(self, passphrase: PlainSecret, salt_file: Path) -> None:
        self._passphrase = passphrase
        self.salt_file = salt_file

    def create(self, randbytes: RandomBytes = os.urandom) -> RootKey:
        """Draw a salt, derive the key and write the salt file."""
        if not self._passphrase:
            raise RootKeyRefused("The passphrase is empty.", "Choose one of six or more random words.")
        salt = randbytes(16)
        key = PassphraseKey(salt, "").derive(self._passphrase)
        self.salt_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_new(self.salt_file, msgspec.json.encode(PassphraseKey(salt, key.id)) + b"\n")
        return key

    def load(self) -> RootKey:
        """The key of this passphrase. A wrong one is told from a damaged file by the recorded id."""
        try:
            kept = msgspec.json.decode(_read_private(self.salt_file), type=PassphraseKey)
        except msgspec.MsgspecError:
            kept = None
        # Bounds: a changed file must neither weaken the derivation nor fill the memory.
        if kept is None or not (
            kept.version == 1
            and len(kept.salt) >= 16
            and 3 <= kept.time_cost <= 64
            and 65536 <= kept.memory_kib <= 4 * 1024 * 1024
            and 1 <= kept.lanes <= 64
        ):
            raise RootKeyRefused(f"{self.salt_file} is damaged.", "Restore it from a backup.")
        key = kept.derive(self._passphrase)
        if key.id != kept.root_key_id:
            raise RootKeyRefused("The passphrase is not the one that was set.", "Try again.")
        return key


class CredentialRootKey:
    """A systemd credential: a file in ``CREDENTIALS_DIRECTORY``, which systemd keeps in locked memory."""

    def __init__(self, environ: Mapping[str, str], name: str = CREDENTIAL_NAME) -> None:
        self._folder = environ.get("CREDENTIALS_DIRECTORY")
        self._name = name

    @staticmethod
    def holds(path: Path, environ: Mapping[str, str]) -> bool:
        """Whether `path` is one of the credentials that systemd handed to this process."""
        folder = environ.get("CREDENTIALS_DIRECTORY")
        return bool(folder) and path.parent == Path(folder or "")

    def load(self) -> RootKey:
        """The key in the credential."""
        if not self._folder:
            raise RootKeyRefused(
                "CREDENTIALS_DIRECTORY is not set.",
                f"Start by systemd with LoadCredentialEncrypted={self._name}.",
            )
        place = f"The credential {self._name}"
        try:
            # systemd sets the access itself (0400, or an access list), so mode bits say nothing here.
            with open(Path(self._folder) / self._name, "rb") as file:
                text = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise RootKeyRefused(
                f"{place} cannot be read: {error.strerror}.", "Check the unit file."
            ) from None
        return decode_root_key(text, place)


class EnvironmentRootKey:
    """A root key in a variable, for containers that offer nothing better. Loading takes it out of there."""

    def __init__(self, environ: MutableMapping[str, str], name: str = VARIABLE_NAME) -> None:
        self._environ = environ
        self._name = name

    def load(self) -> RootKey:
        """The key in the variable, which is removed so that no child process inherits it."""
        text = self._environ.pop(self._name, None)
        if text is None:
            raise RootKeyRefused(f"{self._name} is not set.", "Set it, or use a root key file.")
        return decode_root_key(text.strip().encode("utf-8", "replace"), f"The variable {self._name}")


def _write_new(path: Path, content: bytes) -> None:
    """Write a file that must not exist yet: whole or not at all, 0600, on disk when this returns."""
    _check_folder(path.parent)
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(
            draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        try:
            os.write(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            os.link(draft, path)  # unlike a rename, this never replaces
        finally:
            os.unlink(draft)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError:
        raise RootKeyRefused(
            f"{path} exists already.", "Use it, or move it away if nothing is sealed under it."
        ) from None
    except OSError as error:
        raise RootKeyRefused(
            f"{path} cannot be written: {error.strerror}.", "Check the folder's owner and mode."
        ) from None


def _read_private(path: Path) -> bytes:
    """Read a small file that must be ours alone. The checks are made on the open file, not on its name."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        reason = "it is a symbolic link" if path.is_symlink() else error.strerror
        raise RootKeyRefused(
            f"{path} cannot be opened: {reason}.", "Restore it, or name another in VALETKEY_ROOT_KEY_FILE."
        ) from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise RootKeyRefused(f"{path} is not a regular file.", "Name the key file itself.")
        if found.st_uid != os.geteuid():
            raise RootKeyRefused(f"{path} belongs to another user.", "Run as that user, or copy the file.")
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise RootKeyRefused(f"Others than its owner may use {path}.", f"Run: chmod 600 '{path}'")
        _check_folder(path.parent)
        return os.read(descriptor, MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)


def _check_folder(folder: Path) -> None:
    """Whoever may write to the folder may put another key there."""
    try:
        found = os.stat(folder)
    except OSError as error:
        raise RootKeyRefused(
            f"The folder {folder} cannot be read: {error.strerror}.", "Check its owner and mode."
        ) from None
    if found.st_uid not in (os.geteuid(), 0):
        raise RootKeyRefused(f"The folder {folder} belongs to another user.", "Use a folder of your own.")
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise RootKeyRefused(f"Others than its owner may write to {folder}.", f"Run: chmod go-w '{folder}'")
