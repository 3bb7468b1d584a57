"""One worker's state: what it knows, what it may spend, what it has open, and whether it may answer at all."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from valetkey.decision.call import Call, Decision, Now
from valetkey.decision.codes import CODES, Code
from valetkey.decision.counter_blocks import NotEnlisted
from valetkey.decision.decide import decide, refuse
from valetkey.decision.limits import MAX_CLOCK_LAG
from valetkey.decision.reservation import LimitRefusal, Reserved
from valetkey.gateway.counters import SharedCounters
from valetkey.gateway.counters_file import CountersUnavailable
from valetkey.gateway.entries import KeyEntry
from valetkey.gateway.exposed import ExposedKeys
from valetkey.gateway.index import KeyIndex
from valetkey.gateway.open_call import OpenCall
from valetkey.gateway.pinned import PinnedKeys
from valetkey.gateway.turn import Turn
from valetkey.journal.disk import Room
from valetkey.journal.records import End
from valetkey.journal.segment import SegmentWriter
from valetkey.readiness import Missing
from valetkey.settings import Settings

_HOST = re.compile(r"(\[[^\[\],]+\]|[^\[\]:,]+)(?::[0-9]+)?")
"""A host and perhaps a port (RFC 9110, section 7.2)."""
MAX_HOSTS = 64
"""Spellings of our own names that are remembered."""


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> Now: ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> Now:
        return Now(time.time(), time.monotonic_ns())


def milliseconds(since: int, now: Now) -> float:
    """From `since` (nanoseconds of the monotonic clock) to `now`, in milliseconds with three places."""
    return (now.monotonic - since) // 1000 / 1000


class Node:
    """Everything a call meets inside one worker."""

    def __init__(
        self,
        *,
        index: KeyIndex,
        counters: SharedCounters,
        journal: SegmentWriter,
        settings: Settings,
        boottime: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        clock: Clock | None = None,
    ) -> None:
        self.index = index
        self.counters = counters
        self.journal = journal
        self.settings = settings
        self.clock = clock or SystemClock()
        self.boottime = boottime
        self.lease_until = 0
        """Nanoseconds of CLOCK_BOOTTIME until which this worker may answer."""
        self.loaded = False
        self.draining = False
        self.replaced = False
        """Whether another worker holds our slot, so that this one must end."""
        self.clock_behind = False
        self.disk_low = False
        self._room = Room(journal.folder)
        self.host_names = settings.host_names
        self._hosts: dict[bytes, bool] = {}
        """Host headers that were found to name this server."""
        self.turn = Turn(journal, lambda: self.boottime() < self.lease_until)
        """Where every record of a call goes through."""
        self.exposed = ExposedKeys()
        self.pinned = PinnedKeys()
        self.open: dict[str, set[OpenCall]] = {}
        """Open exchanges by key id: what a revoke has to cut."""

    def answers_to(self, host: bytes) -> bool:
        """Whether a Host header names this server, with or without a port. An empty one, or two joined, do not."""
        answers = self._hosts.get(host)
        if answers is None:
            text = host.decode("latin-1").lower()
            read = _HOST.fullmatch(text)
            answers = read is not None and read[1] in self.host_names
            if answers and len(self._hosts) < MAX_HOSTS:
                self._hosts[host] = answers
        return answers

    def unready(self) -> Missing | None:
        """Why this node cannot decide now, or None: the first of `missing`."""
        return next(self._lacks(), None)

    def missing(self) -> list[Missing]:
        """All that keeps this node from deciding."""
        return list(self._lacks())

    def _lacks(self) -> Iterator[Missing]:
        if not self.loaded:
            yield Missing.KEYS
        if self.boottime() >= self.lease_until:
            yield Missing.CONTROL
        if self.journal.failed:
            yield Missing.JOURNAL
        if self.draining:
            yield Missing.STOPPING
        if self.disk_low:
            yield Missing.DISK
        if self.clock_behind:
            yield Missing.CLOCK

    def look_around(self) -> None:
        """Look at the clock and the disk; called by the worker's timer, so that no call pays for it."""
        now = self.clock.now()
        self.clock_behind = now.wall < self.index.newest - MAX_CLOCK_LAG
        self.index.newest = max(self.index.newest, now.wall)
        self.disk_low = not self._room.enough(now.monotonic)

    def judge(
        self,
        entry: KeyEntry,
        call: Call,
        now: Now,
        cost: int | None,
        address: bytes | None,
        size: int = 0,
    ) -> tuple[Decision, Reserved | None]:
        """Decide and, where allowed, reserve: the two steps every door goes through. `size`: bytes of its body.

        Raises `BeingCounted`: the door judges again (`gateway/counted.py`).
        """
        key = self.index.compiled(entry)
        try:
            pins = self.counters.pins(key.plan) if key.plan.checks.sticky else ()
            decision = decide(key, call, now.wall, pins)
            if decision.code is not Code.VALID or not key.plan.levels:
                return decision, None
            outcome = self.counters.reserve(key.plan, cost, now, address, size)
        except CountersUnavailable:
            return refuse(Code.NOT_READY, "The counters of this key's limits cannot be used."), None
        except NotEnlisted:
            # Another worker was started in our place: we should be dead already.
            self.replaced = True
            return refuse(Code.NOT_READY), None
        if isinstance(outcome, Reserved):
            for pinned in self.index.line(entry) if outcome.pinned else ():
                if pinned.block in outcome.pinned:
                    self.pinned.add(pinned.id)
            return decision, outcome
        return refused_by_limit(outcome, decision.endpoint), None

    def enter(self, exchange: OpenCall) -> None:
        """Note an open exchange."""
        found = self.open.get(exchange.key_id)
        if found is None:
            self.open[exchange.key_id] = {exchange}
        else:
            found.add(exchange)

    def leave(self, exchange: OpenCall) -> None:
        """The exchange has ended."""
        found = self.open.get(exchange.key_id)
        if found is not None:
            found.discard(exchange)
            if not found:
                del self.open[exchange.key_id]

    def follow_limits(self) -> None:
        """The index has changed: what is open counts at the limits of bytes that its keys have now."""
        for key_id, exchanges in self.open.items():
            plan = self.index.plan(key_id)
            if plan is not None:
                for exchange in exchanges:
                    exchange.follow(plan)

    def cut_dead(self, key_ids: list[str], wall: float) -> int:
        """Cut the open exchanges of those keys that no longer allow them; return how many."""
        cut = 0
        for key_id in dict.fromkeys(key_ids):
            exchanges = self.open.get(key_id)
            if not exchanges:
                continue
            entry = self.index.get(key_id)
            key = None if entry is None else self.index.compiled(entry)
            for exchange in list(exchanges):
                # Judged anew as it stands: revoked, suspended, narrowed and locked all end it.
                code = decide(key, exchange.call, wall).code
                if code is not Code.VALID and exchange.cut(End.CUT_BY_REVOKE, code):
                    cut += 1
        return cut

    def cut_all(self, end: End, why: Code) -> int:
        """Cut everything that is open: the lease has run out or the node shuts down."""
        exchanges = [exchange for group in self.open.values() for exchange in group]
        return sum(exchange.cut(end, why) for exchange in exchanges)

    def cut_expired(self, wall: float) -> int:
        """Cut the exchanges of keys whose time is over: an end promises what a revoke does."""
        cut = 0
        for key_id in list(self.open):
            entry = self.index.get(key_id)
            if entry is not None and any(s.expires <= wall for s in self.index.compiled(entry).standings):
                cut += self.cut_dead([key_id], wall)
        return cut

    def cut_late(self, monotonic: float) -> int:
        """Cut what has waited too long for its upstream or its caller."""
        late = [e for group in self.open.values() for e in group if e.deadline < monotonic]
        for exchange in late:
            exchange.cut(End.TIMEOUT, Code.UPSTREAM_TIMEOUT)
        return len(late)


def refused_by_limit(refusal: LimitRefusal, endpoint: str | None) -> Decision:
    """The decision that a limit's refusal makes."""
    return Decision(
        refusal.code,
        refusal.sentence if refusal.next_step else f"{CODES[refusal.code].sentence} {refusal.sentence}",
        endpoint,
        refusal.limit or None,
        refusal.retry_after,
        refusal.rate,
        refusal.next_step,
    )
