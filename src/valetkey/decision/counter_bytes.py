"""The arithmetic of byte limits over the cells of counters: before a call, while its bytes pass, and at its end.

Bytes count in the window in which they pass, those known before a call in the window in which it begins. What a call
has charged stands beside it, so that it can be corrected or given back while that window is still open.
"""

from __future__ import annotations

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
    refusal = check_bytes(cells, reserved.plan, size, wall, targets, values)
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


def settle_bytes(cells: memoryview, reserved: Reserved, actual: int) -> None:
    """The call moved that many bytes in all, whatever was charged."""
    change = actual - reserved.size
    if change == 0:
        return
    for place, (level, offset, _, _) in enumerate(reserved.plan.checks.bytes):
        cell = reserved.plan.bases[level] + offset
        value, charged = cells[cell], reserved.charged[place]
        if change > 0:
            # It came beyond what was asked for: in the newest window that anyone has seen.
            _add(cells, cell, value, change)
        elif value >> AMOUNT_BITS == charged >> AMOUNT_BITS:
            _add(cells, cell, value, -min(-change, charged & AMOUNT_MASK))
    reserved.size = actual


def give_back_bytes(cells: memoryview, reserved: Reserved) -> None:
    """None of it counts."""
    for place, (level, offset, _, _) in enumerate(reserved.plan.checks.bytes):
        cell = reserved.plan.bases[level] + offset
        value, charged = cells[cell], reserved.charged[place]
        if value >> AMOUNT_BITS == charged >> AMOUNT_BITS:
            _add(cells, cell, value, -(charged & AMOUNT_MASK))


def _add(cells: memoryview, cell: int, value: int, change: int) -> None:
    held = value & AMOUNT_MASK
    if held <= MOST_AMOUNT:  # else it is shut until it is known what it counts
        cells[cell] = value >> AMOUNT_BITS << AMOUNT_BITS | min(max(held + change, 0), MOST_AMOUNT)
