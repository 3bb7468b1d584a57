"""Limits of bytes that change while a call is open: what it moved counts once, whatever is being counted meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from valetkey.decision.call import Now
from valetkey.decision.counter_layout import BYTES, OF_OPEN_CALLS
from valetkey.decision.limits import AMOUNT_BITS, AMOUNT_MASK, Limits, parse_bytes, window_numbers
from valetkey.decision.reservation import BeingCounted, Level, LimitRefusal, Plan, Reserved
from valetkey.gateway.counters_keeping import KeptCounters

NOON = 1_900_000_800.0
DAY = BYTES + 1


def now() -> Now:
    return Now(NOON, time.monotonic_ns())


def plan_of(*limits: str, block: int = 0) -> Plan:
    return Plan((Level.compile("key", block, Limits(bytes=tuple(map(parse_bytes, limits)))),))


@pytest.fixture
def counters(tmp_path: Path) -> Iterator[KeptCounters]:
    opened = KeptCounters.open(tmp_path / "counters", 0, 1)
    opened.enlist(0, 1)
    yield opened
    opened.close()


def unlimited() -> Reserved:
    return Reserved(Plan(()), 0, time.monotonic_ns(), (), [])


def counted(counters: KeptCounters, block: int = 0) -> int:
    return counters.read(block)[DAY] & AMOUNT_MASK


def lift(counters: KeptCounters, size: int) -> None:
    counters.raise_to(0, {DAY: window_numbers(NOON)[1] << AMOUNT_BITS | size})


def test_what_was_moved_counts_with_what_was_used_before(counters: KeptCounters) -> None:
    call, plan = unlimited(), plan_of("2KB/day")
    counters.hold(0, [DAY], NOON)
    counters.follow(call, plan, 1300, now())
    assert counters.are_held(plan)
    with pytest.raises(BeingCounted):
        counters.meter(call, 1, now())
    lift(counters, 500)
    assert not counters.are_held(plan)
    assert counted(counters) == 1800
    assert counters.meter(call, 200, now()) is None
    assert isinstance(counters.meter(call, 1, now()), LimitRefusal)
    counters.settle(call, None, 1450)
    assert counted(counters) == 1950
    counters.settle(call, None, 1450)
    assert counted(counters) == 1950


def test_a_call_that_ends_while_it_is_counted_is_left_to_its_record(counters: KeptCounters) -> None:
    call = unlimited()
    counters.hold(0, [DAY], NOON)
    counters.follow(call, plan_of("2KB/day"), 1300, now())
    counters.settle(call, None, 1400)
    lift(counters, 1400)
    assert counted(counters) == 1400


@pytest.mark.parametrize("held", [True, False])
def test_a_call_that_is_given_back_counts_nothing_though_it_is_settled_in_its_end(
    counters: KeptCounters, held: bool
) -> None:
    call = unlimited()
    if held:
        counters.hold(0, [DAY], NOON)
    counters.follow(call, plan_of("2KB/day"), 1300, now())
    counters.give_back(call, now())
    counters.settle(call, None, 1400)
    if held:
        lift(counters, 10)
    assert counted(counters) == (10 if held else 0)


def test_limits_that_change_twice_count_what_was_moved_once(counters: KeptCounters) -> None:
    call = unlimited()
    counters.hold(0, [DAY], NOON)
    counters.follow(call, plan_of("2KB/day"), 1300, now())
    counters.follow(call, plan_of("3KB/day"), 1310, now())
    lift(counters, 0)
    assert counted(counters) == 1310
    counters.follow(call, plan_of("3KB/day", "9KB/hour"), 1310, now())
    assert (counted(counters), counters.read(0)[BYTES] & AMOUNT_MASK) == (1310, 1310)
    counters.follow(call, Plan(()), 1310, now())
    counters.hold(0, [DAY], NOON)
    counters.follow(call, plan_of("3KB/day"), 1310, now())
    counters.hold(0, [DAY], NOON)
    assert counters.read(0)[OF_OPEN_CALLS + 1] == 0, "a limit that begins anew begins with nothing"


def test_what_was_charged_before_it_passed_is_given_back_and_a_new_counter_gets_what_passed(
    counters: KeptCounters,
) -> None:
    plan = plan_of("1GB/day")
    call = counters.reserve(plan, 0, now(), None, 50_000)
    assert isinstance(call, Reserved)
    both = Plan((*plan_of("90KB/day").levels, *plan_of("80KB/day", block=7).levels))
    counters.follow(call, both, 500, now())
    assert (counted(counters), counted(counters, 7)) == (500, 500)
    assert counters.meter(call, 250, now()) is None
    counters.settle(call, None, 740)
    assert (counted(counters), counted(counters, 7)) == (740, 740)
