"""The arithmetic of byte limits over the cells of counters: before a call, while its bytes pass, and at its end.

Bytes count in the window in which they pass, those known before a call in the window in which it begins. What a call
has charged stands beside it, so that it can be corrected or given back while that window is still open.
"""

from __future__ import annotations

from valetkey.decision.counter_layout import BYTES, OF_OPEN_CALLS
from valetkey.decision.limits import AMOUNT_BITS, AMOUNT_MASK, MOST_AMOUNT, carried, window_numbers
from valetkey.decision.reservation import BeingCounted, LimitRefusal, Plan, Reserved, over_bytes


def check_bytes(
    cells: memoryview, plan: Plan, size: int, wall: float, targets: list[int], values: list[int]
) -> LimitRefusal | None:
    """Fill `targets` and `values` for `size` bytes that are known before the call. Where nothing is left, no call
    begins: it would end with its first byte. Raises `BeingCounted`."""
    windows = window_numbers(wall)
    for level, offset, window, limit in plan.checks.bytes:
        cell = plan.bases[level] + offset
        value = carried(cells[cell], windows[window])
        amount = value & AMOUNT_MASK
        if amount >= limit or amount + size > limit:
            if amount > MOST_AMOUNT:
                raise BeingCounted
            return over_bytes(plan.levels[level], window)
        targets.append(cell)
        values.append(value + size)
    return None


def charged_before(plan: Plan, size: int, values: list[int]) -> list[int]:
    """What a call has charged to each limit when it begins, from what `check_bytes` wrote last."""
    of_bytes = values[len(values) - len(plan.checks.budgets) - len(plan.checks.bytes) :]
    return [value >> AMOUNT_BITS << AMOUNT_BITS | size for value in of_bytes[: len(plan.checks.bytes)]]


def meter(cells: memoryview, reserved: Reserved, size: int, wall: float) -> LimitRefusal | None:
    """Charge `size` bytes that are about to pass, at all limits or at none."""
    targets: list[int] = []
    values: list[int] = []
    refusal = check_bytes(cells, reserved.metered, size, wall, targets, values)
    if refusal is not None:
        return refusal
    for place, (target, value) in enumerate(zip(targets, values, strict=True)):
        cells[target] = value
        charged = reserved.charged[place]
        same = charged >> AMOUNT_BITS == value >> AMOUNT_BITS
        before = (
            charged & AMOUNT_MASK if same else 0
        )  # of a window that is over, nothing is corrected any more
        reserved.charged[place] = value >> AMOUNT_BITS << AMOUNT_BITS | before + size
    reserved.size += size
    return None


def same_bytes(plan: Plan, other: Plan) -> bool:
    """Whether both limit bytes alike, in the same counters."""
    return plan is other or _limits(plan) == _limits(other)


def _limits(plan: Plan) -> list[tuple[int, int]]:
    return [(plan.bases[level] + offset, limit) for level, offset, _, limit in plan.checks.bytes]


def follow_bytes(cells: memoryview, reserved: Reserved, plan: Plan, moved: int, wall: float) -> None:
    """From now on the limits of `plan` count. In counters that are new to the call so do the `moved` bytes so far:
    in the windows of now, and where it is still to be counted what was used before, with that."""
    old = reserved.metered
    known = {
        old.bases[level] + offset: charged
        for (level, offset, _, _), charged in zip(old.checks.bytes, reserved.charged, strict=True)
    }
    windows = window_numbers(wall)
    reserved.charged = []
    for level, offset, window, _ in plan.checks.bytes:
        cell = plan.bases[level] + offset
        charged = known.get(cell)
        if charged is None:
            value = cells[cell]
            if is_held(value):
                _add_of_open(cells, cell, moved)
                charged = windows[window] << AMOUNT_BITS | moved
            else:
                value = carried(value, windows[window])
                charged = value >> AMOUNT_BITS << AMOUNT_BITS | moved
                cells[cell] = value  # the window of now, for what is added
                _add(cells, cell, value, moved)
        reserved.charged.append(charged)
    reserved.followed = plan
    reserved.size = moved


def are_held(cells: memoryview, plan: Plan) -> bool:
    """Whether it is still to be counted what was used before at one of its limits of bytes."""
    return any(is_held(cells[plan.bases[level] + offset]) for level, offset, _, _ in plan.checks.bytes)


def is_held(value: int) -> bool:
    """Whether a counter with a window is shut."""
    return value & AMOUNT_MASK == AMOUNT_MASK


def take_of_open(cells: memoryview, cell: int) -> int:
    """What open calls have moved beside a counter of bytes that was held; from now on it counts there."""
    place = cell + OF_OPEN_CALLS - BYTES
    moved, cells[place] = cells[place], 0
    return moved


def settle_bytes(cells: memoryview, reserved: Reserved, actual: int) -> None:
    """The call has moved that many bytes in all, whatever was charged."""
    change = actual - reserved.size
    if change == 0:
        return
    plan = reserved.metered
    for place, (level, offset, _, _) in enumerate(plan.checks.bytes):
        cell = plan.bases[level] + offset
        value, charged = cells[cell], reserved.charged[place]
        same = value >> AMOUNT_BITS == charged >> AMOUNT_BITS
        # What came beyond what was asked for counts in the newest window that anyone has seen.
        more = max(change, -(charged & AMOUNT_MASK))
        held = is_held(value)
        if held:
            _add_of_open(cells, cell, more)
        elif same or change > 0:
            _add(cells, cell, value, more)
        if same or held:
            reserved.charged[place] = charged + more
    reserved.size = actual


def leave_to_record(cells: memoryview, reserved: Reserved) -> None:
    """The call has ended: where it is still to be counted what was used before, its record says what it moved."""
    for place, (level, offset, _, _) in enumerate(reserved.metered.checks.bytes):
        cell = reserved.metered.bases[level] + offset
        if is_held(cells[cell]):
            _add_of_open(cells, cell, -(reserved.charged[place] & AMOUNT_MASK))


def give_back_bytes(cells: memoryview, reserved: Reserved) -> None:
    """None of it counts."""
    plan = reserved.metered
    for place, (level, offset, _, _) in enumerate(plan.checks.bytes):
        cell = plan.bases[level] + offset
        value, charged = cells[cell], reserved.charged[place]
        if is_held(value):
            _add_of_open(cells, cell, -(charged & AMOUNT_MASK))
        elif value >> AMOUNT_BITS == charged >> AMOUNT_BITS:
            _add(cells, cell, value, -(charged & AMOUNT_MASK))


def _add(cells: memoryview, cell: int, value: int, change: int) -> None:
    held = value & AMOUNT_MASK
    if held <= MOST_AMOUNT:  # else it is shut until it is known what it counts
        cells[cell] = value >> AMOUNT_BITS << AMOUNT_BITS | min(max(held + change, 0), MOST_AMOUNT)


def _add_of_open(cells: memoryview, cell: int, change: int) -> None:
    place = cell + OF_OPEN_CALLS - BYTES
    cells[place] = min(max(cells[place] + change, 0), MOST_AMOUNT)
