"""Runs a command under the restrictions of deploy/valetkey.service, as far as the kernel gives them without systemd.

``python confined.py UNIT WRITABLE COMMAND…``, as root: everything but WRITABLE read-only, no capability, no new
privileges, no core file, no memory that can be written and run, the unit's system calls and address families only.
"""

from __future__ import annotations

import configparser
import ctypes
import errno
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

PR_SET_NO_NEW_PRIVS = 38
PR_CAPBSET_DROP = 24
PR_SET_MDWE = 65
SCMP_ACT_ALLOW = 0x7FFF0000
SCMP_ACT_ERRNO = 0x00050000
SCMP_CMP_EQ = 4
UNKNOWN = -1
"""What libseccomp answers for a name that this machine does not have."""
MS_REC, MS_PRIVATE, MS_BIND, MS_REMOUNT, MS_RDONLY = 0x4000, 1 << 18, 0x1000, 32, 1


class Comparison(ctypes.Structure):
    """``struct scmp_arg_cmp``."""

    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    ]


class _Repeated(dict):  # type: ignore[type-arg]
    """Keeps all values of a name that stands more than once in a section."""

    def __setitem__(self, name: str, value: object) -> None:
        if isinstance(value, list) and isinstance(self.get(name), list):
            self[name].extend(value)
        else:
            super().__setitem__(name, value)


def settings_of(unit: Path) -> dict[str, list[str]]:
    """The settings of the [Service] section; a name that stands several times has several values."""
    parser = configparser.RawConfigParser(strict=False, dict_type=_Repeated, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(unit)
    return {name: str(value).split("\n") for name, value in parser["Service"].items()}


def system_calls(filters: list[str]) -> set[str]:
    """The calls that lines of ``SystemCallFilter=`` allow, the sets of systemd resolved."""
    allowed: set[str] = set()
    for line in filters:
        names = expanded(line.removeprefix("~").split())
        allowed = allowed - names if line.startswith("~") else allowed | names
    # What systemd adds by itself, so that a process can start at all.
    return allowed | expanded(["@default"]) | {"execve"}


def expanded(names: list[str]) -> set[str]:
    """Names with sets of systemd replaced by what is in them."""
    found: set[str] = set()
    for name in names:
        if not name.startswith("@"):
            found.add(name)
            continue
        listed = subprocess.run(
            ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True
        )
        inner = [line.strip() for line in listed.stdout.splitlines()[1:]]
        found |= expanded([one for one in inner if one and not one.startswith("#")])
    return found


def filter_calls(allowed: set[str], families: list[int]) -> None:
    """Load the filter (seccomp(2)). What it does not allow fails with EPERM."""
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(SCMP_ACT_ERRNO | errno.EPERM))
    for name in sorted(allowed - {"socket"}):
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number != UNKNOWN:
            library.seccomp_rule_add_array(context, ctypes.c_uint32(SCMP_ACT_ALLOW), number, 0, None)
    number = library.seccomp_syscall_resolve_name(b"socket")
    for family in families:
        only = Comparison(0, SCMP_CMP_EQ, family, 0)
        done = library.seccomp_rule_add_array(
            context, ctypes.c_uint32(SCMP_ACT_ALLOW), number, 1, ctypes.byref(only)
        )
        assert done == 0
    done = library.seccomp_load(context)
    if done:
        raise OSError(-done, "seccomp_load")


def read_only_but(writable: Path) -> None:
    """In a mount namespace of its own, nothing can be written but one folder."""
    libc = ctypes.CDLL(None, use_errno=True)

    def mount(source: bytes | None, target: bytes, flags: int) -> None:
        if libc.mount(source, target, None, ctypes.c_ulong(flags), None):
            raise OSError(ctypes.get_errno(), f"mount {target.decode()}")

    if libc.unshare(0x00020000):  # CLONE_NEWNS
        raise OSError(ctypes.get_errno(), "unshare")
    mount(None, b"/", MS_REC | MS_PRIVATE)
    folder = os.fsencode(writable)
    mount(folder, folder, MS_BIND)
    mount(None, b"/", MS_BIND | MS_REMOUNT | MS_RDONLY)


def confine(unit: Path, writable: Path) -> None:
    """Put the restrictions on this process. Raises OSError where the kernel gives one of them not."""
    settings = settings_of(unit)
    calls = system_calls(settings["SystemCallFilter"])
    families = [getattr(socket, name) for name in settings["RestrictAddressFamilies"][0].split()]
    libc = ctypes.CDLL(None, use_errno=True)
    read_only_but(writable)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for capability in range(last + 1):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    if settings["MemoryDenyWriteExecute"] == ["yes"] and libc.prctl(PR_SET_MDWE, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "memory-deny-write-execute")
    filter_calls(calls, families)


if __name__ == "__main__":
    confine(Path(sys.argv[1]), Path(sys.argv[2]))
    os.execvp(sys.argv[3], sys.argv[3:])  # without capabilities: the bounding set is empty
