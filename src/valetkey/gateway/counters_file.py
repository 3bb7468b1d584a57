"""The file of counters that all processes of a machine map: opened, grown, locked, told from others.

The locks belong to the open file description, so the kernel frees them when a process dies at any point, and
every cell is stored whole: no repair is ever needed.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Final, Self
from weakref import WeakSet

import msgspec

from valetkey import syscalls
from valetkey.decision.counter_blocks import CounterBlocks
from valetkey.decision.counter_layout import (
    BLOCK_CELLS,
    CELL,
    FIRST_BLOCK,
    HEADER_CELLS,
    LIVE,
    MAX_BLOCKS,
    SLOTS,
)

MAGIC: Final = int.from_bytes(b"valetkey", "little")
"""Written last when a file is made; in the machine's byte order, so that another's is refused."""
VERSION: Final = 1
BLOCKS_AT_ONCE: Final = 1000
"""So many are gone through before other threads of the process have their turn."""
GROWTH_BLOCKS: Final = 4096
"""A file grows by 1 MiB: 4,096 subjects, so that growing is rare and its cost is not felt."""

TRIES_BEFORE_SLEEP: Final = 8
"""Locks are held for some 3 microseconds, sleeping and waking takes 100 (measured): so first ask again."""

# Cells of the header before `LIVE`.
_MAGIC, _VERSION, _BOOT, _ORIGIN, LIFTED, ACCEPTED, _ADDRESS_KEY = 0, 1, 2, 4, 5, 6, 8
BLOCK_BYTES: Final = BLOCK_CELLS * CELL
FIRST_BYTE: Final = FIRST_BLOCK * CELL
_FLOCK: Final = struct.Struct("hhqqi4x")
"""struct flock of 64-bit Linux."""
HEADER_LOCK: Final = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, HEADER_CELLS * CELL, 0)
_FREE_ALL: Final = _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0)
"""One call gives up whatever this process holds of the file."""
_LOCK: Final = fcntl.F_OFD_SETLKW


class CountersUnavailable(RuntimeError):
    """The counters cannot be used, so no call with limits can be judged. The message says what to do."""


class Boot(msgspec.Struct, frozen=True):
    """One run of the machine. Its monotonic clock starts anew, so times of another run need its origin."""

    id: bytes
    """16 bytes."""
    origin: int
    """Nanoseconds from the epoch to the zero of CLOCK_MONOTONIC, as the wall clock says now."""


def this_boot() -> Boot:
    """The current run of the machine."""
    text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    return Boot(bytes.fromhex(text.strip().replace("-", "")), time.time_ns() - time.monotonic_ns())


class CountersFile:
    """One process's opening of it. Safe for threads; a child after fork must open its own."""

    def __init__(self, descriptor: int, slot: int | None, generation: int) -> None:
        """Use `open`."""
        self._descriptor = descriptor
        found = os.fstat(descriptor)
        self.identity = found.st_dev, found.st_ino
        """Which file it is, whatever becomes of its name: device and inode."""
        self._slot = slot
        self._generation = generation
        self._threads = Lock()  # locks of the file do not exclude threads that share its description
        self._capacity = 0
        self._memory: mmap.mmap | None = None
        self._cells = memoryview(b"")
        self._blocks: CounterBlocks
        _opened.add(self)

    @classmethod
    def open(
        cls,
        path: Path,
        slot: int | None = None,
        generation: int = 0,
        *,
        boot: Boot | None = None,
        make: bool = True,
    ) -> Self:
        """Open the file, or `make` it (0600). Without a slot it may do everything but hold open calls.

        Whoever starts workers enlists their slots first. Raises `CountersUnavailable` for a file that is not
        there, not ours or of another version, and where the disk is full.
        """
        boot = boot or this_boot()
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if make else 0)
        try:
            descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise CountersUnavailable(f"The counters {path} cannot be opened: {error.strerror}.") from error
        counters = cls(descriptor, slot, generation)
        try:
            with counters._held(HEADER_LOCK):
                if os.pread(descriptor, CELL, 0) not in (
                    b"",
                    bytes(CELL),
                    MAGIC.to_bytes(CELL, sys.byteorder),
                ):
                    raise CountersUnavailable(f"{path} holds no counters. Move it away and start again.")
                counters._extend(GROWTH_BLOCKS)
                counters._map()
                counters._begin(boot)
        except BaseException:
            counters.close()
            raise
        return counters

    def _begin(self, boot: Boot) -> None:
        """Fill in a new header; on the first opening after a boot, forget the workers of before."""
        cells = self._cells
        if cells[_MAGIC] == 0:
            cells[_VERSION] = VERSION
            for cell in (_ADDRESS_KEY, _ADDRESS_KEY + 1):
                cells[cell] = int.from_bytes(os.urandom(CELL), "little")
            cells[_MAGIC] = MAGIC
        if cells[_MAGIC] != MAGIC or cells[_VERSION] != VERSION:
            raise CountersUnavailable(
                "The counters are of another version. Move the file away; the journal fills a new one."
            )
        identity = [int.from_bytes(boot.id[:CELL], "little"), int.from_bytes(boot.id[CELL:], "little")]
        if [cells[_BOOT], cells[_BOOT + 1]] != identity:
            for slot in range(LIVE, LIVE + SLOTS):
                cells[slot] &= ~1
            cells[_ORIGIN] = boot.origin
            cells[LIFTED] = 0
            cells[_BOOT], cells[_BOOT + 1] = identity  # last: if we die before, the next one does it again
        self._look()

    def _extend(self, blocks: int) -> None:
        """Make room for that many blocks. Not sparse: a full disk is an error here, not a SIGBUS later."""
        size = os.fstat(self._descriptor).st_size
        wanted = FIRST_BYTE + blocks * BLOCK_BYTES
        if size < wanted:
            try:
                os.posix_fallocate(self._descriptor, size, wanted - size)
            except OSError as error:
                raise CountersUnavailable(
                    f"The counters cannot grow: {error.strerror}. Free space on the disk of the data folder."
                ) from error

    def _map(self) -> None:
        size = os.fstat(self._descriptor).st_size
        self._unmap()
        self._memory = mmap.mmap(self._descriptor, size)
        self._cells = memoryview(self._memory).cast("Q")
        self._capacity = (size - FIRST_BYTE) // BLOCK_BYTES

    def _unmap(self) -> None:
        self._capacity = -1  # so that even a plan without blocks looks again
        self._cells.release()
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    def _look(self) -> None:
        self._blocks = CounterBlocks(
            self._cells,
            slot=self._slot,
            generation=self._generation,
            origin=self._cells[_ORIGIN],
            address_key=bytes(self._cells[_ADDRESS_KEY : _ADDRESS_KEY + 2]),
        )

    def _reach(self, block: int) -> None:
        """Grow file and mapping until `block` is within."""
        self._usable()
        if not 0 <= block < MAX_BLOCKS:
            raise ValueError(f"There is no block of counters {block}.")
        with self._held(HEADER_LOCK):
            self._extend((block // GROWTH_BLOCKS + 1) * GROWTH_BLOCKS)
        self._map()
        self._look()

    def _usable(self) -> None:
        if self._descriptor < 0:
            raise CountersUnavailable("These counters are closed. Open them anew in this process.")

    @contextmanager
    def _held(self, lock: bytes) -> Iterator[None]:
        self._usable()
        try:
            fcntl.fcntl(self._descriptor, _LOCK, lock)
            yield
        finally:
            self._free()

    def _free(self) -> None:
        """Give up every lock of this process with one call."""
        if self._descriptor >= 0:
            syscalls.unlock(self._descriptor, _FREE_ALL)

    def _take(self, lock: bytes) -> None:
        for _ in range(TRIES_BEFORE_SLEEP):
            if syscalls.try_lock(self._descriptor, lock):
                return
        fcntl.fcntl(self._descriptor, _LOCK, lock)

    @contextmanager
    def _alone(self, block: int) -> Iterator[None]:
        with self._threads:
            if block >= self._capacity:
                self._reach(block)
            with self._held(byte_range(FIRST_BYTE + block * BLOCK_BYTES, BLOCK_BYTES)):
                yield

    def _look_anew(self) -> None:
        """Another process may have made the file grow."""
        self._usable()
        self._map()
        self._look()

    def stand_at(self, path: Path) -> bool:
        """Whether the file of that name is this one: removed or replaced, others would count elsewhere."""
        try:
            found = path.stat(follow_symlinks=False)
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == self.identity

    def close(self) -> None:
        """Give up file and memory. Twice is once."""
        with self._threads:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
            self._unmap()

    def _forget(self) -> None:
        """In a child after fork: its copy of the description would share the parent's locks."""
        self._threads = Lock()
        self.close()


def byte_range(start: int, length: int) -> bytes:
    return _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)


_opened: WeakSet[CountersFile] = WeakSet()


def _forget_all() -> None:
    for counters in list(_opened):
        counters._forget()


os.register_at_fork(after_in_child=_forget_all)
