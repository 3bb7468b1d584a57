"""Reservations: compared with the plain model, and promise by promise."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.limits_model import LimitsModel, ModelLimits, Taken
from valetkey.decision.call import Now
from valetkey.decision.codes import Code
from valetkey.decision.limits import (
    Budget,
    Limits,
    Quota,
    Rate,
    Volume,
    Window,
    parse_budget,
    parse_bytes,
    parse_quota,
    parse_rate,
)
from valetkey.decision.local_counters import LocalCounters
from valetkey.decision.reservation import Level, LimitRefusal, Plan, Reserved

SECOND = 10**9
NOON = 1_900_000_800.0
HERE, THERE = b"\x7f\x00\x00\x01", b"\x7f\x00\x00\x02"


def at(seconds: float, wall: float = NOON) -> Now:
    return Now(wall + seconds, 5 * SECOND + round(seconds * SECOND))


def plan_of(*limits: Limits) -> Plan:
    names = ("key", "ancestor", "holder", "service", "workspace")
    return Plan(tuple(Level.compile(names[i], i, own) for i, own in enumerate(limits)))


def taken(outcome: Reserved | LimitRefusal) -> Reserved:
    assert isinstance(outcome, Reserved), outcome
    return outcome


def refused(outcome: Reserved | LimitRefusal | None) -> LimitRefusal:
    assert isinstance(outcome, LimitRefusal), outcome
    return outcome


# The model

rates = st.builds(Rate, st.integers(1, 5), st.sampled_from([1, 60]), st.integers(1, 4))
limits = st.builds(
    Limits,
    rate=st.none() | rates,
    address_rate=st.none() | rates,
    concurrency=st.none() | st.integers(1, 3),
    quotas=st.lists(st.sampled_from(Window), unique=True).flatmap(
        lambda kinds: st.tuples(*(st.builds(Quota, st.integers(1, 6), st.just(kind)) for kind in kinds))
    ),
    budgets=st.lists(st.sampled_from(Window), unique=True).flatmap(
        lambda kinds: st.tuples(*(st.builds(Budget, st.integers(0, 20), st.just(kind)) for kind in kinds))
    ),
    bytes=st.lists(st.sampled_from(Window), unique=True).flatmap(
        lambda kinds: st.tuples(*(st.builds(Volume, st.integers(1, 40), st.just(kind)) for kind in kinds))
    ),
    uses=st.none() | st.integers(1, 8),
)
steps = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "reserve", "reserve", "meter", "meter", "settle", "give back"]),
        st.sampled_from(
            [[0, 2, 3], [1, 2, 3], [3], [2, 3]]
        ),  # two keys of one ancestor and holder, and these
        st.none() | st.integers(0, 8),  # cost
        st.sampled_from([0.0, 0.0, 0.1, 0.5, 1.0, 30.0, 3600.0]),  # time goes on
        st.sampled_from([0.0, 0.0, 0.0, -40.0, 86400.0, 31 * 86400.0]),  # somebody sets the wall clock
        st.sampled_from([HERE, THERE]),
        st.integers(0, 30),
    ),
    max_size=40,
)


def model_of(own: Limits) -> ModelLimits:
    def plain(rate: Rate | None) -> tuple[int, int, int] | None:
        return rate and (rate.count, rate.per_seconds, rate.burst)

    return ModelLimits(
        own.uses,
        plain(own.rate),
        plain(own.address_rate),
        own.concurrency,
        {quota.window.value: quota.count for quota in own.quotas},
        {budget.window.value: budget.micros for budget in own.budgets},
        {volume.window.value: volume.size for volume in own.bytes},
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(limits, min_size=4, max_size=4), steps)
def test_every_call_gets_the_answer_of_the_model(subjects: list[Limits], calls: list[Any]) -> None:
    counters, model = LocalCounters(), LimitsModel([model_of(own) for own in subjects])
    levels = [Level.compile("key", i, own) for i, own in enumerate(subjects)]
    plans = {
        str(chain): Plan(tuple(levels[i] for i in chain)) for chain in ([0, 2, 3], [1, 2, 3], [3], [2, 3])
    }
    held: list[tuple[Reserved, Taken]] = []
    now = at(0)
    for action, chain, cost, passes, jump, address, pick in calls:
        now = Now(now.wall + passes + jump, now.monotonic + round(passes * SECOND))
        if action == "reserve":
            expected = model.reserve(chain, cost, now.wall, now.monotonic, address, pick)
            foreseen = counters.peek(plans[str(chain)], cost, now, address, pick)
            outcome = counters.reserve(plans[str(chain)], cost, now, address, pick)
            assert (foreseen and foreseen.code) == getattr(outcome, "code", None)
            if isinstance(expected, str):
                assert refused(outcome).code == expected
            else:
                held.append((taken(outcome), expected))
        elif held:
            reserved, expected = held[pick % len(held)]  # an ended one too: twice is once
            if action == "meter":
                if reserved.open:
                    told = counters.meter(reserved, pick, now)
                    assert (told and told.code) == model.meter(expected, pick, now.wall)
            elif action == "settle":
                counters.settle(reserved, pick, pick)
                model.settle(expected, pick, pick)
            else:
                counters.give_back(reserved, now)
                model.give_back(expected, now.monotonic)


@settings(max_examples=300, deadline=None)
@given(
    rates,
    st.lists(
        st.tuples(st.booleans(), st.sampled_from([0, 0, 1, 1, 3, 4, 7]), st.integers(0, 9)), max_size=30
    ),
)
def test_a_rate_is_never_exceeded_in_any_span_of_time(rate: Rate, calls: list[tuple[bool, int, int]]) -> None:
    counters, plan = LocalCounters(), plan_of(Limits(rate=rate))
    model = LimitsModel([ModelLimits(rate=(rate.count, rate.per_seconds, rate.burst))])
    held: list[tuple[int, Reserved, Taken]] = []
    time = 10**12
    for gives_back, quarters, pick in calls:
        time += quarters * rate.interval // 4
        if gives_back and held:
            _, reserved, expected = held.pop(pick % len(held))
            counters.give_back(reserved, Now(NOON, time))
            model.give_back(expected, time)
        else:
            expected_outcome = model.reserve([0], 0, NOON, time, HERE)
            outcome = counters.reserve(plan, 0, Now(NOON, time))
            if isinstance(expected_outcome, str):
                refused(outcome)
            else:
                held.append((time, taken(outcome), expected_outcome))
    kept = [at for at, _, _ in held]
    for first in range(len(kept)):
        for last in range(first, len(kept)):
            assert last - first + 1 <= rate.burst + (kept[last] - kept[first]) / rate.interval


# Promises one by one

EACH = {
    Code.USES_EXHAUSTED: Limits(uses=1),
    Code.RATE_LIMITED: Limits(rate=parse_rate("1/min")),
    Code.CONCURRENCY_LIMITED: Limits(concurrency=1),
    Code.QUOTA_EXCEEDED: Limits(quotas=(parse_quota("1/hour"),)),
    Code.BUDGET_EXCEEDED: Limits(budgets=(Budget(5, Window.DAY),)),
}
BYTES = Limits(bytes=(parse_bytes("100B/day"),))
"""Refuses with the code of a quota, and with a sentence of its own."""


@pytest.mark.parametrize("code", EACH)
def test_a_refused_call_spends_nothing_at_any_level(code: Code) -> None:
    wide = Limits(
        uses=9,
        rate=parse_rate("9/s"),
        address_rate=parse_rate("9/s"),
        concurrency=9,
        quotas=(parse_quota("9/day"),),
        budgets=(parse_budget("9/day"),),
    )
    counters, plan = LocalCounters(), plan_of(wide, EACH[code], wide)
    taken(counters.reserve(plan, 5, at(0), HERE))
    before = bytes(counters._memory)
    refusal = refused(counters.reserve(plan, 5, at(0), HERE))
    assert refusal.code is code
    assert refusal.level == "ancestor"
    assert bytes(counters._memory) == before


@pytest.mark.parametrize("code", EACH)
def test_a_call_that_never_left_is_given_back_whole(code: Code) -> None:
    counters, plan = LocalCounters(), plan_of(EACH[code])
    for _ in range(3):
        counters.give_back(taken(counters.reserve(plan, 5, at(0))), at(0))
    reserved = taken(counters.reserve(plan, 5, at(0)))
    assert refused(counters.reserve(plan, 5, at(0))).code is code
    counters.give_back(reserved, at(0))
    counters.give_back(reserved, at(0))
    taken(counters.reserve(plan, 5, at(0)))
    assert refused(counters.reserve(plan, 5, at(0))).code is code


def test_all_limits_of_all_levels_are_given_back_together() -> None:
    one_of_each = Limits(
        uses=1,
        rate=parse_rate("1/min"),
        address_rate=parse_rate("1/min"),
        concurrency=1,
        quotas=(parse_quota("1/hour"), parse_quota("1/day"), parse_quota("1/month")),
        budgets=(Budget(5, Window.HOUR), Budget(5, Window.DAY), Budget(5, Window.MONTH)),
    )
    counters, plan = LocalCounters(), plan_of(one_of_each, one_of_each, one_of_each)
    for _ in range(3):
        counters.give_back(taken(counters.reserve(plan, 5, at(0), HERE)), at(0))
    taken(counters.reserve(plan, 5, at(0), HERE))
    refused(counters.reserve(plan, 5, at(0), HERE))


def test_a_cost_beyond_all_bounds_fills_the_budget_of_its_window_and_no_more() -> None:
    counters, plan = LocalCounters(), plan_of(Limits(budgets=(Budget(10, Window.HOUR),)))
    for actual in (2**60, 2**60, -(2**60)):
        reserved = counters.reserve(plan, 1, at(0))
        if isinstance(reserved, Reserved):
            counters.settle(reserved, actual)
    refused(counters.reserve(plan, 0, at(0)))
    counters.settle(taken(counters.reserve(plan, 10, at(3600))), -5)
    taken(counters.reserve(plan, 10, at(3600)))


def test_the_first_check_in_order_names_the_code_whatever_the_level() -> None:
    order = list(EACH)
    for place in range(len(order)):
        plan = plan_of(*(EACH[code] for code in reversed(order[place:])))
        counters = LocalCounters()
        taken(counters.reserve(plan, 5, at(0)))
        assert refused(counters.reserve(plan, 5, at(0))).code is order[place]


def test_an_unknown_price_is_refused_under_a_budget_and_passes_without_one() -> None:
    refusal = refused(
        LocalCounters().reserve(plan_of(Limits(budgets=(parse_budget("5/month"),))), None, at(0))
    )
    assert refusal.code is Code.BUDGET_EXCEEDED
    assert "has no price" in refusal.sentence
    assert refusal.next_step is not None
    taken(LocalCounters().reserve(plan_of(Limits(uses=1)), None, at(0)))


def test_a_negative_cost_is_an_error() -> None:
    with pytest.raises(ValueError, match="negative"):
        LocalCounters().reserve(plan_of(Limits(budgets=(parse_budget("5/month"),))), -1, at(0))


def test_a_cheaper_call_frees_its_budget_and_a_dearer_one_takes_it() -> None:
    counters, plan = LocalCounters(), plan_of(Limits(budgets=(Budget(10, Window.DAY),)))
    counters.settle(taken(counters.reserve(plan, 10, at(0))), 4)
    refused(counters.reserve(plan, 7, at(0)))
    counters.settle(taken(counters.reserve(plan, 6, at(0))), 9)
    assert refused(counters.reserve(plan, 0, at(0))).limit == "0.00001 a day"


def test_what_is_settled_after_its_window_leaves_the_next_window_alone() -> None:
    counters, plan = LocalCounters(), plan_of(Limits(budgets=(Budget(10, Window.HOUR),)))
    old = taken(counters.reserve(plan, 10, at(0)))
    taken(counters.reserve(plan, 8, at(3600)))
    counters.settle(old, 0)
    refused(counters.reserve(plan, 3, at(3600)))


def test_a_clock_set_back_wins_nobody_a_second_quota() -> None:
    counters, plan = LocalCounters(), plan_of(Limits(quotas=(parse_quota("1/hour"),)))
    taken(counters.reserve(plan, 0, at(3600)))
    refused(counters.reserve(plan, 0, at(0)))
    refused(counters.reserve(plan, 0, at(3600)))
    taken(counters.reserve(plan, 0, at(7200)))


def test_a_rate_says_when_the_next_call_passes_and_then_it_does() -> None:
    counters, plan = LocalCounters(), plan_of(Limits(rate=parse_rate("2/min")))
    taken(counters.reserve(plan, 0, at(0)))
    taken(counters.reserve(plan, 0, at(10)))
    refusal = refused(counters.reserve(plan, 0, at(15)))
    assert refusal.retry_after == 15.0
    assert refusal.limit == "2 a minute"
    assert refusal.rate is not None
    assert (refusal.rate.policy_header, refusal.rate.header) == ('"key";q=2;w=60', '"key";r=0;t=15')
    refused(counters.reserve(plan, 0, Now(NOON, at(30).monotonic - 1)))
    taken(counters.reserve(plan, 0, at(30)))


def test_a_time_of_a_wider_limit_or_another_clock_counts_as_full_and_waiting_helps() -> None:
    counters = LocalCounters()
    taken(counters.reserve(plan_of(Limits(rate=parse_rate("1/hour"))), 0, at(0)))
    plan = plan_of(Limits(rate=parse_rate("1/s", burst=3)))
    assert refused(counters.peek(plan, 0, at(1))).retry_after == 1.0
    assert refused(counters.reserve(plan, 0, at(1))).retry_after == 1.0
    taken(counters.reserve(plan, 0, at(2)))
    refused(counters.reserve(plan, 0, at(2)))


def test_addresses_have_a_rate_each_and_an_ipv6_network_of_64_bits_has_one() -> None:
    counters, plan = LocalCounters(), plan_of(Limits(address_rate=parse_rate("1/min")))
    first, neighbour, other = bytes(16), bytes(15) + b"\x01", bytes(7) + b"\x01" + bytes(8)
    for address in (HERE, THERE, first, other, None):
        taken(counters.reserve(plan, 0, at(0), address))
    for address in (HERE, THERE, first, neighbour, other, None):
        refusal = refused(counters.reserve(plan, 0, at(0), address))
        assert refusal.limit == "1 a minute from each address"


def test_a_plan_without_limits_refuses_nothing() -> None:
    counters, plan = LocalCounters(), plan_of(Limits(), Limits())
    assert plan.levels == ()
    counters.give_back(taken(counters.reserve(plan, None, at(0), HERE)), at(0))


def test_two_subjects_cannot_share_a_block() -> None:
    with pytest.raises(ValueError, match="share a block"):
        Plan((Level.compile("key", 1, Limits(uses=1)), Level.compile("holder", 1, Limits(uses=2))))
    with pytest.raises(ValueError, match="no block"):
        Level.compile("key", -1, Limits(uses=1))


def test_neighbouring_blocks_are_held_by_one_lock() -> None:
    blocks = (8, 3, 4, 9, 6)
    plan = Plan(tuple(Level.compile("key", block, Limits(uses=1)) for block in blocks))
    assert plan.spans == ((3, 2), (6, 1), (8, 2))


def test_local_counters_grow_with_the_blocks_they_meet() -> None:
    counters = LocalCounters()
    small, large = (Plan((Level.compile("key", block, Limits(uses=1)),)) for block in (0, 5000))
    for plan in (small, large):
        taken(counters.reserve(plan, 0, at(0)))
    for plan in (small, large):
        refused(counters.reserve(plan, 0, at(0)))


def test_threads_of_one_process_take_exactly_what_there_is() -> None:
    counters, plan = LocalCounters(), plan_of(Limits(uses=500))
    admitted: list[int] = []

    def work() -> None:
        admitted.append(sum(isinstance(counters.reserve(plan, 0, at(0)), Reserved) for _ in range(200)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(admitted) == 500


# Bytes


def test_bytes_are_counted_before_a_call_while_they_pass_and_at_its_end() -> None:
    counters, plan = LocalCounters(), plan_of(BYTES, Limits(bytes=(parse_bytes("150B/month"),)))
    first = taken(counters.reserve(plan, 0, at(0), size=60))
    assert refused(counters.reserve(plan, 0, at(0), size=41)).code is Code.QUOTA_EXCEEDED
    assert counters.meter(first, 40, at(0)) is None
    told = counters.meter(first, 1, at(0))
    assert told is not None
    assert told.limit == "100 B a day, sent and received"
    assert told.sentence == "It would move more than the key's limit leaves: 100 B a day, sent and received."
    assert refused(counters.reserve(plan, 0, at(0))).code is Code.QUOTA_EXCEEDED, (
        "nothing is left to answer with"
    )
    counters.settle(first, None, 70)  # its body broke off
    second = taken(counters.reserve(plan, 0, at(0), size=30))
    tomorrow = at(0, NOON + 86_400)
    assert counters.meter(second, 50, tomorrow) is None, "a new day"
    told = counters.meter(second, 1, tomorrow)
    assert told is not None
    assert told.level == "ancestor", "of the same month: 70 + 30 + 50"


def test_what_nobody_asked_for_counts_all_the_same() -> None:
    counters, plan = LocalCounters(), plan_of(BYTES)
    counters.settle(taken(counters.reserve(plan, 0, at(0), size=10)), None, 100)
    assert refused(counters.reserve(plan, 0, at(0))).code is Code.QUOTA_EXCEEDED


def test_bytes_of_a_call_that_never_left_are_given_back() -> None:
    counters, plan = LocalCounters(), plan_of(BYTES)
    reserved = taken(counters.reserve(plan, 0, at(0), size=60))
    assert counters.meter(reserved, 40, at(0)) is None
    counters.give_back(reserved, at(0))
    counters.give_back(reserved, at(0))
    taken(counters.reserve(plan, 0, at(0), size=100))


def test_a_limit_of_bytes_comes_between_quotas_and_budgets() -> None:
    both = Limits(bytes=BYTES.bytes, quotas=(parse_quota("1/day"),), budgets=(parse_budget("1/day"),))
    counters, plan = LocalCounters(), plan_of(both)
    assert (
        refused(counters.reserve(plan, 2 * 10**6, at(0), size=101)).limit == "100 B a day, sent and received"
    )
    taken(counters.reserve(plan, 10**6, at(0), size=100))
    assert refused(counters.reserve(plan, 1, at(0), size=1)).limit == "1 a day"


def test_threads_that_stream_at_once_never_pass_more_than_the_limit() -> None:
    counters, plan = LocalCounters(), plan_of(Limits(bytes=(parse_bytes("10000B/day"),)))
    passed: list[int] = []

    def stream(piece: int) -> None:
        reserved = taken(counters.reserve(plan, 0, at(0)))
        while counters.meter(reserved, piece, at(0)) is None:
            passed.append(piece)

    # Seven divides nothing that is left at the end, so that it is known what remains: less than the least piece.
    threads = [threading.Thread(target=stream, args=(piece,)) for piece in (7, 7, 14, 21)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 10_000 - 7 < sum(passed) <= 10_000
