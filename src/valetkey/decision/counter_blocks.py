"""The arithmetic of reservations over one buffer, without locks or files.

`LocalCounters` keeps such a buffer in memory for one process, `gateway/counters.py` one in a file for all
workers of a machine. What is done outside calls stands in `counter_keeping.py` and `counter_slots.py`.
"""

from __future__ import annotations

from hashlib import blake2b

from valetkey.decision.address import Place
from valetkey.decision.call import Now
from valetkey.decision.codes import Code
from valetkey.decision.counter_bytes import (
    are_held,
    charged_before,
    check_bytes,
    follow_bytes,
    give_back_bytes,
    leave_to_record,
    meter,
    settle_bytes,
)
from valetkey.decision.counter_keeping import cell_is_held
from valetkey.decision.counter_layout import (
    ADDRESS_CELLS,
    COUNT_MASK,
    HEADER_CELLS,
    LIVE,
    OPEN_CALLS,
    RATE,
    SLOTS,
    USES,
)
from valetkey.decision.counter_pins import check_pins, pins_of
from valetkey.decision.limits import AMOUNT_BITS, AMOUNT_MASK, MOST_AMOUNT, carried, window_numbers
from valetkey.decision.reservation import (
    BeingCounted,
    LimitRefusal,
    Plan,
    Reserved,
    over_budget,
    over_quota,
    too_fast,
    too_many_open,
    used_up,
)


class NotEnlisted(RuntimeError):
    """This worker's slot was given to another: whatever it counts would not be seen. It must end."""


def _not_held(offset: int, value: int) -> None:
    if cell_is_held(offset, value):
        raise BeingCounted


