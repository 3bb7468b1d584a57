"""At which times of the week a key may be used, in the local time of a place.

A call's instant is turned into local wall time and that is compared, so that a change to summer time moves
nothing: ``08:00-18:00 Europe/Berlin`` means what a clock on a wall in Berlin shows.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from datetime import datetime
from typing import ClassVar, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from msgspec.structs import force_setattr

from valetkey.decision.call import Call
from valetkey.decision.codes import Code
from valetkey.decision.restrictions.base import CompileContext, InvalidRestriction, Judge, Restriction
from valetkey.decision.restrictions.wording import (
    checked_entries,
    listed,
    quoted,
    without_repetition,
)
from valetkey.nearest import did_you_mean

DAYS: tuple[str, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_DAY = 24 * 60
_WEEK = 7 * _DAY
_TIMES = re.compile(r"([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})")
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*")
_MACHINE_ZONES = frozenset({"localtime", "posixrules", "Factory"})  # mean another place on another machine
_OTHER_CLOCKS = ("posix/", "right/")  # "right" counts leap seconds; both are not everywhere

_Parts: TypeAlias = tuple[frozenset[int], int, int, str]


class Schedule(Restriction, frozen=True, tag="schedule", forbid_unknown_fields=True):
    """The call must fall into one of these windows of the week."""

    code: ClassVar[Code] = Code.SCHEDULE_DENIED
    options: ClassVar[tuple[str, ...]] = ("--schedule",)

    windows: tuple[str, ...]
    """``mon-fri 08:00-18:00 Europe/Berlin``. The end is not inside and may be 24:00; a window that ends
    before it begins goes over midnight and belongs to the day on which it begins."""

    def __post_init__(self) -> None:
        entries = checked_entries("windows", self.windows)
        force_setattr(self, "windows", without_repetition(_spell(*_parse(entry)) for entry in entries))

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Return the schedule of one or more windows divided by semicolons. Raises `InvalidRestriction`."""
        return cls(tuple(part.strip() for part in text.split(";")))

    def compile(self, context: CompileContext) -> Judge:
        spans: dict[str, list[tuple[int, int]]] = {}
        for window in self.windows:
            days, begin, end, zone = _parse(window)
            spans.setdefault(zone, []).extend(_spans(days, begin, end))
        places = tuple((ZoneInfo(zone), _edges(of_zone)) for zone, of_zone in spans.items())

        def judge(call: Call, wall: float) -> bool:
            for zone, edges in places:
                local = datetime.fromtimestamp(wall, zone)
                minute = local.weekday() * _DAY + local.hour * 60 + local.minute
                if bisect_right(edges, minute) & 1:
                    return True
            return False

        return judge

    def sentence(self) -> str:
        return f"Only {listed(self.windows)}"


def _parse(text: str) -> _Parts:
    words = text.split()
    if len(words) != 3:
        raise InvalidRestriction(
            f"The window {quoted(text)} cannot be read. Write days, times and a time zone, as in"
            " 'mon-fri 08:00-18:00 Europe/Berlin'."
        )
    begin, end = _parse_times(words[1])
    return _parse_days(words[0]), begin, end, _parse_zone(words[2])


def _parse_days(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.lower().split(","):
        first, dash, last = part.partition("-")
        begin = _parse_day(first)
        end = _parse_day(last) if dash else begin
        days.update((begin + step) % 7 for step in range((end - begin) % 7 + 1))
    return frozenset(days)


def _parse_day(text: str) -> int:
    if text not in DAYS:
        hint = did_you_mean(text, DAYS) or f"Write some of {', '.join(DAYS)}."
        raise InvalidRestriction(f"There is no day {quoted(text)}. {hint}")
    return DAYS.index(text)


def _parse_times(text: str) -> tuple[int, int]:
    found = _TIMES.fullmatch(text)
    if found is None:
        raise InvalidRestriction(f"The times {quoted(text)} cannot be read. Write them as '08:00-18:00'.")
    begin_hour, begin_minute, end_hour, end_minute = map(int, found.groups())
    begin, end = begin_hour * 60 + begin_minute, end_hour * 60 + end_minute
    if begin_minute > 59 or end_minute > 59 or begin >= _DAY or end > _DAY:
        raise InvalidRestriction(
            f"The times {quoted(text)} do not exist. They go from 00:00 to 23:59; an end may be 24:00."
        )
    if begin == end:
        raise InvalidRestriction(
            f"The times {quoted(text)} begin and end together. Write '00:00-24:00' for the whole day."
        )
    return begin, end


def _parse_zone(text: str) -> str:
    known = _ZONE.fullmatch(text) and text not in _MACHINE_ZONES and not text.startswith(_OTHER_CLOCKS)
    if known:
        try:
            return ZoneInfo(text).key
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass  # said below, with the nearest spelling
    choices = [zone for zone in available_timezones() if zone not in _MACHINE_ZONES]
    hint = (
        did_you_mean(text, choices)
        or "Write a name of the time zone database, such as 'Europe/Berlin' or 'UTC'."
    )
    raise InvalidRestriction(f"There is no time zone {quoted(text)}. {hint}")


def _spell(days: frozenset[int], begin: int, end: int, zone: str) -> str:
    return f"{_spell_days(days)} {_spell_time(begin)}-{_spell_time(end)} {zone}"


def _spell_days(days: frozenset[int]) -> str:
    parts: list[str] = []
    day = 0
    while day < 7:
        last = day
        while day in days and last + 1 in days:
            last += 1
        if day in days:
            joint = "," if last == day + 1 else "-"
            parts.append(DAYS[day] if last == day else f"{DAYS[day]}{joint}{DAYS[last]}")
        day = last + 1
    return ",".join(parts)


def _spell_time(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _spans(days: frozenset[int], begin: int, end: int) -> list[tuple[int, int]]:
    """Minutes of the week, from Monday 00:00, that a window covers; cut in two where it leaves the week."""
    spans: list[tuple[int, int]] = []
    for day in days:
        first = day * _DAY + begin
        last = day * _DAY + end + (_DAY if end < begin else 0)
        spans.append((first, min(last, _WEEK)))
        if last > _WEEK:
            spans.append((0, last - _WEEK))
    return spans


def _edges(spans: list[tuple[int, int]]) -> tuple[int, ...]:
    """The minutes at which being inside turns to outside and back: inside after an odd number of them."""
    edges: list[int] = []
    for first, last in sorted(spans):
        if edges and first <= edges[-1]:
            edges[-1] = max(edges[-1], last)
        else:
            edges += (first, last)
    return tuple(edges)
