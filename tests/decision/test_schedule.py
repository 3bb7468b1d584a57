"""The restriction to times of the week, in local wall time, by example and against a slow model."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import schedule_model
from valetkey.decision.call import Call
from valetkey.decision.path import judge_path
from valetkey.decision.restrictions import AnyRestriction, CompileContext, InvalidRestriction, Schedule

CALL = Call("GET", judge_path(b"/"))


def allows(schedule: Schedule, wall: float) -> bool:
    return schedule.compile(CompileContext())(CALL, wall)


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def test_a_window_is_open_from_its_begin_to_just_before_its_end() -> None:
    office = Schedule(("mon-fri 08:00-18:00 Europe/Berlin",))
    assert not allows(office, at("2026-11-23T07:59:59", "Europe/Berlin"))
    assert allows(office, at("2026-11-23T08:00:00", "Europe/Berlin"))
    assert allows(office, at("2026-11-27T17:59:59.999", "Europe/Berlin"))
    assert not allows(office, at("2026-11-27T18:00:00", "Europe/Berlin"))
    assert not allows(office, at("2026-11-28T12:00:00", "Europe/Berlin"))


def test_summer_time_moves_the_instant_and_not_the_clock_on_the_wall() -> None:
    office = Schedule(("mon-fri 08:00-18:00 Europe/Berlin",))
    assert allows(office, at("2026-01-15T07:30:00"))
    assert not allows(office, at("2026-07-15T16:30:00"))
    assert allows(office, at("2026-07-15T06:30:00"))
    assert not allows(office, at("2026-01-15T06:30:00"))


def test_the_hour_that_comes_twice_is_inside_twice() -> None:
    night = Schedule(("sun 02:00-03:00 Europe/Berlin",))
    assert allows(night, at("2026-10-25T02:30:00", "Europe/Berlin", fold=0))
    assert allows(night, at("2026-10-25T02:30:00", "Europe/Berlin", fold=1))


def test_the_hour_that_is_left_out_opens_nothing() -> None:
    night = Schedule(("sun 02:00-03:00 Europe/Berlin",))
    day = range(int(at("2026-03-29T00:00:00")), int(at("2026-03-29T12:00:00")), 60)
    assert not any(allows(night, wall) for wall in day)


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    night = Schedule(("sun 22:00-06:00 UTC",))
    assert allows(night, at("2026-11-22T22:00:00"))
    assert allows(night, at("2026-11-23T05:59:00"))
    assert not allows(night, at("2026-11-23T06:00:00"))
    assert not allows(night, at("2026-11-22T05:00:00"))


def test_an_end_of_24_00_is_midnight() -> None:
    weekend = Schedule(("sat,sun 10:00-24:00 UTC",))
    assert allows(weekend, at("2026-11-22T23:59:59"))
    assert not allows(weekend, at("2026-11-23T00:00:00"))


def test_one_of_several_windows_is_enough() -> None:
    both = Schedule.parse("mon 08:00-09:00 UTC; tue 08:00-09:00 America/New_York")
    assert both.windows == ("mon 08:00-09:00 UTC", "tue 08:00-09:00 America/New_York")
    assert allows(both, at("2026-11-23T08:30:00"))
    assert allows(both, at("2026-11-24T13:30:00"))
    assert not allows(both, at("2026-11-24T08:30:00"))


@pytest.mark.parametrize(
    ("given_text", "kept"),
    [
        ("MON-Fri   08:00-18:00 Europe/Berlin", "mon-fri 08:00-18:00 Europe/Berlin"),
        ("sun,sat 10:00-24:00 UTC", "sat,sun 10:00-24:00 UTC"),
        ("fri-mon 10:00-11:00 UTC", "mon,fri-sun 10:00-11:00 UTC"),
        ("mon,tue,wed 10:00-11:00 UTC", "mon-wed 10:00-11:00 UTC"),
        ("wed-wed 10:00-11:00 UTC", "wed 10:00-11:00 UTC"),
        ("mon-sun 00:00-24:00 UTC", "mon-sun 00:00-24:00 UTC"),
    ],
)
def test_windows_are_kept_in_their_usual_spelling(given_text: str, kept: str) -> None:
    assert Schedule((given_text,)).windows == (kept,)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "cannot be read"),
        ("mon-fri 08:00-18:00", "and a time zone"),
        ("mon-fri 08:00 - 18:00 UTC", "cannot be read"),
        ("monday 08:00-18:00 UTC", "Did you mean 'mon'"),
        ("tu 08:00-18:00 UTC", "Did you mean 'tue'"),
        ("mon-xyz 08:00-18:00 UTC", "There is no day"),
        ("mon,,tue 08:00-18:00 UTC", "There is no day"),
        ("mon-wed-fri 08:00-18:00 UTC", "There is no day"),
        ("mon 8:00-18:00 UTC", "Write them as '08:00-18:00'"),
        ("mon 08:00-24:01 UTC", "do not exist"),
        ("mon 24:00-08:00 UTC", "do not exist"),
        ("mon 08:60-18:00 UTC", "do not exist"),
        ("mon 08:00-08:00 UTC", "Write '00:00-24:00'"),
        ("mon ٠8:00-18:00 UTC", "cannot be read"),
        ("mon 08:00-18:00 Europe/Berlim", "Did you mean 'Europe/Berlin'"),
        ("mon 08:00-18:00 europe/berlin", "Did you mean 'Europe/Berlin'"),
        ("mon 08:00-18:00 ../../etc/passwd", "There is no time zone"),
        ("mon 08:00-18:00 Europe", "There is no time zone"),
        ("mon 08:00-18:00 localtime", "There is no time zone"),
        ("mon 08:00-18:00 right/Europe/Berlin", "There is no time zone"),
    ],
)
def test_a_window_that_cannot_be_is_an_error_that_says_what_to_write(text: str, advice: str) -> None:
    with pytest.raises(InvalidRestriction, match=advice):
        Schedule((text,))


def test_it_comes_back_from_json_as_it_was() -> None:
    schedule = Schedule(("mon-fri 08:00-18:00 Europe/Berlin",))
    assert msgspec.json.decode(msgspec.json.encode(schedule), type=AnyRestriction) == schedule
    assert schedule.sentence() == "Only mon-fri 08:00-18:00 Europe/Berlin"


ZONES = [
    *("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia"),
    *("America/St_Johns", "Africa/Casablanca", "Pacific/Kiritimati", "Etc/GMT+12"),
]
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


@st.composite
def windows(draw: st.DrawFn) -> schedule_model.Window:
    days = draw(st.frozensets(st.integers(0, 6), min_size=1))
    begin = draw(st.integers(0, 1439) | st.sampled_from([0, 120, 180, 1439]))
    end = draw((st.integers(0, 1440) | st.sampled_from([0, 120, 180, 1440])).filter(lambda e: e != begin))
    return schedule_model.Window(days, begin, end, draw(st.sampled_from(ZONES)))


def spell(window: schedule_model.Window) -> str:
    days = ",".join(DAYS[day] for day in sorted(window.days))
    times = [f"{minute // 60:02}:{minute % 60:02}" for minute in (window.begin, window.end)]
    return f"{days} {'-'.join(times)} {window.zone}"


# Around the changes of clocks in Berlin and New York in 2026, and the day that Samoa left out in 2011.
CHANGES = [1774746000, 1792890000, 1772953200, 1793512800, 1325239200]
walls = st.one_of(
    st.floats(0, 4_000_000_000),
    st.integers(0, 66_666_666).map(lambda minute: minute * 60.0),
    st.builds(
        lambda change, minutes: float(change + 60 * minutes),
        st.sampled_from(CHANGES),
        st.integers(-3000, 3000),
    ),
)


@settings(max_examples=250, deadline=None)
@given(st.lists(windows(), min_size=1, max_size=3), st.lists(walls, min_size=1, max_size=8))
def test_the_judge_agrees_with_the_slow_model(
    chosen: list[schedule_model.Window], instants: list[float]
) -> None:
    judge = Schedule(tuple(map(spell, chosen))).compile(CompileContext())
    for wall in instants:
        assert judge(CALL, wall) == schedule_model.open_at(chosen, wall), wall


@settings(max_examples=100, deadline=None)
@given(windows())
def test_the_usual_spelling_of_a_window_stays_as_it_is(window: schedule_model.Window) -> None:
    once = Schedule((spell(window),))
    assert Schedule(once.windows) == once
