"""A temporary key made from a key in hand: never wider than what it comes from, and dead with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from sqlalchemy import func, or_, select

from valetkey.access.actor import ActorKind
from valetkey.access.operation import Unit, operation
from valetkey.agreements.narrower import Above, narrower
from valetkey.agreements.queries import find_agreed
from valetkey.decision.policy import MAX_DEPTH, State
from valetkey.decision.restrictions import Networks
from valetkey.errors import Conflict, Invalid
from valetkey.journal.actions import AuditAction
from valetkey.keys.drafting import Terms, draft_policy
from valetkey.keys.kinds import KeyKind
from valetkey.keys.making import IssuedKey, asked_end, ends_earlier, holder_named, make_key
from valetkey.keys.queries import KeyView, get_key
from valetkey.keys.sessions import SessionProcess, tied_session
from valetkey.labels import check_label
from valetkey.services.policies import check_names
from valetkey.services.queries import get_service
from valetkey.store import tables
from valetkey.store.standing import still_living

MAX_CHILDREN = 1_000
"""Living keys that come from one issued key: more are a loop that went wrong, or worse."""
MAX_A_DAY = 10_000
"""Keys that come from one issued key within a day: each leaves a row for ever, and is in memory till an hour after
its end."""
DAY = 86_400
LEAST_LIFE = 60
"""Seconds that a derived key lives at least: a new one for every call is no use of them."""


class Derivation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What whoever holds a key may say of one that is derived from it; left out: the defaults of temporary keys."""

    label: str = ""
    expires: str | None = None
    """A span, a day or an RFC 3339 time; never later than the key that it comes from."""
    terms: Terms = Terms()


