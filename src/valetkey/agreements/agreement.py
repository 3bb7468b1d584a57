"""An agreement as it is written down (docs/formats/agreement.md), and what it means for a key. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec

from valetkey.decision.limits import Limits
from valetkey.decision.policy import Policy
from valetkey.decision.restrictions import AnyRestriction, Endpoints, Networks
from valetkey.durations import is_span, parse_instant, read_time
from valetkey.errors import Invalid
from valetkey.labels import refuse_keys
from valetkey.limits.terms import limits_of, made

_MAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,190}")
MAX_TEXT = 200
MAX_PATTERN = 2_048
"""Characters of an endpoint's pattern: as many as any path that it could match usefully."""
MAX_SERVICES = 100


class AgreedService(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A service that the partner may use, and which of its operations."""

    name: str
    endpoints: tuple[str, ...] = ()
    """Patterns or names of the catalogue; none: all but the wide ones."""
    deny_endpoints: tuple[str, ...] = ()


class Contact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to write to."""

    name: str = ""
    email: str = ""
    phone: str = ""


class AgreedLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all keys of the partner may do together, in the words of the command line."""

    rate: str | None = None
    burst: int | None = None
    concurrency: int | None = None
    quotas: tuple[str, ...] = ()
    budgets: tuple[str, ...] = ()
    bytes: tuple[str, ...] = ()


class Agreement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of it."""

    ends: str
    """A day (with it, UTC), a span from now, which is kept as the time that it means, or an RFC 3339 time:
    nothing is agreed for ever."""
    services: tuple[AgreedService, ...]
    title: str = ""
    begins: str | None = None
    """A day (from its first instant, UTC) or an RFC 3339 time; none: at once."""
    networks: tuple[str, ...] = ()
    """Blocks and named networks; none: from anywhere."""
    limits: AgreedLimits = AgreedLimits()
    contact: Contact = Contact()


class AgreementState(StrEnum):
    """Whether an agreement holds now."""

    ACTIVE = "active"
    UPCOMING = "upcoming"
    """It has not begun."""
    EXPIRED = "expired"
    ENDED = "ended"
    """It was ended before its time."""


def state_of(
    *, begins: float | None, ends: float, ended: float | None, latched: float | None, now: float
) -> AgreementState:
    """How an agreement stands. `latched`: when it was noted for good that its end was reached."""
    if ended is not None:
        return AgreementState.ENDED
    if latched is not None or ends <= now:
        return AgreementState.EXPIRED
    return AgreementState.UPCOMING if begins is not None and now < begins else AgreementState.ACTIVE


class Terms(msgspec.Struct, frozen=True):
    """An agreement that was understood."""

    begins: float | None
    ends: float
    policies: dict[str, Policy]
    """By service: what a key of it must stay within."""
    limits: Limits


def dated(agreement: Agreement, wall: float) -> Agreement:
    """The agreement with its end as a time: a span says nothing to whoever reads it later. Raises `Invalid`."""
    _check_texts(agreement)
    if not is_span(agreement.ends):
        return agreement
    instant = datetime.fromtimestamp(int(_end(agreement.ends, wall)), UTC)
    return msgspec.structs.replace(agreement, ends=f"{instant:%Y-%m-%dT%H:%M:%SZ}")


def understand(agreement: Agreement, wall: float) -> Terms:
    """What the agreement means. Raises `Invalid` with the field that is at fault."""
    _check_texts(agreement)
    contact = agreement.contact
    if contact.email and not _MAIL.fullmatch(contact.email):
        raise Invalid(
            "The contact's email is no address.", "Write it as name@example.com.", field="contact.email"
        )
    names = [service.name for service in agreement.services]
    if not 1 <= len(names) <= MAX_SERVICES or len(set(names)) < len(names):
        raise Invalid(
            "An agreement names one or more services, each once.",
            "Write a [[services]] for each.",
            field="services",
        )
    begins = None if agreement.begins is None else _begin(agreement.begins)
    ends = _end(agreement.ends, wall)
    if begins is not None and begins >= ends:
        raise Invalid("The agreement ends before it begins.", "Correct begins or ends.", field="ends")
    networks: tuple[AnyRestriction, ...] = ()
    if agreement.networks:
        networks = (made("networks", lambda: Networks(agreement.networks)),)
    policies = {}
    for service in agreement.services:
        restrictions = networks
        if service.endpoints or service.deny_endpoints:
            endpoints = made("services", lambda s=service: Endpoints(s.endpoints, s.deny_endpoints))  # type: ignore[misc]
            restrictions = (*networks, endpoints)
        policies[service.name] = Policy(restrictions)
    return Terms(begins, ends, policies, limits_of(**msgspec.structs.asdict(agreement.limits)))


def _check_texts(agreement: Agreement) -> None:
    """No text of an agreement is long, steers what shows it, or holds a key. Raises `Invalid`."""
    for field, text in _texts(msgspec.to_builtins(agreement)):
        most = MAX_PATTERN if field.startswith("services") else MAX_TEXT
        if len(text) > most or not text.isprintable():
            raise Invalid(
                f"The {field} is no short printable text.", f"Use up to {most} characters.", field=field
            )
        refuse_keys(field, text)


def _texts(value: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """Every text of an agreement, with the field that it stands in."""
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, f"{field}.{name}" if field else name)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner, field)


def _end(text: str, wall: float) -> float:
    try:
        return parse_instant(text, wall)
    except Invalid as error:
        raise Invalid(error.sentence, error.next_step, field="ends") from None


def _begin(text: str) -> float:
    try:
        return read_time(text).timestamp()
    except (ValueError, OverflowError):
        raise Invalid(
            f"{text!r} is no time.", "Write a day such as 2026-12-31, or an RFC 3339 time.", field="begins"
        ) from None


def sentences(agreement: Agreement, terms: Terms) -> tuple[str, ...]:
    """The agreement in words."""
    said = [
        f"Until {agreement.ends}."
        if agreement.begins is None
        else f"From {agreement.begins} until {agreement.ends}."
    ]
    said += [
        f"{name}: {' '.join(policy.sentences()) or 'all but its wide endpoints.'}"
        for name, policy in terms.policies.items()
    ]
    return (*said, *terms.limits.sentences())
