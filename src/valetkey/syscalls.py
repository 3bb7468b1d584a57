"""System calls of a microsecond, made without giving up the interpreter's lock.

`os.write` and `fcntl.fcntl` release the lock around each call; where another thread waits for it, every
release is a hand-over and back: measured, four times the cost of the whole decision. These calls are for
regular files, free locks and resets only, where the kernel answers at once.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import sys
import termios

_libc = ctypes.PyDLL(None, use_errno=True)
_c_write = _libc.write
_c_write.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)
_c_write.restype = ctypes.c_ssize_t
_c_fcntl = _libc.fcntl
_c_fcntl.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_char_p)
_c_fcntl.restype = ctypes.c_int
_c_connect = _libc.connect
_c_connect.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_c_connect.restype = ctypes.c_int
_UNSPECIFIED = bytes(16)
"""A socket address of the family AF_UNSPEC."""
_SIOCOUTQNSD = 0x894B


def write(descriptor: int, data: bytes) -> int:
    """write(2): how many bytes were taken. Raises OSError."""
    written: int = _c_write(descriptor, data, len(data))
    if written < 0:
        number = ctypes.get_errno()
        if number == errno.EINTR:
            return os.write(descriptor, data)
        raise OSError(number, os.strerror(number))
    return written


def try_lock(descriptor: int, flock: bytes) -> bool:
    """Take a lock of the open file description (F_OFD_SETLK) if it is free. Raises OSError."""
    if _c_fcntl(descriptor, fcntl.F_OFD_SETLK, flock) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EAGAIN, errno.EACCES, errno.EINTR):
        return False
    raise OSError(number, os.strerror(number))


def unlock(descriptor: int, flock: bytes) -> None:
    """Give locks back. Raises OSError."""
    if _c_fcntl(descriptor, fcntl.F_OFD_SETLK, flock) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def reset(descriptor: int) -> None:
    """Reset a TCP connection now: RST to the other side, and whatever waits to be sent is dropped.

    connect(2) to AF_UNSPEC dissolves the association, which closing does only later and in the loop's own
    time. Raises OSError for what is no socket.
    """
    if _c_connect(descriptor, _UNSPECIFIED, len(_UNSPECIFIED)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def unsent(descriptor: int) -> int:
    """Bytes of a TCP connection that the other side has not acknowledged (SIOCOUTQ). 0 for what is no socket."""
    try:
        return int.from_bytes(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0


def untaken(descriptor: int) -> int:
    """Bytes of a TCP connection that could not be sent yet: the other side makes no room (SIOCOUTQNSD). Else 0."""
    try:
        return int.from_bytes(fcntl.ioctl(descriptor, _SIOCOUTQNSD, bytes(4)), sys.byteorder)
    except OSError:
        return 0
