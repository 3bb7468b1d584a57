"""A key's policy (restrictions and limits, plain data) and its compiled form, ready to judge calls."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from math import inf

import msgspec

from valetkey.decision.codes import Code
from valetkey.decision.limits import Limits
from valetkey.decision.reservation import Level, Plan
from valetkey.decision.restrictions import RESTRICTIONS, AnyRestriction, Endpoints
from valetkey.decision.restrictions.base import CompileContext, InvalidRestriction, Judge
from valetkey.decision.restrictions.endpoints import CompiledEndpoints

MAX_DEPTH = 3
"""A key, its parent, its grandparent: derived keys go no deeper."""


class Policy(msgspec.Struct, frozen=True):
    """What a key opens and how much. Equal policies are stored and compiled once."""

    restrictions: tuple[AnyRestriction, ...] = ()
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        kinds = [type(restriction) for restriction in self.restrictions]
        if len(set(kinds)) != len(kinds):
            raise InvalidRestriction("A policy holds each kind of restriction at most once.")

    def sentences(self) -> tuple[str, ...]:
        """The whole policy in words, a sentence a restriction or limit."""
        return (*(f"{r.sentence()}." for r in self.restrictions), *self.limits.sentences())

    def find(self, kind: type[AnyRestriction]) -> AnyRestriction | None:
        """The restriction of that kind, if the policy has one."""
        return next((r for r in self.restrictions if isinstance(r, kind)), None)


class State(StrEnum):
    """Whether a key, an ancestor, a holder or an agreement stands."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    REVOKED = "revoked"


class Standing(msgspec.Struct, frozen=True, gc=False):
    """One thing a key's life hangs on: the key itself, an ancestor, its holder, its agreement."""

    state: State = State.ACTIVE
    expires: float = inf
    """Seconds since the epoch; the instant itself is already too late."""
    begins: float = -inf
    """Seconds since the epoch; before it nothing stands yet."""


class CompiledPolicy(msgspec.Struct, frozen=True):
    """The judges of one policy in the order of their codes, with the endpoint matcher for templates."""

    policy: Policy
    judges: tuple[tuple[Code, Judge, str], ...]
    endpoints: CompiledEndpoints


class CompiledKey(msgspec.Struct, frozen=True, gc=False):
    """All that `decide` needs to know of one key."""

    service: str
    service_locked: bool
    standings: tuple[Standing, ...]
    policies: tuple[CompiledPolicy, ...]
    """The key's own policy first, then those of its ancestors, then those of agreements: all must allow."""
    plan: Plan
    agreed: int = 0
    """How many of the policies, at the end, are those of agreements."""


def compile_policy(policy: Policy, context: CompileContext) -> CompiledPolicy:
    """Compile every restriction once. Raises `InvalidRestriction` for names that do not exist any more."""
    order = {kind: place for place, kind in enumerate(RESTRICTIONS)}
    endpoints = policy.find(Endpoints)
    # Wide endpoints are closed to keys without any endpoint restriction too, so the matcher always stands.
    restrictions: list[AnyRestriction] = [r for r in policy.restrictions if not isinstance(r, Endpoints)]
    matcher = (endpoints if isinstance(endpoints, Endpoints) else Endpoints()).compile(context)
    judges: list[tuple[int, Code, Judge, str]] = [
        (order[type(r)], r.code, r.compile(context), r.sentence()) for r in restrictions
    ]
    if endpoints is not None or context.wide:
        sentence = endpoints.sentence() if endpoints is not None else "Wide endpoints only where named"
        judges.append((order[Endpoints], Endpoints.code, matcher, sentence))
    judges.sort(key=lambda judge: judge[0])
    return CompiledPolicy(
        policy, tuple((code, judge, sentence) for _, code, judge, sentence in judges), matcher
    )


def compile_key(
    *,
    service: str,
    service_locked: bool,
    standings: Sequence[Standing],
    policies: Sequence[CompiledPolicy],
    levels: Sequence[Level],
    agreed: int = 0,
) -> CompiledKey:
    """Put one key together from its parts. `agreed`: how many policies, at the end, are those of agreements."""
    return CompiledKey(
        service=service,
        service_locked=service_locked,
        standings=tuple(standings),
        policies=tuple(policies),
        plan=Plan(tuple(levels)),
        agreed=agreed,
    )
