"""Windows of the week by looking at today and yesterday: what the schedule's judge is compared with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo


class Window(NamedTuple):
    days: frozenset[int]
    """0 is Monday."""
    begin: int
    """Minutes after midnight."""
    end: int
    zone: str


def open_at(windows: list[Window], wall: float) -> bool:
    instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=wall)
    for window in windows:
        local = instant.astimezone(ZoneInfo(window.zone))
        today = local.weekday()
        yesterday = (today - 1) % 7
        seconds = local.hour * 3600 + local.minute * 60 + local.second
        begin, end = window.begin * 60, window.end * 60
        if begin < end:
            if today in window.days and begin <= seconds < end:
                return True
        elif (today in window.days and seconds >= begin) or (yesterday in window.days and seconds < end):
            return True
    return False
