"""Limits: how much a key may be used. The types as they are stored, their text forms, and their arithmetic.

A limit is only a promise here; `reservation.py` keeps it. All numbers are integers: nanoseconds, calls,
millionths of the currency (micros). Nothing is ever rounded in favour of the caller.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Final

import msgspec

MAX_RATE_COUNT: Final = 1_000_000
"""Calls of a rate and of its burst: no gateway reaches it, and burst x interval stays in 64 bits."""
MAX_CONCURRENCY: Final = 1_000_000
"""Open calls: more than a machine has sockets, far below the 32 bits of a counter."""
MAX_COUNT: Final = 10**12
"""Calls of a quota and uses: a thousand years at 30 a second, below the 44 bits of a counter."""
MAX_BUDGET_MICROS: Final = 10_000_000 * 10**6
"""Ten million of the currency: below the 44 bits of a counter (17.5 million)."""
MAX_CLOCK_LAG: Final = 60.0
"""Seconds. A wall clock further behind the newest record makes the node not ready: windows would reopen."""
MAX_BYTES: Final = 10 * 10**12
"""Ten terabytes in a window: below the 44 bits of a counter (17.6)."""
AMOUNT_BITS: Final = 44
AMOUNT_MASK: Final = (1 << AMOUNT_BITS) - 1
MOST_AMOUNT: Final = AMOUNT_MASK - 1
"""The amount of all ones marks a counter that is held (`counter_keeping.py`)."""
WINDOW_MASK: Final = (1 << 20) - 1
"""A window's number is kept modulo 2**20: hours repeat after 119 years."""
_HALF: Final = 1 << 19

_PERIODS: Final = {"s": 1, "sec": 1, "second": 1, "min": 60, "minute": 60, "h": 3600, "hour": 3600}
_PERIOD_WORDS: Final = {1: "a second", 60: "a minute", 3600: "an hour"}
_RATE = re.compile(r"([0-9]{1,15})/([a-z]{1,8})")
_AMOUNT = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,6}))?/([a-z]{1,8})")


_BYTES = re.compile(r"([0-9]{1,15})([a-zA-Z]{1,3})/([a-z]{1,8})")
_SIZES: Final = {
    "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
    "TiB": 2**40,
}  # fmt: skip


class InvalidLimit(ValueError):
    """A limit that cannot exist. The message says what is wrong and shows one that would do."""


