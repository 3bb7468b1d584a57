"""Counters of one process, in memory: what the rules of limits are tried with, without a server."""

from __future__ import annotations

import mmap
from threading import Lock

from valetkey.decision.address import Place
from valetkey.decision.call import Now
from valetkey.decision.counter_blocks import CounterBlocks
from valetkey.decision.counter_layout import BLOCK_CELLS, CELL, FIRST_BLOCK
from valetkey.decision.counter_slots import enlist
from valetkey.decision.reservation import LimitRefusal, Plan, Reserved


class LocalCounters:
    """Counters of one process, safe for its threads."""

    def __init__(self, *, address_key: bytes = b"local") -> None:
        """`address_key`: random where strangers are limited by address, so that none can aim at another."""
        self._lock = Lock()
        self._address_key = address_key
        self._blocks, self._capacity = self._grown(64)
        enlist(self._cells, 0, 1)

    def _grown(self, blocks: int, old: bytes = b"") -> tuple[CounterBlocks, int]:
        # Anonymous memory: pages that nobody touches cost nothing.
        memory = mmap.mmap(-1, (FIRST_BLOCK + blocks * BLOCK_CELLS) * CELL)
        memory[: len(old)] = old
        self._memory = memory
        self._cells = memoryview(memory).cast("Q")
        counted = CounterBlocks(self._cells, slot=0, generation=1, origin=0, address_key=self._address_key)
        return counted, blocks

    def _fit(self, plan: Plan) -> CounterBlocks:
        if plan.top >= self._capacity:
            self._blocks, self._capacity = self._grown(2 * plan.top, self._memory[:])
        return self._blocks

    def reserve(
        self, plan: Plan, cost_micros: int | None, now: Now, address: bytes | None = None, size: int = 0
    ) -> Reserved | LimitRefusal:
        """See `Counters`."""
        with self._lock:
            blocks = self._fit(plan)
            return blocks.reserve(plan, cost_micros, now, blocks.address_cells(plan, address), address, size)

    def peek(
        self, plan: Plan, cost_micros: int | None, now: Now, address: bytes | None = None, size: int = 0
    ) -> LimitRefusal | None:
        """See `Counters`."""
        with self._lock:
            blocks = self._fit(plan)
            return blocks.peek(plan, cost_micros, now, blocks.address_cells(plan, address), address, size)

    def pins(self, plan: Plan) -> tuple[tuple[bool, Place], ...]:
        """See `Counters`."""
        with self._lock:
            return self._fit(plan).pins(plan)

    def meter(self, reserved: Reserved, size: int, now: Now) -> LimitRefusal | None:
        """See `Counters`."""
        with self._lock:
            return self._blocks.meter(reserved, size, now.wall)

    def settle(
        self, reserved: Reserved, actual_micros: int | None = None, actual_bytes: int | None = None
    ) -> None:
        """See `Counters`."""
        with self._lock:
            self._blocks.settle(reserved, actual_micros, actual_bytes)

    def give_back(self, reserved: Reserved, now: Now) -> None:
        """See `Counters`."""
        with self._lock:
            self._blocks.give_back(reserved, now)
