"""Limits as people write them, and the way to `Limits` and back. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from valetkey.decision.limits import InvalidLimit, Limits, parse_budget, parse_bytes, parse_quota, parse_rate
from valetkey.decision.restrictions import InvalidRestriction
from valetkey.errors import Invalid

Made = TypeVar("Made")
Terms = TypeVar("Terms", bound="LimitTerms")

CLEARABLE = ("burst", "concurrency", "uses")
"""Terms that have no empty value of their own, so that `clear` takes them away."""
_UNITS = {1: "s", 60: "min", 3600: "hour"}


class LimitTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits as flags; None: not given."""

    rate: str | None = None
    burst: int | None = None
    concurrency: int | None = None
    quotas: tuple[str, ...] | None = None
    budgets: tuple[str, ...] | None = None
    bytes: tuple[str, ...] | None = None
    clear: tuple[str, ...] | None = None
    """Single values to take away: ``burst``, ``concurrency`` and, of a key, ``uses``."""


def merge(old: dict[str, Any], terms: Terms) -> Terms:
    """`terms` in the place of what was there, as flags. An empty list or text takes a thing away.

    Raises `Invalid` for a term that is both given and cleared, or that cannot be cleared so.
    """
    flags = dict(old)
    clearable = [name for name in CLEARABLE if hasattr(terms, name)]
    for name in terms.clear or ():
        if name not in clearable:
            raise Invalid(
                "That is nothing that can be cleared so.",
                f"Clear one of {', '.join(clearable)}.",
                field="clear",
            )
        if getattr(terms, name) is not None:
            raise Invalid(f"{name} is both given and cleared.", "Leave out one of them.", field="clear")
        flags.pop(name, None)
    given = {name: value for name in terms.__struct_fields__ if (value := getattr(terms, name)) is not None}
    given.pop("clear", None)
    if "rate" in given and "burst" not in given:
        # A burst belongs to its rate.
        flags.pop("burst", None)
    return type(terms)(**{**flags, **given})


def limits_of(
    *,
    rate: str | None = None,
    burst: int | None = None,
    address_rate: str | None = None,
    address_burst: int | None = None,
    concurrency: int | None = None,
    quotas: tuple[str, ...] = (),
    budgets: tuple[str, ...] = (),
    bytes: tuple[str, ...] = (),
    uses: int | None = None,
) -> Limits:
    """Limits from their text forms. Raises `Invalid`."""
    if burst is not None and not rate:
        raise Invalid("A burst needs a rate.", "Give --rate too, such as 5/s.", field="burst")
    return made(
        "limits",
        lambda: Limits(
            rate=parse_rate(rate, burst) if rate else None,
            address_rate=parse_rate(address_rate, address_burst) if address_rate else None,
            concurrency=concurrency,
            quotas=tuple(parse_quota(text) for text in quotas),
            budgets=tuple(parse_budget(text) for text in budgets),
            uses=uses,
            bytes=tuple(parse_bytes(text) for text in bytes),
        ),
    )


def flags_of(limits: Limits) -> dict[str, Any]:
    """Limits as the flags that make them. What each address may do has no flag."""
    flags: dict[str, Any] = {}
    if limits.rate is not None:
        flags |= {
            "rate": f"{limits.rate.count}/{_UNITS[limits.rate.per_seconds]}",
            "burst": limits.rate.burst,
        }
    if limits.concurrency is not None:
        flags["concurrency"] = limits.concurrency
    if limits.quotas:
        flags["quotas"] = tuple(f"{quota.count}/{quota.window}" for quota in limits.quotas)
    if limits.budgets:
        flags["budgets"] = tuple(
            f"{budget.micros // 1_000_000}.{budget.micros % 1_000_000:06d}/{budget.window}"
            for budget in limits.budgets
        )
    if limits.bytes:
        flags["bytes"] = tuple(f"{volume.size}B/{volume.window}" for volume in limits.bytes)
    if limits.uses is not None:
        flags["uses"] = limits.uses
    return flags


def change_limits(old: Limits, terms: LimitTerms) -> Limits:
    """The limits with what was given in the place of what was there. Raises `Invalid`."""
    merged = merge(flags_of(old), terms)
    return limits_of(
        rate=merged.rate,
        burst=merged.burst,
        concurrency=merged.concurrency,
        quotas=merged.quotas or (),
        budgets=merged.budgets or (),
        bytes=merged.bytes or (),
    )


def made(field: str, make: Callable[[], Made]) -> Made:
    """What `make` returns; what it says is wrong comes out as `Invalid` at `field`."""
    try:
        return make()
    except (InvalidRestriction, InvalidLimit) as error:
        sentence, _, next_step = str(error).partition(". ")
        raise Invalid(sentence.rstrip(".") + ".", next_step, field=field) from None
