"""How one call went, as far as it is known: what its record will tell."""

from __future__ import annotations

from valetkey.decision.codes import Code
from valetkey.gateway.node import Clock, milliseconds
from valetkey.gateway.spending import Spending
from valetkey.journal.records import Closed, End


class Outcome:
    """Of one allowed call."""

    __slots__ = (
        "_clock", "_first_byte_ms", "_started_ns", "bytes_in", "bytes_out",
        "cause", "code", "status", "upstream_status",
    )  # fmt: skip

    def __init__(self, clock: Clock, started_ns: int) -> None:
        """`started_ns`: of the monotonic clock."""
        self._clock = clock
        self._started_ns = started_ns
        self._first_byte_ms: float | None = None
        self.bytes_in = 0
        """Of the caller's body, those that went on, or may have."""
        self.bytes_out = 0
        self.cause: str | None = None
        self.code: Code | None = None
        """Of an answer of our own."""
        self.status: int | None = None
        """As the caller sees it."""
        self.upstream_status: int | None = None

    @property
    def moved(self) -> int:
        """Bytes handed on so far, in both directions."""
        return self.bytes_in + self.bytes_out

    def spent(self, received: int) -> int:
        """Bytes that count at limits, where so many came of the caller's body. An answer of our own does not."""
        return received + (self.bytes_out if self.code is None else 0)

    def answered(self, status: int) -> None:
        """The answer begins now."""
        self.status = status
        self._first_byte_ms = milliseconds(self._started_ns, self._clock.now())

    def closed(self, call_id: str, end: End, received: int, spending: Spending) -> Closed:
        """The record of the end, now. `received`: bytes that came of the caller's body."""
        now = self._clock.now()
        return Closed(
            call_id,
            now.wall,
            end,
            code=self.code,
            status=self.status,
            upstream_status=self.upstream_status,
            cause=self.cause,
            bytes_in=received,
            bytes_out=self.bytes_out,
            first_byte_ms=self._first_byte_ms,
            last_byte_ms=milliseconds(self._started_ns, now),
            cost=spending.cost,
            given_back=spending.given_back,
        )
