"""Limits: their text forms, what cannot exist, and the arithmetic of windows."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from valetkey.decision.limits import (
    AMOUNT_BITS,
    AMOUNT_MASK,
    MAX_BUDGET_MICROS,
    MAX_COUNT,
    MAX_RATE_COUNT,
    Budget,
    InvalidLimit,
    Limits,
    Quota,
    Rate,
    Window,
    carried,
    later,
    money,
    parse_budget,
    parse_quota,
    parse_rate,
    window_numbers,
)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("5/s", Rate(5, 1, 5)),
        ("100/min", Rate(100, 60, 100)),
        ("1000/hour", Rate(1000, 3600, 1000)),
        ("1/second", Rate(1, 1, 1)),
    ],
)
def test_a_rate_reads_as_written_and_allows_its_count_at_once(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate


def test_a_burst_may_be_given_apart() -> None:
    assert parse_rate("5/s", burst=10) == Rate(5, 1, 10)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "/s",
        "5/",
        "5/fortnight",
        "5 /s",
        "-5/s",
        "0/s",
        "1e3/s",
        "٥/s",
        "5/s\n",
        "5.5/s",
        "9" * 15 + "/s",
    ],
)
def test_a_rate_that_cannot_be_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidLimit, match=r"for example|Choose"):
        parse_rate(text)


@pytest.mark.parametrize(
    "text", ["", "1000", "1000/year", "1000/s", "0/day", "1,000/day", "9999999999999/day", "x/day"]
)
def test_a_quota_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(InvalidLimit):
        parse_quota(text)


@pytest.mark.parametrize(
    "text", ["", "5", "5.00", "5./month", ".5/month", "-1/month", "1.0000001/month", "1e3/day", "5/s"]
)
def test_a_budget_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(InvalidLimit):
        parse_budget(text)


@given(st.integers(0, MAX_BUDGET_MICROS), st.sampled_from(list(Window)))
def test_a_budget_is_read_back_to_the_millionth(micros: int, window: Window) -> None:
    text = f"{money(micros).replace(',', '')}/{window.value}"
    assert parse_budget(text) == Budget(micros, window)


@given(st.integers(1, MAX_RATE_COUNT), st.sampled_from([1, 60, 3600]))
def test_the_interval_of_a_rate_never_admits_more_than_its_count(count: int, per: int) -> None:
    assert Rate(count, per, 1).interval * count >= per * 10**9


def test_two_quotas_for_one_window_are_refused() -> None:
    with pytest.raises(InvalidLimit, match="two quotas"):
        Limits(quotas=(Quota(1, Window.DAY), Quota(2, Window.DAY)))
    with pytest.raises(InvalidLimit, match="two budgets"):
        Limits(budgets=(Budget(1, Window.DAY), Budget(2, Window.DAY)))


@pytest.mark.parametrize(
    "wrong", [{"uses": 0}, {"uses": MAX_COUNT + 1}, {"concurrency": 0}, {"concurrency": -1}]
)
def test_a_number_out_of_bounds_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidLimit, match="must lie between"):
        Limits(**wrong)  # type: ignore[arg-type]


def test_limits_survive_being_stored() -> None:
    limits = Limits(
        rate=parse_rate("5/s"),
        address_rate=parse_rate("1/min"),
        concurrency=8,
        quotas=(parse_quota("1000/day"),),
        budgets=(parse_budget("5.00/month"),),
        uses=3,
    )
    assert msgspec.json.decode(msgspec.json.encode(limits), type=Limits) == limits


@pytest.mark.parametrize(
    "stored", [b'{"speed": 1}', b'{"uses": 0}', b'{"rate": {"count": 1, "per_seconds": 7, "burst": 1}}']
)
def test_stored_limits_that_cannot_be_are_not_loaded(stored: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(stored, type=Limits)


def test_limits_say_themselves_in_words() -> None:
    limits = Limits(
        rate=parse_rate("5/s", burst=10),
        concurrency=8,
        quotas=(parse_quota("1000/hour"),),
        budgets=(parse_budget("5/month"),),
        uses=1,
    )
    assert limits.sentences() == (
        "At most 1 call in all.",
        "At most 5 a second, in bursts of up to 10.",
        "At most 8 calls in progress at the same time.",
        "At most 1,000 an hour.",
        "At most 5.00 a month of cost.",
    )
    assert Limits().sentences() == ()
    assert Limits().unlimited
    assert not limits.unlimited


@given(st.datetimes(datetime(1971, 1, 1), datetime(2080, 1, 1)))
def test_windows_are_those_of_the_utc_calendar(time: datetime) -> None:
    instant = time.replace(tzinfo=UTC)
    hour, day, month = window_numbers(instant.timestamp())
    assert month == instant.year * 12 + instant.month - 1
    assert day == instant.toordinal() - datetime(1970, 1, 1).toordinal()
    assert hour == (day * 24 + instant.hour) % 2**20


@given(st.integers(0, 2**20 - 1), st.integers(1, 2**19 - 1), st.integers(1, AMOUNT_MASK))
def test_an_old_window_starts_anew_and_a_later_one_stays(window: int, ahead: int, amount: int) -> None:
    next_window = (window + ahead) % 2**20
    assert later(next_window, window)
    assert not later(window, next_window)
    old, new = window << AMOUNT_BITS | amount, next_window << AMOUNT_BITS | amount
    assert carried(old, window) == old
    assert carried(old, next_window) == next_window << AMOUNT_BITS
    assert carried(new, window) == new
    assert carried(0, window) == window << AMOUNT_BITS
