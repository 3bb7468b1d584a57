"""What keys were used for, hour by hour, accumulated from records as the tailer brings them. Pure: the store
keeps what `take` hands out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from valetkey.decision.codes import Code
from valetkey.journal.records import AnyRecord, Closed, Flood, Opened, Personal

HOUR = 3600

MOST_SEEN = 256
"""Addresses, and user agents, remembered for one key: enough to see that a key is shared onward, too few to
fill memory from outside. Beyond, the one unused for longest is forgotten and counted."""


class HourUse(msgspec.Struct):
    """Use of one key in one hour."""

    calls: int = 0
    allowed: int = 0
    refused: dict[str, int] = {}
    """Code -> calls. A call that passed and then failed (UPSTREAM_FAILED and kin) counts as allowed."""
    given_back: int = 0
    """Of those allowed: calls that count against no limit."""
    bytes_in: int = 0
    bytes_out: int = 0
    bytes_uncounted: int = 0
    """Of both, those that count against no limit: of calls that were given back, and answers of our own."""
    cost: int = 0
    """Micros."""
    ends: dict[str, int] = {}
    """How allowed calls ended -> calls."""

    def merge(self, other: HourUse) -> None:
        """Add the use of `other`, which covers other records of the same key and hour."""
        self.calls += other.calls
        self.allowed += other.allowed
        self.given_back += other.given_back
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.bytes_uncounted += other.bytes_uncounted
        self.cost += other.cost
        _add(self.refused, other.refused)
        _add(self.ends, other.ends)


def _add(into: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        into[name] = into.get(name, 0) + count


class Seen(msgspec.Struct):
    """When something was used with a key, in seconds since the epoch."""

    first: float
    last: float
    calls: int = 1


class SeenSet(msgspec.Struct):
    """Distinct values used with one key, at most `MOST_SEEN`."""

    values: dict[str, Seen] = {}
    forgotten: int = 0
    """Values pushed out by newer ones; one that comes again counts again."""

    def see(self, value: str, first: float, last: float, calls: int = 1) -> None:
        seen = self.values.get(value)
        if seen is None:
            if len(self.values) >= MOST_SEEN:
                oldest = min(self.values, key=lambda name: self.values[name].last)
                if self.values[oldest].last > last:
                    self.forgotten += 1
                    return
                del self.values[oldest]
                self.forgotten += 1
            self.values[value] = Seen(first, last, calls)
            return
        seen.first = min(seen.first, first)
        seen.last = max(seen.last, last)
        seen.calls += calls

    def merge(self, other: SeenSet) -> None:
        self.forgotten += other.forgotten
        for value, seen in other.values.items():
            self.see(value, seen.first, seen.last, seen.calls)


KeyHour: TypeAlias = tuple[str | None, int]
"""Key id (None: no key of ours) and the hour's first second."""


class Use(msgspec.Struct):
    """Everything accumulated over some records."""

    hours: dict[KeyHour, HourUse] = {}
    addresses: dict[str, SeenSet] = {}
    """Key id -> addresses."""
    user_agents: dict[str, SeenSet] = {}

    def merge(self, other: Use) -> None:
        """Add `other`, which covers other records."""
        for key_hour, use in other.hours.items():
            self.hours.setdefault(key_hour, HourUse()).merge(use)
        for mine, theirs in ((self.addresses, other.addresses), (self.user_agents, other.user_agents)):
            for key, seen in theirs.items():
                mine.setdefault(key, SeenSet()).merge(seen)


class Rollups:
    """Accumulates use. Feed it every record once, in the order of each segment."""

    def __init__(self, open_calls: Mapping[str, Opened] | None = None) -> None:
        """`open_calls`: what an earlier instance had open when its use was stored."""
        self._use = Use()
        self._open: dict[str, Opened] = dict(open_calls or {})

    @property
    def open_calls(self) -> dict[str, Opened]:
        """Calls that have not closed yet: store them with the use, so that a restart loses no cost."""
        return dict(self._open)

    def take(self) -> Use:
        """Hand out what was accumulated since the last time and begin anew."""
        use, self._use = self._use, Use()
        return use

    def add(self, record: AnyRecord, personal: Personal | None = None) -> None:
        """Account for one record. Bytes and cost count in the hour in which their call opened."""
        if isinstance(record, Opened):
            self._opened(record, personal)
        elif isinstance(record, Closed):
            self._closed(record)
        elif isinstance(record, Flood):
            use = self._hour(record.key_id, record.time)
            use.calls += record.count
            _add(use.refused, {record.code: record.count})

    def _hour(self, key: str | None, time: float) -> HourUse:
        return self._use.hours.setdefault((key, int(time) // HOUR * HOUR), HourUse())

    def _opened(self, record: Opened, personal: Personal | None) -> None:
        use = self._hour(record.key_id, record.time)
        use.calls += 1
        if record.code == Code.VALID:
            use.allowed += 1
            self._open[record.call] = record
        else:
            _add(use.refused, {record.code: 1})
        if record.key_id is None or personal is None:
            return
        for sets, value in (
            (self._use.addresses, personal.address),
            (self._use.user_agents, personal.user_agent),
        ):
            if value is not None:
                sets.setdefault(record.key_id, SeenSet()).see(value, record.time, record.time)

    def _closed(self, record: Closed) -> None:
        opened = self._open.pop(record.call, None)
        if opened is None:
            return  # a refusal: it moved no bytes upstream and costs nothing
        use = self._hour(opened.key_id, opened.time)
        use.bytes_in += record.bytes_in
        use.bytes_out += record.bytes_out
        use.cost += record.cost or 0
        use.given_back += record.given_back
        if record.given_back:
            use.bytes_uncounted += record.bytes_in + record.bytes_out
        elif record.code is not None:
            use.bytes_uncounted += record.bytes_out  # what the caller got was a refusal of ours
        _add(use.ends, {record.end: 1})
