"""Counter blocks as several workers see them."""

from __future__ import annotations

import pytest

from valetkey.decision.call import Now
from valetkey.decision.codes import Code
from valetkey.decision.counter_blocks import CounterBlocks, NotEnlisted
from valetkey.decision.counter_keeping import read
from valetkey.decision.counter_layout import BLOCK_CELLS, CELL, FIRST_BLOCK, OPEN_CALLS
from valetkey.decision.counter_slots import enlist, next_generation, retire
from valetkey.decision.limits import Limits
from valetkey.decision.reservation import Level, LimitRefusal, Plan, Reserved

NOW = Now(1_900_000_800.0, 10**9)


def plan_of(limits: Limits) -> Plan:
    return Plan((Level.compile("key", 0, limits),))


def taken(outcome: Reserved | LimitRefusal) -> Reserved:
    assert isinstance(outcome, Reserved), outcome
    return outcome


def refused(outcome: Reserved | LimitRefusal) -> LimitRefusal:
    assert isinstance(outcome, LimitRefusal), outcome
    return outcome


def two_workers() -> tuple[memoryview, CounterBlocks, CounterBlocks]:
    cells = memoryview(bytearray((FIRST_BLOCK + 8 * BLOCK_CELLS) * CELL)).cast("Q")
    first, second = (
        CounterBlocks(cells, slot=slot, generation=7, origin=0, address_key=b"test") for slot in (0, 1)
    )
    for slot in (0, 1):
        enlist(cells, slot, 7)
    return cells, first, second


def test_open_calls_of_all_workers_count_together_and_a_dead_worker_holds_none() -> None:
    cells, first, second = two_workers()
    plan = plan_of(Limits(concurrency=3))
    for worker in (first, second, second):
        taken(worker.reserve(plan, 0, NOW))
    assert refused(first.reserve(plan, 0, NOW)).code is Code.CONCURRENCY_LIMITED
    retire(cells, 1)
    for _ in range(2):
        taken(first.reserve(plan, 0, NOW))
    refused(first.reserve(plan, 0, NOW))


def test_a_new_worker_in_an_old_slot_starts_with_no_open_calls() -> None:
    cells, _, second = two_workers()
    plan = plan_of(Limits(concurrency=2))
    old = taken(second.reserve(plan, 0, NOW))
    retire(cells, 1)
    assert next_generation(cells, 1) == 8
    with pytest.raises(ValueError, match="is used"):
        enlist(cells, 1, 7)
    enlist(cells, 1, 8)
    with pytest.raises(NotEnlisted):
        second.reserve(plan, 0, NOW)
    second._generation = 8
    taken(second.reserve(plan, 0, NOW))
    assert read(cells, 0)[OPEN_CALLS + 1] == 8 << 32 | 1
    second._generation = 7
    second.settle(old)
    assert read(cells, 0)[OPEN_CALLS + 1] == 8 << 32 | 1
