"""From flags to a policy: what was given, the kind's defaults where nothing was, and what a kind insists on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from valetkey.decision.limits import InvalidLimit, Limits, parse_budget, parse_quota, parse_rate
from valetkey.decision.policy import Policy
from valetkey.decision.restrictions import (
    AnyRestriction,
    Endpoints,
    Hosts,
    InvalidRestriction,
    Networks,
    Origins,
    Schedule,
)
from valetkey.errors import Invalid
from valetkey.keys.kinds import KeyKind, KindDefaults, defaults_of

Made = TypeVar("Made")


class Terms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Restrictions and limits as flags of `key issue` and `key change`; None: not given."""

    networks: tuple[str, ...] | None = None
    origins: tuple[str, ...] | None = None
    hosts: tuple[str, ...] | None = None
    endpoints: tuple[str, ...] | None = None
    deny_endpoints: tuple[str, ...] | None = None
    schedule: str | None = None
    rate: str | None = None
    burst: int | None = None
    concurrency: int | None = None
    quotas: tuple[str, ...] | None = None
    budgets: tuple[str, ...] | None = None
    uses: int | None = None
    clear: tuple[str, ...] | None = None
    """Single values to take away from a key that has them: ``burst``, ``concurrency``, ``uses``."""


CLEARABLE = ("burst", "concurrency", "uses")
"""Terms that have no empty value of their own, so that `clear` takes them away."""


def draft_policy(terms: Terms, kind: KeyKind) -> Policy:
    """The policy of a new key. Raises `Invalid` for flags that cannot be, and where the kind insists on more."""
    defaults = defaults_of(kind)
    if terms.clear:
        raise Invalid(
            "A new key has nothing that could be cleared.", "Issue it, then change it.", field="clear"
        )
    if kind is KeyKind.PUBLIC and not (terms.networks or terms.origins or terms.endpoints):
        raise Invalid(
            "A public key can be read by anyone, so it must be tied to something.",
            "Give --origin, --network or --endpoint.",
        )
    return _build(terms, defaults)


def change_policy(old: Policy, terms: Terms, kind: KeyKind) -> Policy:
    """The policy with what was given in the place of what was there. An empty list takes a restriction away."""
    flags = _flags_of(old)
    for name in terms.clear or ():
        if name not in CLEARABLE:
            raise Invalid(
                "That is nothing that can be cleared so.",
                f"Clear one of {', '.join(CLEARABLE)}.",
                field="clear",
            )
        if getattr(terms, name) is not None:
            raise Invalid(f"{name} is both given and cleared.", "Leave out one of them.", field="clear")
        flags.pop(name, None)
    given = {name: value for name in terms.__struct_fields__ if (value := getattr(terms, name)) is not None}
    given.pop("clear", None)
    if "rate" in given and "burst" not in given:
        flags.pop("burst", None)
    merged = msgspec.structs.replace(Terms(), **{**flags, **given})
    policy = _build(merged, KindDefaults())
    if kind is KeyKind.PUBLIC:
        if not (merged.networks or merged.origins or merged.endpoints):
            raise Invalid("A public key must stay tied to something.", "Keep an origin, network or endpoint.")
        if policy.limits.rate is None:
            raise Invalid("A public key must keep a rate.", "Give --rate, such as 5/s.")
        limits = msgspec.structs.replace(policy.limits, address_rate=old.limits.address_rate)
        policy = msgspec.structs.replace(policy, limits=limits)
    return policy


def _build(terms: Terms, defaults: KindDefaults) -> Policy:
    restrictions: list[AnyRestriction] = []
    if terms.networks:
        restrictions.append(_made("networks", lambda: Networks(terms.networks or ())))
    if terms.origins:
        restrictions.append(_made("origins", lambda: Origins(terms.origins or ())))
    if terms.hosts:
        restrictions.append(_made("hosts", lambda: Hosts(terms.hosts or ())))
    allow = terms.endpoints or ()
    if not allow and defaults.methods:
        allow = tuple(f"{method} /**" for method in defaults.methods)
    if allow or terms.deny_endpoints:
        restrictions.append(_made("endpoints", lambda: Endpoints(allow, terms.deny_endpoints or ())))
    schedule = terms.schedule
    if schedule:
        restrictions.append(_made("schedule", lambda: Schedule.parse(schedule)))
    return Policy(tuple(restrictions), _limits(terms, defaults))


def _limits(terms: Terms, defaults: KindDefaults) -> Limits:
    # A rate that is given brings its own burst: the default's belongs to the default's rate.
    rate = terms.rate or defaults.rate
    burst = terms.burst if terms.burst is not None or terms.rate is not None else defaults.burst
    if terms.burst is not None and rate is None:
        raise Invalid("A burst needs a rate.", "Give --rate too, such as 5/s.", field="burst")
    quotas = defaults.quota if terms.quotas is None else terms.quotas
    address_rate = defaults.address_rate
    return _made(
        "limits",
        lambda: Limits(
            rate=None if rate is None else parse_rate(rate, burst),
            address_rate=None if address_rate is None else parse_rate(address_rate, defaults.address_burst),
            concurrency=terms.concurrency if terms.concurrency is not None else defaults.concurrency,
            quotas=tuple(parse_quota(text) for text in quotas),
            budgets=tuple(parse_budget(text) for text in terms.budgets or ()),
            uses=terms.uses if terms.uses is not None else defaults.uses,
        ),
    )


def _flags_of(policy: Policy) -> dict[str, object]:
    """A policy as the flags that make it."""
    flags: dict[str, object] = {}
    for restriction in policy.restrictions:
        if isinstance(restriction, Networks):
            flags["networks"] = restriction.allow
        elif isinstance(restriction, Origins):
            flags["origins"] = restriction.allow
        elif isinstance(restriction, Hosts):
            flags["hosts"] = restriction.allow
        elif isinstance(restriction, Endpoints):
            flags |= {"endpoints": restriction.allow, "deny_endpoints": restriction.deny}
        elif isinstance(restriction, Schedule):
            flags["schedule"] = "; ".join(restriction.windows)
    limits = policy.limits
    if limits.rate is not None:
        units = {1: "s", 60: "min", 3600: "hour"}
        flags |= {"rate": f"{limits.rate.count}/{units[limits.rate.per_seconds]}", "burst": limits.rate.burst}
    if limits.concurrency is not None:
        flags["concurrency"] = limits.concurrency
    if limits.quotas:
        flags["quotas"] = tuple(f"{quota.count}/{quota.window}" for quota in limits.quotas)
    if limits.budgets:
        flags["budgets"] = tuple(
            f"{budget.micros // 1_000_000}.{budget.micros % 1_000_000:06d}/{budget.window}"
            for budget in limits.budgets
        )
    if limits.uses is not None:
        flags["uses"] = limits.uses
    return flags


def _made(field: str, make: Callable[[], Made]) -> Made:
    try:
        return make()
    except (InvalidRestriction, InvalidLimit) as error:
        sentence, _, next_step = str(error).partition(". ")
        raise Invalid(sentence.rstrip(".") + ".", next_step, field=field) from None
