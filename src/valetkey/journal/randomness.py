"""Random bytes drawn from the system in blocks: one system call for hundreds of salts and call ids."""

from __future__ import annotations

import os
from collections.abc import Callable

BLOCK = 4096
"""Bytes drawn at once: 256 salts a system call, small enough to be no loss when a process ends."""


class RandomPool:
    """A stock of random bytes, each handed out once.

    One process only: after a fork both sides would hand out the same bytes, so make a new pool there.
    """

    __slots__ = ("_block", "_next", "_source")

    def __init__(self, source: Callable[[int], bytes] = os.urandom) -> None:
        self._source = source
        self._block = b""
        self._next = 0

    def take(self, size: int) -> bytes:
        """Return `size` (at most `BLOCK`) bytes that were never handed out before."""
        start = self._next
        end = start + size
        if end > len(self._block):
            if size > BLOCK:
                raise ValueError(f"at most {BLOCK} bytes can be taken at once")
            self._block = self._source(BLOCK)
            start, end = 0, size
        self._next = end
        return self._block[start:end]

    def __repr__(self) -> str:
        return "RandomPool(***)"
