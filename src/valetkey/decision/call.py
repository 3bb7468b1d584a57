"""A call as the judge sees it, and what the judge answers.

Everything here exists only in judged form: a `JudgedPath` has passed the canonicaliser, an `Address` is
unmapped. What is matched is what is forwarded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from valetkey.decision.codes import CODES, Code

if TYPE_CHECKING:
    from valetkey.decision.address import Address
    from valetkey.decision.listener import Listener
    from valetkey.decision.path import JudgedPath


class Call(msgspec.Struct, frozen=True, gc=False):
    """The facts of one request that restrictions may look at. A missing fact is None and refuses."""

    method: str | None
    path: JudgedPath | None
    service: str | None = None
    """Name of the service the call was sent to."""
    host: str | None = None
    """Name of the upstream host the call goes to (lower case), None where the service has one only."""
    address: Address | None = None
    origin: str | None = None
    """Value of the Origin header as sent, None when there was none."""
    derives: bool = False
    """Whether a key is to be derived: it goes to no host and no endpoint, what it makes is held to them."""
    listener: Listener | None = None
    """Address and port of ours at which it arrived, None where nobody knows."""


class RateState(msgspec.Struct, frozen=True, gc=False):
    """What the ``RateLimit`` headers say of a refusal (draft-ietf-httpapi-ratelimit-headers)."""

    name: str
    count: int
    per_seconds: int
    remaining: int
    reset: float
    """Seconds until the next call passes."""

    @property
    def policy_header(self) -> str:
        return f'"{self.name}";q={self.count};w={self.per_seconds}'

    @property
    def header(self) -> str:
        return f'"{self.name}";r={self.remaining};t={-int(-self.reset // 1)}'


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What was decided about one call, with everything a person needs to understand why."""

    code: Code
    sentence: str
    """Why, in the words of the restriction or limit that decided; else the code's own sentence."""
    endpoint: str | None = None
    """Template of the endpoint rule that matched, e.g. ``GET /v1/models/*``."""
    limit: str | None = None
    """Which limit refused, e.g. ``5 a second``."""
    retry_after: float | None = None
    """Seconds after which the same call may pass, where waiting helps."""
    rate: RateState | None = None
    """The rate that refused, for the RateLimit headers."""
    own_next_step: str | None = None
    """What to do, where that is not what the code says."""

    @property
    def next_step(self) -> str:
        """What to do about it."""
        return self.own_next_step or CODES[self.code].next_step

    @property
    def allowed(self) -> bool:
        return self.code is Code.VALID


class Now(msgspec.Struct, frozen=True, gc=False):
    """The two clocks of a decision."""

    wall: float
    """Seconds since the epoch, UTC: expiry, schedules, windows of quotas and budgets."""
    monotonic: int
    """Nanoseconds of CLOCK_MONOTONIC, shared by all processes of one boot: rates."""
