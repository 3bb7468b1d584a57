"""Reservations: all limits of a call are taken together or not at all.

A `Plan` is compiled once per key from the limits of the key, its ancestors, holder, service and workspace.
This file holds the plan, the outcomes and the interface; `counter_blocks.py` does the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Protocol

import msgspec

from valetkey.decision.address import Place
from valetkey.decision.call import Now, RateState
from valetkey.decision.codes import Code
from valetkey.decision.counter_layout import (
    BLOCK_CELLS,
    BUDGETS,
    BYTES,
    FIRST_BLOCK,
    MAX_BLOCKS,
    QUOTAS,
    USES,
)
from valetkey.decision.limits import WINDOWS, Limits, calls

CONCURRENCY_RETRY: Final = 1.0
"""Seconds: nobody knows when one ends. Short for a person, long for a loop."""


UNPRICED: Final = (
    "This service has no price, so what a call costs is not known and the budget cannot be counted."
)
SET_PRICE: Final = "Ask whoever runs the gateway to set a price: valetkey service change NAME --price P."
PINNED: Final = "It is pinned to the address that used it first"
"""Why a sticky key refuses a call from elsewhere."""


class BeingCounted(RuntimeError):
    """A limit is new, and what was used before it is still being counted. Ask again in a moment."""


class LimitRefusal(msgspec.Struct, frozen=True, gc=False):
    """The first limit that did not let the call through. Nothing was spent anywhere."""

    code: Code
    level: str
    limit: str
    """In words: ``5 a second``."""
    sentence: str
    retry_after: float | None = None
    """Seconds, where waiting helps."""
    rate: RateState | None = None
    next_step: str | None = None
    """What to do, where that is not what the code says; then the sentence stands for the code's, too."""


class Level(msgspec.Struct, frozen=True):
    """One subject whose limits a call must respect, and the block of counters that is its own."""

    name: str
    """``key``, ``ancestor``, ``holder``, ``service`` or ``workspace``."""
    block: int
    limits: Limits
    sticky: bool = False
    """Whether the first call pins it to an address."""

    @classmethod
    def compile(cls, name: str, block: int, limits: Limits, *, sticky: bool = False) -> Level:
        """A level of a plan. Raises ValueError for a block number that cannot be."""
        if not 0 <= block < MAX_BLOCKS:
            raise ValueError(f"There is no block of counters {block}.")
        return cls(name, block, limits, sticky)

    @property
    def limited(self) -> bool:
        return self.sticky or not self.limits.unlimited


class Checks(msgspec.Struct, frozen=True, gc=False):
    """What is to be checked, in plain integers; shared by all plans whose levels have the same limits.

    Each entry begins with the number of its level; the order of the fields is the order of the checks.
    """

    sticky: tuple[int, ...]
    """Levels that are pinned to an address, or are to be."""
    uses: tuple[tuple[int, int], ...]
    """Level, limit."""
    rates: tuple[tuple[int, int, int], ...]
    """Level, interval, tolerance."""
    address_rates: tuple[tuple[int, int, int], ...]
    concurrency: tuple[tuple[int, int], ...]
    """Level, limit."""
    quotas: tuple[tuple[int, int, int, int], ...]
    """Level, cell, window (0 hour, 1 day, 2 month), limit."""
    bytes: tuple[tuple[int, int, int, int], ...]
    budgets: tuple[tuple[int, int, int, int], ...]
    counted: tuple[int, ...]
    """Levels that have a counter in their block."""


