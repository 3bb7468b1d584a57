"""Times, sizes, money and small bars as a person reads them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from valetkey.cli.failure import ExitCode, Failure
from valetkey.cli.terminal import can_show
from valetkey.durations import parse_span, read_time
from valetkey.errors import Invalid

_STEPS = ((31_536_000, "y"), (86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_MOST_BARS = 24
_BARS = "▁▂▃▄▅▆▇█"
_PLAIN_BARS = "_.:-=+*#"
"""Where the terminal has no others."""


def span(seconds: float) -> str:
    """A length of time in its largest unit: ``3 d``."""
    for size, unit in _STEPS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return "0 s"


def relative(instant: float | None, now: float) -> str:
    """``3 min ago``, ``in 5 d``; a dash for never."""
    if instant is None:
        return "-"
    return f"{span(now - instant)} ago" if instant <= now else f"in {span(instant - now)}"


def clock(instant: float, now: float | None = None) -> str:
    """Local time of day with milliseconds; with the day in front when it is another day than `now`'s."""
    moment = datetime.fromtimestamp(instant).astimezone()
    text = f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}"
    if now is not None and moment.date() != datetime.fromtimestamp(now).astimezone().date():
        return f"{moment:%Y-%m-%d} {text}"
    return text


def zone(instant: float) -> str:
    """The zone in which times are shown here: ``UTC`` or ``UTC+02:00``."""
    offset = f"{datetime.fromtimestamp(instant).astimezone():%z}"
    return "UTC" if offset == "+0000" else f"UTC{offset[:3]}:{offset[3:5]}"


def day_and_time(instant: float) -> str:
    """Local day and time to the minute, with its zone: ``2026-12-31 18:00 UTC+01:00``."""
    return f"{datetime.fromtimestamp(instant).astimezone():%Y-%m-%d %H:%M} {zone(instant)}"


def end(instant: float | None) -> str:
    """An end in a table, spelled as everywhere else; a dash for never."""
    return "-" if instant is None else day_and_time(instant)


def rfc3339(instant: float) -> str:
    """UTC to the millisecond: ``2026-12-31T10:00:00.000Z``; a number that is no time of the calendar as it is."""
    try:
        moment = datetime.fromtimestamp(instant, UTC)
    except (ValueError, OverflowError, OSError):
        return str(instant)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def size(count: int | None) -> str:
    """Bytes with a decimal unit."""
    if count is None:
        return "-"
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 10 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def money(micros: int | None) -> str:
    """Millionths of the currency's unit as an amount with at least two decimals."""
    if micros is None:
        return "-"
    whole, _, rest = f"{micros / 1_000_000:.6f}".partition(".")
    return f"{whole}.{rest.rstrip('0').ljust(2, '0')}"


def sparkline(counts: Sequence[int]) -> str:
    """At most 24 bars, the highest full; the lowest bar is nothing at all. Many counts share a bar."""
    bars = _BARS if can_show(_BARS) else _PLAIN_BARS
    together = -(-len(counts) // _MOST_BARS) or 1
    counts = [sum(counts[start : start + together]) for start in range(0, len(counts), together)]
    highest = max(counts, default=0)
    if highest <= 0:
        return bars[0] * len(counts)
    return "".join(bars[0] if n <= 0 else bars[max(1, round(n / highest * 7))] for n in counts)


def counted(number: int, one: str, many: str) -> str:
    """``1 answer``, ``2 answers``, ``No answers``."""
    return f"{number or 'No'} {one if number == 1 else many}"


def parse_since(text: str, now: float) -> float:
    """Seconds since the epoch of ``1h`` or ``1h ago``, of a day's begin (UTC) or of an RFC 3339 time.

    Raises `Failure` (wrong usage).
    """
    try:
        return now - parse_span(text.strip().removesuffix(" ago").rstrip())
    except Invalid:
        return parse_moment(
            text, "--since", "a span such as 1h, a day such as 2026-12-31, or an RFC 3339 time"
        )


def parse_moment(
    text: str, flag: str, expected: str = "an RFC 3339 time such as 2026-12-31T18:00:00Z"
) -> float:
    """Seconds since the epoch of a day's begin (UTC) or of an RFC 3339 time. Raises `Failure` (wrong usage)."""
    try:
        return read_time(text).timestamp()
    except (ValueError, OverflowError):
        raise Failure(f"What {flag} says is no time.", f"Write {expected}.", ExitCode.USAGE) from None
