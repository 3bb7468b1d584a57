"""What limits mean, slowly and plainly: the specification the fast counters are compared with.

Every subject keeps what was taken; a rate is a bucket of nanoseconds of work that drains by itself.
Imports nothing of the code under test.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass
class ModelLimits:
    uses: int | None = None
    rate: tuple[int, int, int] | None = None  # count, seconds, burst
    address_rate: tuple[int, int, int] | None = None
    concurrency: int | None = None
    quotas: dict[str, int] = field(default_factory=dict)  # hour | day | month -> calls
    budgets: dict[str, int] = field(default_factory=dict)  # hour | day | month -> micros


@dataclass
class Bucket:
    interval: int
    burst: int
    work: int = 0
    at: int = 0

    def drain(self, now: int) -> None:
        self.work = max(0, self.work - (now - self.at))
        self.at = now


@dataclass
class Subject:
    limits: ModelLimits
    uses: int = 0
    buckets: dict[bytes | None, Bucket] = field(default_factory=dict)
    open_calls: int = 0
    amounts: dict[tuple[str, str], tuple[int, int]] = field(
        default_factory=dict
    )  # what, kind -> window, amount

    def bucket(self, rate: tuple[int, int, int], address: bytes | None) -> Bucket:
        count, seconds, burst = rate
        interval = -(-seconds * 10**9 // count)
        return self.buckets.setdefault(address, Bucket(interval, burst))

    def amount(self, what: str, kind: str, wall: float) -> tuple[int, int]:
        window, amount = self.amounts.get((what, kind), (-1, 0))
        current = window_of(kind, wall)
        return (window, amount) if window >= current else (current, 0)


def window_of(kind: str, wall: float) -> int:
    time = datetime.fromtimestamp(wall, UTC)
    if kind == "month":
        return time.year * 12 + time.month
    days = time.toordinal()
    return days if kind == "day" else days * 24 + time.hour


@dataclass
class Taken:
    cost: int
    at: int
    buckets: list[Bucket]
    charged: list[tuple[Subject, str, str, int, int]]
    subjects: list[Subject]
    open: bool = True


class LimitsModel:
    """The subjects of one chain of keys."""

    def __init__(self, levels: list[ModelLimits]) -> None:
        self.subjects = [Subject(limits) for limits in levels]

    def reserve(
        self, levels: list[int], cost: int | None, wall: float, now: int, address: bytes
    ) -> str | Taken:
        subjects = [self.subjects[level] for level in levels]
        for subject in subjects:
            if subject.limits.uses is not None and subject.uses >= subject.limits.uses:
                return "USES_EXHAUSTED"
        buckets = [s.bucket(s.limits.rate, None) for s in subjects if s.limits.rate]
        buckets += [s.bucket(s.limits.address_rate, address) for s in subjects if s.limits.address_rate]
        for bucket in buckets:
            bucket.drain(now)
            if bucket.work > (bucket.burst - 1) * bucket.interval:
                return "RATE_LIMITED"
        for subject in subjects:
            if subject.limits.concurrency is not None and subject.open_calls >= subject.limits.concurrency:
                return "CONCURRENCY_LIMITED"
        charges = []
        for subject in subjects:
            for kind, limit in subject.limits.quotas.items():
                window, amount = subject.amount("quota", kind, wall)
                if amount + 1 > limit:
                    return "QUOTA_EXCEEDED"
                charges.append((subject, "quota", kind, window, amount + 1))
        for subject in subjects:
            for kind, limit in subject.limits.budgets.items():
                window, amount = subject.amount("budget", kind, wall)
                if cost is None or amount + cost > limit:
                    return "BUDGET_EXCEEDED"
                charges.append((subject, "budget", kind, window, amount + cost))
        for subject in subjects:
            subject.uses += 1
            subject.open_calls += 1
        for bucket in buckets:
            bucket.work += bucket.interval
        for subject, what, kind, window, amount in charges:
            subject.amounts[what, kind] = (window, amount)
        return Taken(cost or 0, now, buckets, charges, subjects)

    def settle(self, taken: Taken, actual: int) -> None:
        if taken.open:
            taken.open = False
            for subject in taken.subjects:
                subject.open_calls -= 1
            self._change(taken, "budget", actual - taken.cost)

    def give_back(self, taken: Taken, now: int) -> None:
        if taken.open:
            taken.open = False
            for subject in taken.subjects:
                subject.open_calls -= 1
                subject.uses -= 1
            for bucket in taken.buckets:
                bucket.drain(now)
                bucket.work = max(0, bucket.work - max(0, bucket.interval - (now - taken.at)))
            self._change(taken, "budget", -taken.cost)
            self._change(taken, "quota", -1)

    def _change(self, taken: Taken, what: str, change: int) -> None:
        for subject, charged, kind, window, _ in taken.charged:
            held, amount = subject.amounts[charged, kind]
            if charged == what and held == window:
                subject.amounts[charged, kind] = (window, max(0, amount + change))