@lru_cache(maxsize=4096)
def _checks(limits: tuple[Limits, ...], sticky: tuple[int, ...] = ()) -> Checks:
    levels = tuple(enumerate(limits))
    return Checks(
        sticky=sticky,
        uses=tuple((i, own.uses) for i, own in levels if own.uses is not None),
        rates=tuple((i, own.rate.interval, own.rate.tolerance) for i, own in levels if own.rate),
        address_rates=tuple(
            (i, own.address_rate.interval, own.address_rate.tolerance)
            for i, own in levels
            if own.address_rate
        ),
        concurrency=tuple((i, own.concurrency) for i, own in levels if own.concurrency is not None),
        quotas=tuple(
            (i, QUOTAS + WINDOWS.index(quota.window), WINDOWS.index(quota.window), quota.count)
            for i, own in levels
            for quota in own.quotas
        ),
        bytes=tuple(
            (i, BYTES + WINDOWS.index(volume.window), WINDOWS.index(volume.window), volume.size)
            for i, own in levels
            for volume in own.bytes
        ),
        budgets=tuple(
            (i, BUDGETS + WINDOWS.index(budget.window), WINDOWS.index(budget.window), budget.micros)
            for i, own in levels
            for budget in own.budgets
        ),
        counted=tuple(i for i, own in levels if i in sticky or own != Limits(address_rate=own.address_rate)),
    )


class Plan(msgspec.Struct, gc=False, eq=False):
    """All limits of one key, ready to be taken. Made as ``Plan(levels)``; the other fields follow from it."""

    levels: tuple[Level, ...]
    """Those without limits are left out."""
    checks: Checks = _checks(())
    bases: tuple[int, ...] = ()
    """First cell of each level's block."""
    spans: tuple[tuple[int, int], ...] = ()
    """Blocks that must be held together, as (first, number), ascending and not touching."""
    top: int = -1
    """Highest block number used."""
    locks: tuple[bytes, ...] | None = None
    """Kept here by counters that lock a file: the prepared arguments of the lock calls."""

    def __post_init__(self) -> None:
        self.levels = tuple(level for level in self.levels if level.limited)
        blocks = [level.block for level in self.levels]
        if len(set(blocks)) != len(blocks):
            raise ValueError("Two levels of a plan share a block of counters. Give each subject its own.")
        sticky = tuple(place for place, level in enumerate(self.levels) if level.sticky)
        self.checks = _checks(tuple(level.limits for level in self.levels), sticky)
        self.bases = tuple(FIRST_BLOCK + block * BLOCK_CELLS for block in blocks)
        counted = [blocks[i] for i in self.checks.counted]
        self.spans = _spans(counted)
        self.top = max(counted, default=-1)


def _spans(blocks: Iterable[int]) -> tuple[tuple[int, int], ...]:
    spans: list[tuple[int, int]] = []
    for block in sorted(blocks):
        if spans and sum(spans[-1]) == block:
            spans[-1] = (spans[-1][0], spans[-1][1] + 1)
        else:
            spans.append((block, 1))
    return tuple(spans)


def counted_cells(limits: Limits) -> frozenset[int]:
    """Cells of a block that count for these limits and that a journal can prove: uses, quotas, bytes, budgets."""
    quotas = (QUOTAS + WINDOWS.index(quota.window) for quota in limits.quotas)
    budgets = (BUDGETS + WINDOWS.index(budget.window) for budget in limits.budgets)
    volumes = (BYTES + WINDOWS.index(volume.window) for volume in limits.bytes)
    return frozenset((*quotas, *volumes, *budgets, *(() if limits.uses is None else (USES,))))


class Reserved(msgspec.Struct, gc=False, eq=False):
    """What one call holds until it is settled or given back, whichever comes first."""

    plan: Plan
    cost_micros: int
    at: int
    """Nanoseconds of CLOCK_MONOTONIC."""
    address_cells: tuple[int, ...]
    values: list[int]
    """The counters as they were written, in the order of the checks: they tell the windows charged."""
    open: bool = True
    pinned: tuple[int, ...] = ()
    """Blocks of keys that this call pinned to its address."""
    size: int = 0
    """Bytes that were charged so far."""
    charged: list[int] = msgspec.field(default_factory=list)
    """Of them, at each limit of bytes, what was charged to the latest window: as in the counter."""
    followed: Plan | None = None
    """The plan whose limits of bytes count since they were changed while the call was open."""

    @property
    def metered(self) -> Plan:
        """The plan whose limits of bytes count."""
        return self.plan if self.followed is None else self.followed