class HeldDerivation(Derivation, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What whoever manages may say: also for whom it is."""

    holder: str | None = None
    """Name of the party; left out: the holder of the key that it comes from."""
    with_session: bool = False
    """Whether it ends with the session that asks for it: the token, or a process of the machine."""
    session_process: SessionProcess | None = None
    """Of whoever owns the data folder: the process that is the session."""


class DeriveKey(HeldDerivation, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A key for an hour's work, from the key with this id."""

    id: str
    call: str | None = None
    """The call at the gateway that asks for it: without its answer nobody has the key, and it ends."""


@operation(AuditAction.KEY_DERIVE)
def derive_key(unit: Unit, request: DeriveKey) -> IssuedKey:
    """Make the key. What it may do is what its own terms and those of all it comes from allow, at any later
    moment; every call of it counts at all of them. Raises `Invalid`, `NotFound` and `Conflict`."""
    check_label(request.label)
    parent = get_key(unit.connection, unit.workspace, request.id, unit.wall)
    line = _living_line(unit, parent)
    if len(line) >= MAX_DEPTH:
        raise Conflict(
            f"Keys are derived {MAX_DEPTH - 1} deep, and this one is.",
            "Derive from the key that it comes from.",
        )
    if parent.kind == KeyKind.PUBLIC:
        raise Invalid(
            "A public key can be read by anyone, so nothing is derived from it.", "Issue a private key."
        )
    _check_number(unit, line[-1])
    stored = get_service(unit.connection, unit.workspace, parent.service)
    policy = draft_policy(request.terms, KeyKind.TEMPORARY)
    context = check_names(unit, policy, stored.service, _networks_known(unit, parent))
    session = tied_session(
        unit, KeyKind.TEMPORARY, with_session=request.with_session, process=request.session_process
    )
    holder, made = holder_named(unit, request.holder or parent.holder)
    issued = make_key(
        unit,
        stored,
        kind=KeyKind.TEMPORARY,
        environment=parent.environment,
        holder=holder,
        holder_made=made,
        policy=policy,
        secret=parent.secret,
        label=request.label,
        expires=_end(unit, request, line),
        parent=parent.id,
        session=session,
        asked_by=request.call,
    )
    # What it says nothing of is told by its last sentence.
    surprises = [
        said
        for above in _held_to(unit, line, holder.name, stored.id)
        for said in narrower(policy, above, context, unsaid=False)
    ]
    earlier = ends_earlier(unit, request.expires, issued.expires, "the key that it comes from")
    return msgspec.structs.replace(issued, warnings=(*issued.warnings, *earlier, *surprises))


def _networks_known(unit: Unit, parent: KeyView) -> tuple[str, ...] | None:
    """Named networks that who asks may know: who asks with a key, those that the key itself names."""
    if unit.actor.kind is not ActorKind.KEY:
        return None
    networks = parent.policy.find(Networks)
    return networks.allow if isinstance(networks, Networks) else ()


def _held_to(unit: Unit, line: list[KeyView], holder: str, service_id: str) -> Iterator[Above]:
    """All that a key derived from this line is held to; for whoever asks with a key, that one alone."""
    if unit.actor.kind is ActorKind.KEY:
        yield Above(f"{line[0].id}, which it comes from,", line[0].policy, line[0].policy.limits)
        return
    for link in line:
        yield Above(f"{link.id}, which it comes from,", link.policy, link.policy.limits)
    for name in dict.fromkeys((holder, *(link.holder for link in line))):
        agreed = find_agreed(unit.connection, unit.workspace, name, service_id)
        if agreed is not None:
            yield Above(f"The agreement with {name}", agreed.policy, agreed.limits)


def _check_number(unit: Unit, top: KeyView) -> None:
    """All that comes from the topmost key counts together, or a thousand keys would have a thousand each."""
    keys, between = tables.keys, tables.keys.alias()
    below = select(between.c.id).where(
        between.c.parent_id == top.id,
        or_(between.c.dropped.is_(None), between.c.dropped > unit.wall - DAY),
    )
    of_line = or_(keys.c.parent_id == top.id, keys.c.parent_id.in_(below))
    if _count(unit, of_line, *still_living(unit.wall)) >= MAX_CHILDREN:
        raise Conflict(
            f"{MAX_CHILDREN:,} keys that come from {top.id} live already.",
            "Wait until some end, or revoke some.",
        )
    if _count(unit, of_line, keys.c.created > unit.wall - DAY) >= MAX_A_DAY:
        raise Conflict(
            f"{MAX_A_DAY:,} keys were derived from {top.id}, or from what comes from it, within a day.",
            "Use one that lives longer, or wait until the first of them are a day old.",
        )


def _living_line(unit: Unit, key: KeyView) -> list[KeyView]:
    """The key and what it comes from. Raises `Conflict` unless a call with it would find it alive."""
    if key.state != State.ACTIVE:
        because = f": {key.because[0].lower()}{key.because[1:]}" if key.because else "."
        raise Conflict(
            f"{key.id} is {key.state}, so nothing is derived from it{because}",
            "Derive from a key that lives.",
        )
    line = [key]
    while (above := line[-1].parent) is not None:
        line.append(get_key(unit.connection, unit.workspace, above))
    return line


def _end(unit: Unit, request: DeriveKey, line: list[KeyView]) -> float | None:
    """When it ends: as asked or the kind's default, and never later than what it comes from."""
    asked = asked_end(unit, KeyKind.TEMPORARY, request.expires, request.terms)
    least = unit.wall + LEAST_LIFE
    if asked is not None and asked < least:
        raise Invalid(
            f"A derived key lives {LEAST_LIFE} seconds at least.", "Ask for a later end.", field="expires"
        )
    end = min((end for end in (asked, *(link.expires for link in line)) if end is not None), default=None)
    if end is not None and end < least:
        raise Conflict(
            f"What it comes from ends in less than {LEAST_LIFE} seconds.",
            "Derive from a key that lives longer.",
        )
    return end


def _count(unit: Unit, *conditions: Any) -> int:
    counted = select(func.count()).select_from(tables.keys).where(*conditions)
    return unit.connection.execute(counted).scalar_one()
