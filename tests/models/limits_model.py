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
    bytes: dict[str, int] = field(default_factory=dict)  # hour | day | month -> bytes


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


def fits(subject: Subject, size: int, wall: float) -> bool:
    """Whether a call or a piece of that many bytes may still pass. None may where nothing is left."""
    for kind, limit in subject.limits.bytes.items():
        _, amount = subject.amount("bytes", kind, wall)
        if amount >= limit or amount + size > limit:
            return False
    return True


@dataclass
class Taken:
    cost: int
    at: int
    buckets: list[Bucket]
    charged: list[tuple[Subject, str, str, int, int]]
    subjects: list[Subject]
    open: bool = True
    moved: int = 0
    metered: dict[tuple[int, str], tuple[int, int]] = field(
        default_factory=dict
    )  # subject, kind -> latest window, bytes charged to it


class LimitsModel:
    """The subjects of one chain of keys."""

    def __init__(self, levels: list[ModelLimits]) -> None:
        self.subjects = [Subject(limits) for limits in levels]

    def reserve(
        self, levels: list[int], cost: int | None, wall: float, now: int, address: bytes, size: int = 0
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
        if not all(fits(subject, size, wall) for subject in subjects):
            return "QUOTA_EXCEEDED"
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
        made = Taken(cost or 0, now, buckets, charges, subjects)
        self._move(made, size, wall)
        return made

    def meter(self, taken: Taken, size: int, wall: float) -> str | None:
        """More bytes are about to pass."""
        if not all(fits(subject, size, wall) for subject in taken.subjects):
            return "QUOTA_EXCEEDED"
        self._move(taken, size, wall)
        return None

    def _move(self, taken: Taken, size: int, wall: float) -> None:
        taken.moved += size
        for place, subject in enumerate(taken.subjects):
            for kind in subject.limits.bytes:
                window, amount = subject.amount("bytes", kind, wall)
                subject.amounts["bytes", kind] = (window, amount + size)
                held, before = taken.metered.get((place, kind), (window, 0))
                taken.metered[place, kind] = (window, size + (before if held == window else 0))

    def _correct_bytes(self, taken: Taken, change: int) -> None:
        for (place, kind), (window, charged) in taken.metered.items():
            subject = taken.subjects[place]
            held, amount = subject.amounts["bytes", kind]
            if change > 0:
                subject.amounts["bytes", kind] = (held, amount + change)
            elif held == window:
                subject.amounts["bytes", kind] = (held, max(0, amount - min(-change, charged)))

    def settle(self, taken: Taken, actual: int, moved: int | None = None) -> None:
        if taken.open:
            taken.open = False
            if moved is not None:
                self._correct_bytes(taken, moved - taken.moved)
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
            for (place, kind), (window, charged) in taken.metered.items():
                held, amount = taken.subjects[place].amounts["bytes", kind]
                if held == window:
                    taken.subjects[place].amounts["bytes", kind] = (held, max(0, amount - charged))

    def _change(self, taken: Taken, what: str, change: int) -> None:
        for subject, charged, kind, window, _ in taken.charged:
            held, amount = subject.amounts[charged, kind]
            if charged == what and held == window:
                subject.amounts[charged, kind] = (window, max(0, amount + change))
