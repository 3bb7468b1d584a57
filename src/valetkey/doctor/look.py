"""Looking at one machine: what stat(2), statvfs(2), adjtimex(2), /proc and a certificate's file say. No judgement."""

from __future__ import annotations

import ctypes
import os
import resource
import stat
from collections.abc import Iterator
from datetime import UTC
from fnmatch import fnmatch
from pathlib import Path

from valetkey.doctor.facts import CertificateFacts, MachineFacts, Place, ProcessFacts
from valetkey.journal.disk import free_and_held_back

MOST_PARTS = 20_000
"""Files of a data folder that are looked at: years of segments."""
SMALL = 1024
"""Bytes; a root key's file has 89."""
ROOT_KEY_BEGINS = b"vkroot1:"
UNIT_FOLDERS = ("/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")
"""Where unit files lie that were put there by hand or by a package."""
BACKUP_NAMES = ("*.tar", "*.tar.*", "*.tgz", "*.zip", "*.bak", "*.old", "*.dump", "*.sql", "*.db.*", "*~")
_CONNECTED = "03"
"""State of a connected socket in /proc/net/unix."""
_PR_GET_DUMPABLE = 3
_TIMEX_BYTES = 512
"""More than the kernel's struct timex has."""
_TIMEX_STATUS = 40
"""Offset of `status` in it, on machines with 64 bits."""
_STA_UNSYNC = 0x0040


def place(path: Path) -> Place | None:
    """What stat(2) says; None where there is nothing, or nothing that may be looked at."""
    try:
        seen = path.lstat()
    except OSError:
        return None
    if stat.S_ISLNK(seen.st_mode):
        try:
            seen = path.stat()
        except OSError:
            return None
    return Place(
        str(path),
        stat.S_IMODE(seen.st_mode),
        seen.st_uid,
        seen.st_dev,
        stat.S_ISDIR(seen.st_mode),
        stat.S_ISSOCK(seen.st_mode),
    )


def parts(folder: Path) -> tuple[Place, ...]:
    """All that lies in a folder, at any depth, up to `MOST_PARTS`."""
    found = []
    for path in _walk(folder):
        seen = place(path)
        if seen is not None:
            found.append(seen)
        if len(found) >= MOST_PARTS:
            break
    return tuple(found)


def root_key_copies(seen: tuple[Place, ...], real: Path) -> tuple[str, ...]:
    """Small files that begin as a root key does, but for the real one."""
    found = []
    for one in seen:
        path = Path(one.path)
        if one.folder or one.socket or path.resolve() == real.resolve():
            continue
        try:
            if path.stat().st_size <= SMALL and path.read_bytes().startswith(ROOT_KEY_BEGINS):
                found.append(one.path)
        except OSError:
            continue
    return tuple(found)


def backups(seen: tuple[Place, ...]) -> tuple[str, ...]:
    """Files whose name says that they are a backup."""
    named = (one.path for one in seen if not one.socket)
    return tuple(path for path in named if any(fnmatch(Path(path).name, name) for name in BACKUP_NAMES))


def sessions(socket: Path) -> int | None:
    """Connections that a Unix socket has accepted and not closed; None where the kernel does not tell."""
    try:
        lines = Path("/proc/net/unix").read_text("utf-8", "replace").splitlines()[1:]
    except OSError:
        return None
    fields = (line.split(None, 7) for line in lines)
    return sum(1 for one in fields if len(one) == 8 and one[7] == str(socket) and one[5] == _CONNECTED)


def machine(folder: Path, wall: float, newest_record: float | None) -> MachineFacts:
    """Clock and disk."""
    free: int | None
    try:
        free, held_back = free_and_held_back(folder)
    except OSError:
        free, held_back = None, 0
    return MachineFacts(wall, newest_record, synchronised(), free, held_back)


def synchronised() -> bool | None:
    """Whether something sets the clock right, as far as the kernel knows; None where it does not tell."""
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
    try:
        answer = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    except (OSError, AttributeError):
        return None
    if answer < 0:
        return None
    return not int.from_bytes(buffer.raw[_TIMEX_STATUS : _TIMEX_STATUS + 4], "little") & _STA_UNSYNC


def own_process() -> ProcessFacts:
    """How this process runs, which is the server's."""
    limit = resource.getrlimit(resource.RLIMIT_CORE)[0]
    dumpable = ctypes.CDLL(None, use_errno=True).prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)
    return ProcessFacts(os.geteuid(), limit, dumpable == 1, ptrace_scope(), unit())


def unit() -> bool:
    """Whether the unit file is installed."""
    return any(Path(folder, "valetkey.service").exists() for folder in UNIT_FOLDERS)


def ptrace_scope() -> int | None:
    """Who may attach to whom; None where the kernel has no such rule."""
    try:
        return int(Path("/proc/sys/kernel/yama/ptrace_scope").read_text("ascii"))
    except (OSError, ValueError):
        return None


def certificate(path: Path, key: Path | None) -> CertificateFacts:
    """What a certificate's file says."""
    from cryptography import x509

    try:
        shown = x509.load_pem_x509_certificates(path.read_bytes())[0]
    except OSError as error:
        return CertificateFacts(str(path), problem=error.strerror or "it cannot be read")
    except ValueError:
        return CertificateFacts(str(path), problem="it holds no certificate in PEM form")
    key_place = None if key is None else place(key)
    if key is not None and key_place is None:
        return CertificateFacts(str(path), problem=f"its key {key} cannot be found")
    try:
        extension = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = (
            *extension.get_values_for_type(x509.DNSName),
            *map(str, extension.get_values_for_type(x509.IPAddress)),
        )
    except x509.ExtensionNotFound:
        names = ()
    return CertificateFacts(
        str(path),
        begins=shown.not_valid_before_utc.astimezone(UTC).timestamp(),
        ends=shown.not_valid_after_utc.astimezone(UTC).timestamp(),
        names=names,
        key=key_place,
    )


def _walk(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders.sort()
        yield from (Path(here) / name for name in (*folders, *sorted(files)))
