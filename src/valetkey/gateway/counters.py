"""Limits shared by all processes of a machine: counters in one memory-mapped file under byte-range locks.

Locks are held for microseconds, in one order for all (blocks ascending, then cells of addresses, ascending), and
never across an await.
"""

from __future__ import annotations

from valetkey.decision import counter_keeping
from valetkey.decision.address import Place
from valetkey.decision.call import Now
from valetkey.decision.counter_layout import CELL
from valetkey.decision.counter_pins import pinned_to
from valetkey.decision.reservation import LimitRefusal, Plan, Reserved
from valetkey.gateway.counters_file import BLOCK_BYTES, FIRST_BYTE, CountersFile, byte_range


class SharedCounters(CountersFile):
    """What calls take from them; see `decision.reservation.Counters`."""

    def _hold(self, plan: Plan, address_cells: tuple[int, ...] = ()) -> None:
        """Take all locks of a plan. The caller frees them all, also those taken before an exception."""
        self._usable()
        locks = plan.locks
        if locks is None:
            locks = plan.locks = tuple(
                byte_range(FIRST_BYTE + first * BLOCK_BYTES, number * BLOCK_BYTES)
                for first, number in plan.spans
            )
        for lock in locks:
            self._take(lock)
        for cell in sorted(address_cells):
            self._take(byte_range(cell * CELL, CELL))

    def reserve(
        self, plan: Plan, cost_micros: int | None, now: Now, address: bytes | None = None, size: int = 0
    ) -> Reserved | LimitRefusal:
        """See `Counters`. Raises `CountersUnavailable` (answer NOT_READY), `NotEnlisted` (end the worker)."""
        if not plan.levels:
            return Reserved(plan, cost_micros or 0, now.monotonic, (), [])
        with self._threads:
            if plan.top >= self._capacity:
                self._reach(plan.top)
            blocks = self._blocks
            cells = blocks.address_cells(plan, address) if plan.checks.address_rates else ()
            try:
                self._hold(plan, cells)
                return blocks.reserve(plan, cost_micros, now, cells, address, size)
            finally:
                self._free()

    def peek(
        self, plan: Plan, cost_micros: int | None, now: Now, address: bytes | None = None, size: int = 0
    ) -> LimitRefusal | None:
        """See `Counters`."""
        with self._threads:
            if plan.top >= self._capacity:
                self._reach(plan.top)
            cells = self._blocks.address_cells(plan, address)
            try:
                self._hold(plan, cells)
                return self._blocks.peek(plan, cost_micros, now, cells, address, size)
            finally:
                self._free()

    def meter(self, reserved: Reserved, size: int, now: Now) -> LimitRefusal | None:
        """See `Counters`. Raises `CountersUnavailable`."""
        with self._threads:
            try:
                self._hold(reserved.metered)
                return self._blocks.meter(reserved, size, now.wall)
            finally:
                self._free()

    def follow(self, reserved: Reserved, plan: Plan, moved: int, now: Now) -> None:
        """The key has other limits of bytes, those of `plan`, while its call is open, which has moved so many so far.

        What it had charged beyond that is given back, and charged as it passes. Raises `CountersUnavailable`.
        """
        with self._threads:
            if plan.top >= self._capacity:
                self._reach(plan.top)
            try:
                self._hold(reserved.metered)
                self._blocks.settle_bytes(reserved, moved)
            finally:
                self._free()
            try:
                self._hold(plan)
                self._blocks.follow(reserved, plan, moved, now.wall)
            finally:
                self._free()

    def are_held(self, plan: Plan) -> bool:
        """Whether it is still to be counted what was used before at one of its limits of bytes. Without a lock."""
        with self._threads:
            self._usable()
            return self._blocks.are_held(plan)

    def settle(
        self, reserved: Reserved, actual_micros: int | None = None, actual_bytes: int | None = None
    ) -> None:
        """See `Counters`."""
        if reserved.followed is not None and reserved.open:
            self._settle_followed(reserved, reserved.size if actual_bytes is None else actual_bytes)
            actual_bytes = None
        checks = reserved.plan.checks
        corrects = checks.budgets and actual_micros is not None and actual_micros != reserved.cost_micros
        corrects = corrects or (checks.bytes and actual_bytes is not None and actual_bytes != reserved.size)
        if not corrects:
            # Open calls stand in a cell that this worker alone writes, in one store: no lock is needed to lower it.
            with self._threads:
                self._usable()
                self._blocks.settle(reserved, None)
            return
        with self._threads:
            try:
                self._hold(reserved.plan)
                self._blocks.settle(reserved, actual_micros, actual_bytes)
            finally:
                self._free()

    def _settle_followed(self, reserved: Reserved, actual_bytes: int | None) -> None:
        """`actual_bytes`: None for all that was charged given back."""
        with self._threads:
            try:
                self._hold(reserved.metered)
                if actual_bytes is None:
                    self._blocks.give_back_bytes(reserved)
                else:
                    self._blocks.settle_bytes(reserved, actual_bytes, last=True)
            finally:
                self._free()

    def give_back(self, reserved: Reserved, now: Now) -> None:
        """See `Counters`."""
        if reserved.followed is not None and reserved.open:
            self._settle_followed(reserved, None)
        if not reserved.plan.levels:
            reserved.open = False
            return
        with self._threads:
            try:
                self._hold(reserved.plan, reserved.address_cells)
                self._blocks.give_back(reserved, now)
            finally:
                self._free()

    def pins(self, plan: Plan) -> tuple[tuple[bool, Place], ...]:
        """See `Counters`. Without a lock: who is late is told by `reserve`."""
        with self._threads:
            if plan.top >= self._capacity:
                self._reach(plan.top)
            return self._blocks.pins(plan)

    def pinned(self, block: int) -> Place | None:
        """What the key with that block is pinned to."""
        with self._alone(block):
            return pinned_to(self._cells, block)

    def read(self, block: int) -> tuple[int, ...]:
        """All cells of a block, without a lock: each is whole, but they may be of different calls."""
        with self._threads:
            if block >= self._capacity:
                self._reach(block)
            return counter_keeping.read(self._cells, block)
