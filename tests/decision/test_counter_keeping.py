"""Counter blocks as the recovery sees them."""

from __future__ import annotations

import pytest

from valetkey.decision.counter_keeping import raise_to, read
from valetkey.decision.counter_layout import BLOCK_CELLS, CELL, FIRST_BLOCK, OPEN_CALLS, QUOTAS, RATE, USES
from valetkey.decision.limits import AMOUNT_BITS


def test_recovery_lifts_counters_to_the_journal_and_lowers_none() -> None:
    cells = memoryview(bytearray((FIRST_BLOCK + BLOCK_CELLS) * CELL)).cast("Q")
    day = 20_000
    packed = [
        day << AMOUNT_BITS | 5,
        day << AMOUNT_BITS | 3,
        day - 1 << AMOUNT_BITS | 9,
        day + 1 << AMOUNT_BITS | 1,
    ]
    for value, held in zip(packed, (packed[0], packed[0], packed[0], packed[3]), strict=True):
        raise_to(cells, 0, {QUOTAS + 1: value, USES: value})
        assert read(cells, 0)[QUOTAS + 1] == held
    assert read(cells, 0)[USES] == max(packed)
    for cell in (RATE, OPEN_CALLS, -1, BLOCK_CELLS):
        with pytest.raises(ValueError, match="journal"):
            raise_to(cells, 0, {cell: 1})
