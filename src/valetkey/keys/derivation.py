"""A temporary key made from a key in hand: never wider than what it comes from, and dead with it."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, func, or_, select

from valetkey.access.operation import Unit, operation
from valetkey.decision.policy import MAX_DEPTH, State
from valetkey.errors import Conflict, Invalid
from valetkey.journal.actions import AuditAction
from valetkey.keys.drafting import Terms, draft_policy
from valetkey.keys.kinds import KeyKind
from valetkey.keys.making import IssuedKey, asked_end, holder_named, make_key
from valetkey.keys.queries import KeyView, get_key
from valetkey.labels import check_label
from valetkey.services.policies import check_names
from valetkey.services.queries import get_service
from valetkey.store import tables

MAX_CHILDREN = 1_000
"""Living keys derived from one key: more are a loop that went wrong, or worse."""


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
    parent = get_key(unit.connection, unit.workspace, request.id)
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
    if _living_children(unit.connection, parent.id, unit.wall) >= MAX_CHILDREN:
        raise Conflict(
            f"{MAX_CHILDREN:,} keys derived from this one live already.",
            "Wait until some end, or revoke some.",
        )
    stored = get_service(unit.connection, unit.workspace, parent.service)
    policy = draft_policy(request.terms, KeyKind.TEMPORARY)
    check_names(unit, policy, stored.service)
    holder, made = holder_named(unit, request.holder or parent.holder)
    return make_key(
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
        asked_by=request.call,
    )


def _living_line(unit: Unit, key: KeyView) -> list[KeyView]:
    """The key and what it comes from. Raises `Conflict` unless all of them live."""
    line = [key]
    while (above := line[-1].parent) is not None:
        line.append(get_key(unit.connection, unit.workspace, above))
    for link in line:
        over = link.expires is not None and link.expires <= unit.wall
        if link.state != State.ACTIVE or over:
            state = "expired" if over and link.state == State.ACTIVE else link.state
            raise Conflict(
                f"{link.id} is {state}, so nothing is derived from it.", "Derive from a key that lives."
            )
    return line


def _end(unit: Unit, request: DeriveKey, line: list[KeyView]) -> float | None:
    """When it ends: as asked or the kind's default, and never later than what it comes from."""
    asked = asked_end(unit, KeyKind.TEMPORARY, request.expires, request.terms)
    return min((end for end in (asked, *(link.expires for link in line)) if end is not None), default=None)


def _living_children(connection: Connection, key_id: str, wall: float) -> int:
    keys = tables.keys
    return connection.execute(
        select(func.count()).where(
            keys.c.parent_id == key_id,
            keys.c.state != State.REVOKED.value,
            keys.c.ended.is_(None),
            or_(keys.c.expires.is_(None), keys.c.expires > wall),
        )
    ).scalar_one()
