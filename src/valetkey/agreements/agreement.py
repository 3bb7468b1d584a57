"""An agreement as it is written down (docs/formats/agreement.md), and what it means for a key. Pure."""

from __future__ import annotations

import re

import msgspec

from valetkey.decision.limits import Limits
from valetkey.decision.policy import Policy
from valetkey.decision.restrictions import AnyRestriction, Endpoints, Networks
from valetkey.durations import parse_instant, read_time
from valetkey.errors import Invalid
from valetkey.limits.terms import limits_of, made

_MAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,190}")
MAX_TEXT = 200
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
    """A day (with it, UTC), a span or an RFC 3339 time: nothing is agreed for ever."""
    services: tuple[AgreedService, ...]
    title: str = ""
    begins: str | None = None
    """A day (from its first instant, UTC) or an RFC 3339 time; none: at once."""
    networks: tuple[str, ...] = ()
    """Blocks and named networks; none: from anywhere."""
    limits: AgreedLimits = AgreedLimits()
    contact: Contact = Contact()


class Terms(msgspec.Struct, frozen=True):
    """An agreement that was understood."""

    begins: float | None
    ends: float
    policies: dict[str, Policy]
    """By service: what a key of it must stay within."""
    limits: Limits


def understand(agreement: Agreement, wall: float) -> Terms:
    """What the agreement means. Raises `Invalid` with the field that is at fault."""
    contact = agreement.contact
    for field, text in (("title", agreement.title), ("contact", f"{contact.name}{contact.phone}")):
        if len(text) > MAX_TEXT or not text.isprintable():
            raise Invalid(
                f"The {field} is no short printable text.", f"Use up to {MAX_TEXT} characters.", field=field
            )
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
    try:
        ends = parse_instant(agreement.ends, wall)
    except Invalid as error:
        raise Invalid(error.sentence, error.next_step, field="ends") from None
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
