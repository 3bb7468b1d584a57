"""The arithmetic of pins over the cells of counters: what sticky keys are pinned to, written with the first call."""

from __future__ import annotations

from valetkey.decision.address import Place
from valetkey.decision.counter_layout import BLOCK_CELLS, FIRST_BLOCK, PIN, PIN_PLACE
from valetkey.decision.reservation import LimitRefusal, Plan, not_from_there


def pinned_to(cells: memoryview, block: int) -> Place | None:
    """What the key with that block is pinned to."""
    first = FIRST_BLOCK + block * BLOCK_CELLS
    version = cells[first + PIN]
    return (version, cells[first + PIN_PLACE]) if version else None


def pin_to(cells: memoryview, block: int, place: Place | None) -> None:
    """Pin it, whatever it is pinned to; None: to nothing."""
    first = FIRST_BLOCK + block * BLOCK_CELLS
    if place is None:
        cells[first + PIN] = cells[first + PIN_PLACE] = 0
    else:
        cells[first + PIN_PLACE] = place[1]
        cells[first + PIN] = place[0]


def pins_of(cells: memoryview, plan: Plan) -> tuple[tuple[bool, Place], ...]:
    """See `Counters.pins`."""
    levels = [plan.levels[place] for place in plan.checks.sticky]
    found = ((level.name == "key", pinned_to(cells, level.block)) for level in levels)
    return tuple((own, place) for own, place in found if place is not None)


def check_pins(
    cells: memoryview, plan: Plan, address: bytes | None, targets: list[int], values: list[int]
) -> LimitRefusal | tuple[int, ...]:
    """Fill `targets` and `values` with what is to be written, and return the blocks that are to be pinned; or say
    which key is another's. A pin is not given back: other calls came to rely on it."""
    pinned: list[int] = []
    for level in plan.checks.sticky:
        subject = plan.levels[level]
        if address is None:
            return not_from_there(subject)
        here = _place_of(address)
        found = pinned_to(cells, subject.block)
        if found is None:
            targets += (plan.bases[level] + PIN_PLACE, plan.bases[level] + PIN)
            values += (here[1], here[0])
            pinned.append(subject.block)
        elif found != here:
            return not_from_there(subject)
    return tuple(pinned)


def _place_of(address: bytes) -> Place:
    if len(address) == 4:
        return 4, int.from_bytes(address, "big")
    return 6, int.from_bytes(address[:8], "big")
