"""Instants as people write them: ``1h`` from now, ``2026-12-31`` (its end, UTC), or a full RFC 3339 time."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta

from valetkey.errors import Invalid

_SPAN = re.compile(r"([0-9]{1,9})(s|min|m|h|d|w|y)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}
MAX_YEARS_AHEAD = 100
"""Beyond a century an end is a typing error."""


def parse_span(text: str) -> float:
    """Seconds of a span such as ``90d``. Raises `Invalid`."""
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise Invalid(f"{text!r} is no span of time.", "Write it as 30min, 12h, 90d or 1y.")
    return float(int(match[1]) * _SECONDS[match[2]])


def is_span(text: str) -> bool:
    """Whether a text has the form of a span."""
    return _SPAN.fullmatch(text.strip()) is not None


def read_time(text: str) -> datetime:
    """An RFC 3339 time, or the begin of a day; UTC where no zone is said. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def parse_instant(text: str, wall: float) -> float:
    """Seconds since the epoch of an end in the future. Raises `Invalid`."""
    text = text.strip()
    if _SPAN.fullmatch(text):
        instant = wall + parse_span(text)
    else:
        try:
            if len(text) == 10:
                # A day that is named as the end belongs to the key's life.
                end = datetime.combine(date.fromisoformat(text) + timedelta(days=1), time(), UTC)
            else:
                end = read_time(text)
        except (ValueError, OverflowError):
            raise Invalid(
                f"{text!r} is no time.",
                "Write a span such as 12h or 90d, a day such as 2026-12-31, or an RFC 3339 time.",
            ) from None
        instant = end.timestamp()
    if instant <= wall:
        raise Invalid(f"{text!r} is already over.", "Name a time in the future.", field="expires")
    if instant > wall + MAX_YEARS_AHEAD * 31_536_000:
        raise Invalid(f"{text!r} is more than a century ahead.", "Name an earlier time.", field="expires")
    return instant


def as_day(instant: float) -> str:
    """The day that an instant falls on, UTC."""
    return f"{datetime.fromtimestamp(instant, UTC):%Y-%m-%d}"


def as_minute(instant: float) -> str:
    """Day and time to the minute: ``2026-12-31 18:00 UTC``."""
    return f"{datetime.fromtimestamp(instant, UTC):%Y-%m-%d %H:%M} UTC"