class CounterBlocks:
    """The arithmetic of reservations over one buffer. The caller holds whatever locks the buffer needs."""

    def __init__(
        self, cells: memoryview, *, slot: int | None, generation: int, origin: int, address_key: bytes
    ) -> None:
        """`cells`: the whole buffer, cast to ``Q``. `origin`: nanoseconds that make boots comparable."""
        self._cells = cells
        self._slot = slot
        self._generation = generation
        self._origin = origin
        self._address_hash = blake2b(key=address_key, digest_size=8)
        self._live_seen = b""
        self._live: tuple[tuple[int, int], ...] = ()

    def address_cells(self, plan: Plan, address: bytes | None) -> tuple[int, ...]:
        """Cells of this address's rates, ascending by level. Calls of unknown address share one rate.

        Two addresses that fall on one cell share the slower rate; without the key nobody can foresee who.
        """
        place = b"" if address is None else address if len(address) == 4 else address[:8]
        cells = []
        for level, interval, _ in plan.checks.address_rates:
            digest = self._address_hash.copy()
            # The interval is part of it, so that a changed rate does not inherit the times of the old one.
            digest.update(b"%d %d " % (plan.bases[level], interval) + place)
            cells.append(HEADER_CELLS + int.from_bytes(digest.digest(), "little") % ADDRESS_CELLS)
        return tuple(cells)

    def reserve(
        self,
        plan: Plan,
        cost_micros: int | None,
        now: Now,
        address_cells: tuple[int, ...] = (),
        address: bytes | None = None,
        size: int = 0,
    ) -> Reserved | LimitRefusal:
        """Check all, then write all.

        Raises `NotEnlisted` if this worker's slot is no longer its own, and `BeingCounted`.
        """
        if cost_micros is not None and cost_micros < 0:
            raise ValueError("A cost cannot be negative. Reserve the worst case of the call.")
        if plan.checks.concurrency:
            self._look_who_lives()
            if (self._slot, self._generation) not in self._live:
                raise NotEnlisted(f"Worker slot {self._slot} is not this worker's. Start the worker anew.")
        targets: list[int] = []
        values: list[int] = []
        pinned: tuple[int, ...] = ()
        if plan.checks.sticky:
            found = check_pins(self._cells, plan, address, targets, values)
            if isinstance(found, LimitRefusal):
                return found
            pinned = found
        refusal = self._check(plan, cost_micros, size, now, address_cells, targets, values)
        cells = self._cells
        if refusal is not None:
            if refusal.code is Code.RATE_LIMITED:
                self._lower(plan, now)
            return refusal
        for target, value in zip(targets, values, strict=True):
            cells[target] = value
        charged = charged_before(plan, size, values) if plan.checks.bytes else []
        return Reserved(
            plan,
            cost_micros or 0,
            now.monotonic,
            address_cells,
            values,
            pinned=pinned,
            size=size,
            charged=charged,
        )

    def peek(
        self,
        plan: Plan,
        cost_micros: int | None,
        now: Now,
        address_cells: tuple[int, ...] = (),
        address: bytes | None = None,
        size: int = 0,
    ) -> LimitRefusal | None:
        """The checks of `reserve` without any writing."""
        self._look_who_lives()
        found = check_pins(self._cells, plan, address, [], [])
        if isinstance(found, LimitRefusal):
            return found
        return self._check(plan, cost_micros, size, now, address_cells, [], [])

    def _check(
        self,
        plan: Plan,
        cost: int | None,
        size: int,
        now: Now,
        address_cells: tuple[int, ...],
        targets: list[int],
        values: list[int],
    ) -> LimitRefusal | None:
        """Fill `targets` and `values` with what is to be written, or say which limit refuses."""
        cells, checks, bases = self._cells, plan.checks, plan.bases
        for level, limit in checks.uses:
            cell = bases[level] + USES
            value = cells[cell]
            if value >= limit:
                _not_held(USES, value)
                return used_up(plan.levels[level])
            targets.append(cell)
            values.append(value + 1)
        if checks.rates or checks.address_rates:
            clock = now.monotonic + self._origin
            for level, interval, tolerance in checks.rates:
                cell = bases[level] + RATE
                value = cells[cell]
                ahead = value - clock
                if ahead > tolerance:
                    # No call puts it further ahead than tolerance + interval. If it is, it comes from a wider
                    # limit of before or from a clock set back, and counts as full.
                    return too_fast(plan.levels[level], min(ahead, tolerance + interval) - tolerance)
                targets.append(cell)
                values.append((value if ahead > 0 else clock) + interval)
            for cell, (level, interval, tolerance) in zip(address_cells, checks.address_rates, strict=True):
                value = cells[cell]
                ahead = value - clock
                if ahead > tolerance:
                    return too_fast(plan.levels[level], ahead - tolerance, from_address=True)
                targets.append(cell)
                values.append((value if ahead > 0 else clock) + interval)
        if checks.concurrency:
            slot, generation = self._slot or 0, self._generation
            for level, limit in checks.concurrency:
                base = bases[level] + OPEN_CALLS
                open_calls = own = 0
                for other, live_generation in self._live:
                    value = cells[base + other]
                    if value >> 32 == live_generation:
                        open_calls += value & COUNT_MASK
                        if other == slot:
                            own = value & COUNT_MASK
                if open_calls >= limit:
                    return too_many_open(plan.levels[level])
                targets.append(base + slot)
                values.append(generation << 32 | own + 1)
        if checks.quotas or checks.bytes or checks.budgets:
            windows = window_numbers(now.wall)
            for level, offset, window, limit in checks.quotas:
                cell = bases[level] + offset
                value = carried(cells[cell], windows[window])
                if value & AMOUNT_MASK >= limit:
                    _not_held(offset, value)
                    return over_quota(plan.levels[level], window)
                targets.append(cell)
                values.append(value + 1)
            if checks.bytes:
                refusal = check_bytes(cells, plan, size, now.wall, targets, values)
                if refusal is not None:
                    return refusal
            for level, offset, window, limit in checks.budgets:
                cell = bases[level] + offset
                value = carried(cells[cell], windows[window])
                if cost is None or (value & AMOUNT_MASK) + cost > limit:
                    _not_held(offset, value)
                    return over_budget(plan.levels[level], window, cost)
                targets.append(cell)
                values.append(value + cost)
        return None

    def pins(self, plan: Plan) -> tuple[tuple[bool, Place], ...]:
        """See `Counters`."""
        return pins_of(self._cells, plan)

    def _look_who_lives(self) -> None:
        seen = bytes(self._cells[LIVE : LIVE + SLOTS])
        if seen != self._live_seen:
            table = enumerate(self._cells[LIVE : LIVE + SLOTS])
            self._live = tuple((slot, value >> 32) for slot, value in table if value & 1)
            self._live_seen = seen

    def _lower(self, plan: Plan, now: Now) -> None:
        """Write down what `_check` took for full, so that waiting helps. Nobody gains a call by it."""
        clock = now.monotonic + self._origin
        for level, interval, tolerance in plan.checks.rates:
            cell = plan.bases[level] + RATE
            self._cells[cell] = min(self._cells[cell], clock + tolerance + interval)

    def meter(self, reserved: Reserved, size: int, wall: float) -> LimitRefusal | None:
        """See `Counters`."""
        return meter(self._cells, reserved, size, wall)

    def are_held(self, plan: Plan) -> bool:
        """Whether it is still to be counted what was used before at one of its limits of bytes."""
        return are_held(self._cells, plan)

    def follow(self, reserved: Reserved, plan: Plan, moved: int, wall: float) -> None:
        """See `counter_bytes.follow_bytes`."""
        follow_bytes(self._cells, reserved, plan, moved, wall)

    def settle_bytes(self, reserved: Reserved, actual: int, *, last: bool = False) -> None:
        """See `counter_bytes.settle_bytes`; `last`: the call has ended."""
        settle_bytes(self._cells, reserved, actual)
        if last:
            leave_to_record(self._cells, reserved)

    def give_back_bytes(self, reserved: Reserved) -> None:
        """See `counter_bytes.give_back_bytes`."""
        give_back_bytes(self._cells, reserved)

    def settle(
        self, reserved: Reserved, actual_micros: int | None = None, actual_bytes: int | None = None
    ) -> None:
        """Free what was held, correct the budgets to what the call cost (below 0 counts as 0), and the bytes."""
        if not reserved.open:
            return
        reserved.open = False
        self._close_calls(reserved.plan)
        if actual_micros is not None and actual_micros != reserved.cost_micros:
            checks = reserved.plan.checks
            first = len(reserved.values) - len(checks.budgets)
            self._correct(reserved, checks.budgets, first, max(actual_micros, 0) - reserved.cost_micros)
        if actual_bytes is not None:
            self.settle_bytes(reserved, actual_bytes)

    def give_back(self, reserved: Reserved, now: Now) -> None:
        """Undo all of it. Of a rate, what may have come back by itself meanwhile is not given twice.

        A call's place in the bucket drains within one interval, at the earliest from its arrival on. Only what
        is surely left of it is returned, or a call given back late would let one too many through.
        """
        if not reserved.open:
            return
        reserved.open = False
        plan, cells = reserved.plan, self._cells
        checks, bases = plan.checks, plan.bases
        for level, _ in checks.uses:
            cell = bases[level] + USES
            cells[cell] = max(cells[cell] - 1, 0)
        waited = max(now.monotonic - reserved.at, 0)
        spent = [(bases[level] + RATE, interval) for level, interval, _ in checks.rates]
        own = zip(reserved.address_cells, checks.address_rates, strict=True)
        spent += [(cell, interval) for cell, (_, interval, _) in own]
        for cell, interval in spent:
            cells[cell] = max(cells[cell] - max(interval - waited, 0), 0)
        self._close_calls(plan)
        budgets = len(reserved.values) - len(checks.budgets)
        quotas = budgets - len(checks.bytes) - len(checks.quotas)
        self._correct(reserved, checks.quotas, quotas, -1)
        if reserved.followed is None:
            self.give_back_bytes(reserved)
        self._correct(reserved, checks.budgets, budgets, -reserved.cost_micros)

    def _close_calls(self, plan: Plan) -> None:
        for level, _ in plan.checks.concurrency:
            cell = plan.bases[level] + OPEN_CALLS + (self._slot or 0)
            value = self._cells[cell]
            if value >> 32 == self._generation and value & COUNT_MASK:
                self._cells[cell] = value - 1

    def _correct(
        self, reserved: Reserved, checks: tuple[tuple[int, int, int, int], ...], first: int, change: int
    ) -> None:
        """Add `change` to amounts, each only while its window is still the one that was charged."""
        for place, (level, offset, _, _) in enumerate(checks, first):
            cell = reserved.plan.bases[level] + offset
            value = self._cells[cell]
            window = value >> AMOUNT_BITS
            if window == reserved.values[place] >> AMOUNT_BITS:
                amount = min(max((value & AMOUNT_MASK) + change, 0), MOST_AMOUNT)
                self._cells[cell] = window << AMOUNT_BITS | amount
