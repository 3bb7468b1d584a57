"""What is done to blocks of counters outside calls: held shut, lifted to what the journal proves, emptied.

Functions over the cells; the caller holds whatever locks the buffer needs.
"""

from __future__ import annotations

from collections.abc import Iterable

from valetkey.decision.counter_bytes import is_held, take_of_open
from valetkey.decision.counter_layout import BLOCK_CELLS, BYTES, FIRST_BLOCK, OPEN_CALLS, QUOTAS, USES
from valetkey.decision.limits import (
    AMOUNT_BITS,
    AMOUNT_MASK,
    MOST_AMOUNT,
    WINDOWS,
    far_ahead,
    later,
    window_numbers,
)

_HELD_USES = 1 << 63
_SURELY_HELD = 1 << 62
"""No call that is given back meanwhile lowers a held cell so far, and no count ever comes so high."""


def cell_is_held(offset: int, value: int) -> bool:
    """Whether a cell (number within its block) is held shut, see `hold`."""
    return value >= _SURELY_HELD if offset == USES else is_held(value)


def read(cells: memoryview, block: int) -> tuple[int, ...]:
    """All cells of a block."""
    first = FIRST_BLOCK + block * BLOCK_CELLS
    return tuple(cells[first : first + BLOCK_CELLS])


def hold(cells: memoryview, block: int, offsets: Iterable[int], wall: float) -> None:
    """Let nothing be reserved at these cells (`USES`, quotas, budgets, bytes) until `raise_to` says what they count.

    To a call that looks at it such a cell is full, in every window to come: so holding costs other calls
    nothing, and whoever dies meanwhile leaves it shut. What open calls have moved until then is kept beside a cell of
    bytes, and begins with nothing here.
    """
    first = FIRST_BLOCK + block * BLOCK_CELLS
    numbers = window_numbers(wall)
    for offset in offsets:
        window = far_ahead(numbers[(offset - QUOTAS) % len(WINDOWS)])
        cells[first + offset] = _HELD_USES if offset == USES else window << AMOUNT_BITS | AMOUNT_MASK
        if offset >= BYTES:
            take_of_open(cells, first + offset)


def held(cells: memoryview, blocks: int) -> list[int]:
    """Which of the first so many blocks have cells that are held, ascending."""
    found: set[int] = set()
    end = FIRST_BLOCK + blocks * BLOCK_CELLS
    for offset in range(USES, BYTES + len(WINDOWS)):
        column = cells[FIRST_BLOCK + offset : end : BLOCK_CELLS].tolist()
        found.update(block for block, value in enumerate(column) if value and cell_is_held(offset, value))
    return sorted(found)


def raise_to(cells: memoryview, block: int, values: dict[int, int]) -> None:
    """Lift cells (number within the block -> value) to what the journal proves; never lower one.

    One that is held counts from that value on.
    """
    first = FIRST_BLOCK + block * BLOCK_CELLS
    for offset, value in values.items():
        if not USES <= offset < OPEN_CALLS:
            raise ValueError(f"Cell {offset} is not one that a journal can prove.")
        before = cells[first + offset]
        if cell_is_held(offset, before):
            if offset >= BYTES:
                counted = (value & AMOUNT_MASK) + take_of_open(cells, first + offset)
                value = value >> AMOUNT_BITS << AMOUNT_BITS | min(counted, MOST_AMOUNT)
        elif QUOTAS <= offset < BYTES + len(WINDOWS) and before:
            earlier = later(before >> AMOUNT_BITS, value >> AMOUNT_BITS)
            if earlier or (before >> AMOUNT_BITS == value >> AMOUNT_BITS and before >= value):
                continue
        elif before >= value:
            continue
        cells[first + offset] = value


def clean(cells: memoryview, block: int) -> None:
    """Set everything of a block to nothing, for its next subject. Nobody may count in it any more."""
    first = FIRST_BLOCK + block * BLOCK_CELLS
    for cell in range(first, first + BLOCK_CELLS):
        cells[cell] = 0


def accept_clock(cells: memoryview, block: int, wall: float) -> None:
    """Move windows later than `wall` into the one that holds it, with what was spent in them."""
    first = FIRST_BLOCK + block * BLOCK_CELLS
    numbers = window_numbers(wall)
    for offset in range(QUOTAS, BYTES + len(WINDOWS)):
        cell, window = first + offset, numbers[(offset - QUOTAS) % len(WINDOWS)]
        value = cells[cell]
        if value and not cell_is_held(offset, value) and later(value >> AMOUNT_BITS, window):
            cells[cell] = window << AMOUNT_BITS | value & AMOUNT_MASK