class Window(StrEnum):
    """The calendar window of a quota or budget, in UTC."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"

    @property
    def words(self) -> str:
        return "an hour" if self is Window.HOUR else f"a {self.value}"


WINDOWS: Final = tuple(Window)
"""In the order of their counters."""


def _within(what: str, value: int, most: int, least: int = 1) -> None:
    if not least <= value <= most:
        raise InvalidLimit(f"{what} must lie between {least} and {most:,}. Choose a number in that range.")


class Rate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """At most `count` calls per `per_seconds`, evenly refilled, of which `burst` may come at once."""

    count: int
    per_seconds: int
    burst: int

    def __post_init__(self) -> None:
        _within("The count of a rate", self.count, MAX_RATE_COUNT)
        _within("The burst of a rate", self.burst, MAX_RATE_COUNT)
        if self.per_seconds not in _PERIOD_WORDS:
            raise InvalidLimit("A rate is counted a second, a minute or an hour. Write for example 5/s.")

    @property
    def interval(self) -> int:
        """Nanoseconds one call takes from the bucket; rounded up, so that the rate is never exceeded."""
        return -(-self.per_seconds * 1_000_000_000 // self.count)

    @property
    def tolerance(self) -> int:
        """Nanoseconds by which the bucket's time may be ahead when a call comes (GCRA's tau)."""
        return (self.burst - 1) * self.interval

    def words(self) -> str:
        """``5 a second``, for people."""
        return f"{self.count:,} {_PERIOD_WORDS[self.per_seconds]}"


class Quota(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """At most `count` calls in each window."""

    count: int
    window: Window

    def __post_init__(self) -> None:
        _within("The count of a quota", self.count, MAX_COUNT)

    def words(self) -> str:
        """``1,000 a day``, for people."""
        return f"{self.count:,} {self.window.words}"


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """At most `micros` millionths of the currency in each window; 0 lets only free calls through."""

    micros: int
    window: Window

    def __post_init__(self) -> None:
        _within("The amount of a budget in millionths", self.micros, MAX_BUDGET_MICROS, least=0)

    def words(self) -> str:
        """``5.00 a month``, for people."""
        return f"{money(self.micros)} {self.window.words}"


class Volume(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """At most `size` bytes of bodies in each window, sent and received together."""

    size: int
    window: Window

    def __post_init__(self) -> None:
        _within("The bytes of a limit", self.size, MAX_BYTES)

    def words(self) -> str:
        """``1 GB a day``, for people."""
        return f"{size_words(self.size)} {self.window.words}"


def _one_a_window(what: str, limits: tuple[Quota, ...] | tuple[Volume, ...] | tuple[Budget, ...]) -> None:
    windows = [limit.window for limit in limits]
    for window in windows:
        if windows.count(window) > 1:
            raise InvalidLimit(f"There are two {what} for each {window.value}. Keep the smaller one.")


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """All limits of one subject (key, holder, service, workspace). Stored as JSON."""

    rate: Rate | None = None
    address_rate: Rate | None = None
    """For each client address on its own (IPv4 address, IPv6 /64)."""
    concurrency: int | None = None
    quotas: tuple[Quota, ...] = ()
    budgets: tuple[Budget, ...] = ()
    uses: int | None = None
    bytes: tuple[Volume, ...] = ()

    def __post_init__(self) -> None:
        if self.concurrency is not None:
            _within("The number of calls at once", self.concurrency, MAX_CONCURRENCY)
        if self.uses is not None:
            _within("The number of uses", self.uses, MAX_COUNT)
        _one_a_window("quotas", self.quotas)
        _one_a_window("limits of bytes", self.bytes)
        _one_a_window("budgets", self.budgets)

    @property
    def unlimited(self) -> bool:
        return self == _UNLIMITED

    def sentences(self) -> tuple[str, ...]:
        """Each limit in words, in the order in which they are checked."""
        said: list[str] = []
        if self.uses is not None:
            said.append(f"At most {calls(self.uses)} in all.")
        if self.rate is not None:
            said.append(f"At most {self.rate.words()}, in bursts of up to {self.rate.burst:,}.")
        if self.address_rate is not None:
            rate = self.address_rate
            said.append(f"At most {rate.words()}, in bursts of up to {rate.burst:,}, from each address.")
        if self.concurrency is not None:
            said.append(f"At most {calls(self.concurrency)} in progress at the same time.")
        said.extend(f"At most {quota.words()}." for quota in self.quotas)
        said.extend(f"At most {volume.words()}, sent and received." for volume in self.bytes)
        said.extend(f"At most {budget.words()} of cost." for budget in self.budgets)
        return tuple(said)


_UNLIMITED: Final = Limits()


def parse_rate(text: str, burst: int | None = None) -> Rate:
    """Read ``5/s``, ``100/min`` or ``1000/hour``; without `burst`, as many as the count may come at once."""
    match = _RATE.fullmatch(text)
    per_seconds = _PERIODS.get(match[2]) if match else None
    if match is None or per_seconds is None:
        raise InvalidLimit(
            "A rate is a whole number of calls a second, minute or hour. Write for example 5/s or 100/min."
        )
    count = int(match[1])
    return Rate(count=count, per_seconds=per_seconds, burst=max(1, count) if burst is None else burst)


def parse_quota(text: str) -> Quota:
    """Read ``1000/day`` (also ``/hour``, ``/month``)."""
    match = _RATE.fullmatch(text)
    if match is None or match[2] not in WINDOWS:
        raise InvalidLimit(
            "A quota is a whole number of calls an hour, day or month. Write for example 1000/day."
        )
    return Quota(count=int(match[1]), window=Window(match[2]))


def parse_bytes(text: str) -> Volume:
    """Read ``1GB/day`` (also ``/hour``, ``/month``): B, KB, MB, GB, TB by thousands, KiB, MiB, GiB, TiB by 1,024."""
    match = _BYTES.fullmatch(text)
    unit = _SIZES.get(match[2]) if match else None
    if match is None or unit is None or match[3] not in WINDOWS:
        raise InvalidLimit(
            "A limit of bytes is a whole number of B, KB, MB, GB or TB an hour, day or month."
            " Write for example 1GB/day."
        )
    return Volume(size=int(match[1]) * unit, window=Window(match[3]))


def parse_budget(text: str) -> Budget:
    """Read ``5.00/month`` (also ``/hour``, ``/day``), exactly, to the millionth."""
    match = _AMOUNT.fullmatch(text)
    if match is None or match[3] not in WINDOWS:
        raise InvalidLimit(
            "A budget is an amount (at most six decimals) an hour, day or month. Write for example 5.00/month."
        )
    micros = int(match[1]) * 1_000_000 + int((match[2] or "").ljust(6, "0"))
    return Budget(micros=micros, window=Window(match[3]))


def calls(count: int) -> str:
    """``1 call``, ``1,000 calls``, for people."""
    return f"{count:,} call{'' if count == 1 else 's'}"


def size_words(size: int) -> str:
    """``1 GB``, ``1,500 KB``: in the largest unit that loses nothing."""
    unit = next(name for name in ("TB", "GB", "MB", "KB", "B") if size % _SIZES[name] == 0)
    return f"{size // _SIZES[unit]:,} {unit}"


def money(micros: int) -> str:
    """An amount for people: ``5.00``, ``0.0125``; two decimals at least, none lost."""
    whole, part = divmod(micros, 1_000_000)
    decimals = f"{part:06d}".rstrip("0").ljust(2, "0")
    return f"{whole:,}.{decimals}"


def window_numbers(wall: float) -> tuple[int, int, int]:
    """Numbers of the hour, day and month (UTC) that hold the instant `wall`, modulo 2**20."""
    hour = int(wall) // 3600
    day = hour // 24
    return hour & WINDOW_MASK, day & WINDOW_MASK, month_of_day(day)


def window_starts(wall: float) -> tuple[int, int, int]:
    """First seconds of the hour, day and month (UTC) that hold the instant `wall`."""
    hour = int(wall) // 3600 * 3600
    month = datetime.fromtimestamp(wall, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return hour, int(wall) // 86_400 * 86_400, int(month.timestamp())


@lru_cache(maxsize=64)
def month_of_day(day: int) -> int:
    """``year * 12 + month - 1`` of a day counted from 1970-01-01."""
    # Years are counted from March, so that the leap day is the last: then month lengths follow one formula
    # (30.6 days, rounded), and centuries of 400 years have 146,097 days.
    century, day_of_century = divmod(day + 719_468, 146_097)
    year = (
        day_of_century - day_of_century // 1_460 + day_of_century // 36_524 - day_of_century // 146_096
    ) // 365
    day_of_year = day_of_century - (365 * year + year // 4 - year // 100)
    months_since_march = (5 * day_of_year + 2) // 153
    return ((century * 400 + year) * 12 + 2 + months_since_march) & WINDOW_MASK


def far_ahead(window: int) -> int:
    """A window number that comes after `window` and all around it: of hours, the one in 30 years."""
    return (window + _HALF // 2) & WINDOW_MASK


def later(stored: int, window: int) -> bool:
    """Whether window number `stored` comes after `window`."""
    return 0 < (stored - window) & WINDOW_MASK < _HALF


def carried(packed: int, window: int) -> int:
    """A packed counter (window number, amount) as it stands for a call in `window`.

    An older window has ended: the amount starts at 0. A later one stays: another process was faster over the
    boundary, or the clock was set back, and neither may win anyone a second helping.
    """
    stored = packed >> AMOUNT_BITS
    if stored == window or (packed and later(stored, window)):
        return packed
    return window << AMOUNT_BITS
