"""Worker slots in the header of counters: which worker holds one, so that open calls of dead ones do not count.

Functions over the cells; the caller holds whatever locks the buffer needs.
"""

from __future__ import annotations

from valetkey.decision.counter_layout import COUNT_MASK, LIVE, SLOTS


def next_generation(cells: memoryview, slot: int) -> int:
    """A generation that this slot has never had."""
    return (cells[LIVE + slot] >> 32) + 1


def enlist(cells: memoryview, slot: int, generation: int) -> None:
    """A new worker holds `slot`. Raises ValueError for a generation that was there before."""
    if not 0 <= slot < SLOTS:
        raise ValueError(f"There are {SLOTS} worker slots, 0 to {SLOTS - 1}; start no more workers.")
    if not next_generation(cells, slot) <= generation <= COUNT_MASK:
        raise ValueError(f"Generation {generation} of slot {slot} is used. Take next_generation().")
    cells[LIVE + slot] = generation << 32 | 1


def retire(cells: memoryview, slot: int) -> None:
    """The worker of `slot` is dead: with this one store none of its open calls counts any more."""
    cells[LIVE + slot] &= ~1