class Counters(Protocol):
    """Where limits are kept. Every way in which a call is judged goes through one of these."""

    def reserve(
        self, plan: Plan, cost_micros: int | None, now: Now, address: bytes | None = None, size: int = 0
    ) -> Reserved | LimitRefusal:
        """Take everything the call needs, or nothing. `cost_micros` is the worst case, None where unknown; `size`
        the bytes that are known before."""

    def peek(
        self, plan: Plan, cost_micros: int | None, now: Now, address: bytes | None = None, size: int = 0
    ) -> LimitRefusal | None:
        """What `reserve` would refuse, without taking anything."""

    def pins(self, plan: Plan) -> tuple[tuple[bool, Place], ...]:
        """What the key (True) and those that it comes from (False) are pinned to, for `decide`."""

    def meter(self, reserved: Reserved, size: int, now: Now) -> LimitRefusal | None:
        """Charge bytes that are about to pass, or say which limit does not let them."""

    def settle(
        self, reserved: Reserved, actual_micros: int | None = None, actual_bytes: int | None = None
    ) -> None:
        """The call has ended, cost this much and moved so many bytes (None: as charged). Twice is once."""

    def give_back(self, reserved: Reserved, now: Now) -> None:
        """The call never left: undo all of it. Twice is once."""


def not_from_there(level: Level) -> LimitRefusal:
    """Another call was faster, from another address."""
    above = "" if level.name == "key" else " (set where this key comes from)"
    return LimitRefusal(Code.NETWORK_DENIED, level.name, "", f"{PINNED}{above}.")


def used_up(level: Level) -> LimitRefusal:
    """All uses are spent."""
    uses = level.limits.uses or 0
    return _refusal(Code.USES_EXHAUSTED, level, f"{calls(uses)} in all")


def too_fast(level: Level, wait: int, *, from_address: bool = False) -> LimitRefusal:
    """The next call passes in `wait` nanoseconds."""
    rate = level.limits.address_rate if from_address else level.limits.rate
    assert rate is not None
    seconds = wait / 1_000_000_000
    name, where = (f"{level.name}-address", " from each address") if from_address else (level.name, "")
    state = RateState(name, rate.count, rate.per_seconds, remaining=0, reset=seconds)
    return _refusal(Code.RATE_LIMITED, level, rate.words() + where, retry_after=seconds, rate=state)


def too_many_open(level: Level) -> LimitRefusal:
    """As many calls are open as may be."""
    limit = f"{calls(level.limits.concurrency or 0)} in progress at the same time"
    return _refusal(Code.CONCURRENCY_LIMITED, level, limit, retry_after=CONCURRENCY_RETRY)


def over_quota(level: Level, window: int) -> LimitRefusal:
    """The calls of this window are spent."""
    quota = next(quota for quota in level.limits.quotas if quota.window is WINDOWS[window])
    return _refusal(Code.QUOTA_EXCEEDED, level, quota.words())


def over_bytes(level: Level, window: int) -> LimitRefusal:
    """The bytes of this window are spent, or what is left of them is too little for the call."""
    volume = next(volume for volume in level.limits.bytes if volume.window is WINDOWS[window])
    limit = f"{volume.words()}, sent and received"
    sentence = f"It would move more than the {level.name}'s limit leaves: {limit}."
    return _refusal(Code.QUOTA_EXCEEDED, level, limit, sentence)


def over_budget(level: Level, window: int, cost_micros: int | None) -> LimitRefusal:
    """The call would cost more than this window has left, or nobody knows what it costs."""
    budget = next(budget for budget in level.limits.budgets if budget.window is WINDOWS[window])
    if cost_micros is None:
        return LimitRefusal(Code.BUDGET_EXCEEDED, level.name, budget.words(), UNPRICED, next_step=SET_PRICE)
    return _refusal(Code.BUDGET_EXCEEDED, level, budget.words())


def _refusal(
    code: Code,
    level: Level,
    limit: str,
    sentence: str | None = None,
    *,
    retry_after: float | None = None,
    rate: RateState | None = None,
) -> LimitRefusal:
    said = sentence or f"The {level.name}'s limit is reached: {limit}."
    return LimitRefusal(code, level.name, limit, said, retry_after, rate)
