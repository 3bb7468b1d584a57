"""How much of the disk calls may fill: the rest is held back for closing records, revokes and audit."""

from __future__ import annotations

import os
from pathlib import Path

HELD_BACK = 0.05
"""Share of the disk that calls may not fill."""
HELD_BACK_MOST = 2 << 30
"""Bytes; 5 % of a large disk would refuse calls while terabytes are free, and 2 GiB take a minute and a half
to fill even at 30,000 records a second."""
INTERVAL_NS = 200_000_000
"""The disk is asked at most this often: at full speed some 5 MB can be written in between."""


def free_and_held_back(path: Path) -> tuple[int, int]:
    """Bytes that are free on the disk of `path`, and bytes that calls may not fill. Raises OSError."""
    disk = os.statvfs(path)
    held_back = min(disk.f_blocks * disk.f_frsize * HELD_BACK, HELD_BACK_MOST)
    return disk.f_bavail * disk.f_frsize, int(held_back)


def enough_room(path: Path) -> bool:
    """Whether calls may still be recorded on the disk of `path`."""
    free, held_back = free_and_held_back(path)
    return free >= held_back


class Room:
    """`enough_room`, asked at most once in `INTERVAL_NS`. A disk that cannot be asked has no room."""

    __slots__ = ("_asked", "_enough", "_path")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._asked: int | None = None
        self._enough = False

    def enough(self, monotonic: int) -> bool:
        """Whether there is room; `monotonic` in nanoseconds."""
        if self._asked is None or monotonic - self._asked >= INTERVAL_NS:
            self._asked = monotonic
            try:
                self._enough = enough_room(self._path)
            except OSError:
                self._enough = False
        return self._enough
