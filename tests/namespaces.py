"""Runs the body of a test in a child with namespaces of its own: a disk as small as wanted, or no network.

The child is root where the tests are, and otherwise what the kernel lets an ordinary user be: in a user namespace.
Whatever it mounts is gone with it. Where the kernel refuses, the test is skipped, but fails on CI.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
MS_RDONLY, MS_REMOUNT, MS_REC, MS_PRIVATE = 1, 32, 0x4000, 1 << 18
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_REFUSED = b"refused: "
_libc = ctypes.CDLL(None, use_errno=True)


class NotAllowedError(Exception):
    """The kernel gives no namespace to this user."""


def mount(target: Path, flags: int, *, kind: str | None = None, options: str = "") -> None:
    """mount(2). Raises OSError."""
    source = None if kind is None else kind.encode()
    if _libc.mount(source, os.fsencode(target), source, ctypes.c_ulong(flags), options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def small_disk(folder: Path, size: int) -> None:
    """A disk of `size` bytes in memory at `folder`; in a child of `with_own_mounts` only."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    mount(folder, 0, kind="tmpfs", options=f"size={size},mode=700,uid={os.getuid()}")


def set_read_only(folder: Path, read_only: bool) -> None:
    """Make the disk at `folder` read-only, or writable again. Raises OSError while a file is open for writing."""
    mount(folder, MS_REMOUNT | (MS_RDONLY if read_only else 0))


def with_own_mounts(body: Callable[[], None]) -> None:
    """Run `body` where it may mount what it likes."""

    def enter() -> None:
        _unshare(CLONE_NEWNS)
        mount(Path("/"), MS_REC | MS_PRIVATE)

    _in_child(enter, body)


def without_network(body: Callable[[], None]) -> None:
    """Run `body` where there is no network but loopback."""

    def enter() -> None:
        _unshare(CLONE_NEWNET)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            asked = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
            (flags,) = struct.unpack_from("H", asked, 16)
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))

    _in_child(enter, body)


def _unshare(what: int) -> None:
    user, group = os.geteuid(), os.getegid()
    if user != 0:
        what |= CLONE_NEWUSER
    if _libc.unshare(what):
        raise NotAllowedError(os.strerror(ctypes.get_errno()))
    if user != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def _in_child(enter: Callable[[], None], body: Callable[[], None]) -> None:
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reader)
        said = b""
        try:
            try:
                enter()
            except (NotAllowedError, PermissionError) as refused:
                said = _REFUSED + str(refused).encode()
            else:
                body()
        except BaseException:
            said = traceback.format_exc().encode()
        finally:
            sys.stderr.flush()
            os.write(writer, said[-60_000:])
            os._exit(0)
    os.close(writer)
    try:
        with os.fdopen(reader, "rb") as pipe:
            said = pipe.read()
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        os.waitpid(child, 0)
    if said.startswith(_REFUSED):
        why = f"No namespace of one's own here: {said.removeprefix(_REFUSED).decode()}"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    assert not said, said.decode()
