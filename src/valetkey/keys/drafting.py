"""From flags to a policy: what was given, the kind's defaults where nothing was, and what a kind insists on."""

from __future__ import annotations

from typing import Any

import msgspec

from valetkey.decision.limits import Limits
from valetkey.decision.policy import Policy
from valetkey.decision.restrictions import (
    AnyRestriction,
    Endpoints,
    Hosts,
    Networks,
    Origins,
    Schedule,
    Sticky,
)
from valetkey.errors import Invalid
from valetkey.keys.kinds import KeyKind, KindDefaults, defaults_of
from valetkey.limits.terms import LimitTerms, flags_of, limits_of, made, merge


class Terms(LimitTerms, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Restrictions and limits as flags of `key issue` and `key change`; None: not given."""

    networks: tuple[str, ...] | None = None
    origins: tuple[str, ...] | None = None
    hosts: tuple[str, ...] | None = None
    endpoints: tuple[str, ...] | None = None
    deny_endpoints: tuple[str, ...] | None = None
    schedule: str | None = None
    sticky: bool | None = None
    """Whether the first call pins the key to its address."""
    uses: int | None = None


def draft_policy(terms: Terms, kind: KeyKind, agreed: Limits | None = None) -> Policy:
    """The policy of a new key. Raises `Invalid` for flags that cannot be, and where the kind insists on more.

    `agreed`: limits of the partner's agreement. The kind's defaults are for what it leaves open.
    """
    defaults = defaults_of(kind)
    if agreed is not None and agreed.rate is not None:
        defaults = msgspec.structs.replace(defaults, rate=None, burst=None)
    if agreed is not None and agreed.concurrency is not None:
        defaults = msgspec.structs.replace(defaults, concurrency=None)
    if terms.clear:
        raise Invalid(
            "A new key has nothing that could be cleared.", "Issue it, then change it.", field="clear"
        )
    if kind is KeyKind.PUBLIC and not (terms.networks or terms.origins or terms.endpoints):
        raise Invalid(
            "A public key can be read by anyone, so it must be tied to something.",
            "Give --origin, --network or --endpoint.",
        )
    _check_sticky(terms, kind)
    return _build(terms, defaults)


def change_policy(old: Policy, terms: Terms, kind: KeyKind) -> Policy:
    """The policy with what was given in the place of what was there. An empty list takes a restriction away."""
    merged = merge(_flags_of(old), terms)
    _check_sticky(merged, kind)
    policy = _build(merged, KindDefaults())
    if kind is KeyKind.PUBLIC:
        if not (merged.networks or merged.origins or merged.endpoints):
            raise Invalid("A public key must stay tied to something.", "Keep an origin, network or endpoint.")
        if policy.limits.rate is None:
            raise Invalid("A public key must keep a rate.", "Give --rate, such as 5/s.")
        limits = msgspec.structs.replace(policy.limits, address_rate=old.limits.address_rate)
        policy = msgspec.structs.replace(policy, limits=limits)
    return policy


def _check_sticky(terms: Terms, kind: KeyKind) -> None:
    if kind is KeyKind.PUBLIC and terms.sticky:
        raise Invalid(
            "A public key is for everyone, so no first caller keeps it.",
            "Give --origin, --network or --endpoint.",
            field="sticky",
        )


def _build(terms: Terms, defaults: KindDefaults) -> Policy:
    restrictions: list[AnyRestriction] = []
    if terms.networks:
        restrictions.append(made("networks", lambda: Networks(terms.networks or ())))
    if terms.sticky:
        restrictions.append(Sticky())
    if terms.origins:
        restrictions.append(made("origins", lambda: Origins(terms.origins or ())))
    if terms.hosts:
        restrictions.append(made("hosts", lambda: Hosts(terms.hosts or ())))
    allow = terms.endpoints or ()
    if not allow and defaults.methods:
        allow = tuple(f"{method} /**" for method in defaults.methods)
    if allow or terms.deny_endpoints:
        restrictions.append(made("endpoints", lambda: Endpoints(allow, terms.deny_endpoints or ())))
    schedule = terms.schedule
    if schedule:
        restrictions.append(made("schedule", lambda: Schedule.parse(schedule)))
    return Policy(tuple(restrictions), _limits(terms, defaults))


def _limits(terms: Terms, defaults: KindDefaults) -> Limits:
    # A rate that is given brings its own burst: the default's belongs to the default's rate.
    return limits_of(
        rate=terms.rate or defaults.rate,
        burst=terms.burst if terms.burst is not None or terms.rate is not None else defaults.burst,
        address_rate=defaults.address_rate,
        address_burst=defaults.address_burst,
        concurrency=terms.concurrency if terms.concurrency is not None else defaults.concurrency,
        quotas=defaults.quota if terms.quotas is None else terms.quotas,
        budgets=terms.budgets or (),
        bytes=terms.bytes or (),
        uses=terms.uses if terms.uses is not None else defaults.uses,
    )


def _flags_of(policy: Policy) -> dict[str, Any]:
    """A policy as the flags that make it."""
    flags = flags_of(policy.limits)
    for restriction in policy.restrictions:
        if isinstance(restriction, Networks):
            flags["networks"] = restriction.allow
        elif isinstance(restriction, Origins):
            flags["origins"] = restriction.allow
        elif isinstance(restriction, Hosts):
            flags["hosts"] = restriction.allow
        elif isinstance(restriction, Endpoints):
            flags |= {"endpoints": restriction.allow, "deny_endpoints": restriction.deny}
        elif isinstance(restriction, Sticky):
            flags["sticky"] = True
        elif isinstance(restriction, Schedule):
            flags["schedule"] = "; ".join(restriction.windows)
    return flags
