"""Erase what calls tell of people: address, user agent, origin, referer. Asked for here, done by the control process.

What is asked stands in the database until it is done, so that a crash in between only delays it.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import ColumnElement, Connection, case, delete, insert, or_, select, update

from valetkey.access.operation import Unit, operation
from valetkey.decision.policy import State
from valetkey.durations import parse_span
from valetkey.errors import Invalid
from valetkey.journal.actions import AuditAction
from valetkey.parties.operations import get_party
from valetkey.store import tables


class EraseFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of whose calls, or of calls how old."""

    party: str | None = None
    """Name of a party: of all calls with keys that it holds."""
    older_than: str | None = None
    """A span such as ``400d``."""


class Erasure(msgspec.Struct, frozen=True):
    """What is to be erased."""

    id: str
    party: str | None
    before: float | None
    """Calls before this instant."""


@operation(AuditAction.AUDIT_ERASE)
def ask_erasure(unit: Unit, request: EraseFields) -> Erasure:
    """Note that it is asked for. Raises `Invalid` and `NotFound`."""
    if (request.party is None) == (request.older_than is None):
        raise Invalid(
            "It is not clear what is to be erased.", "Give one of --party NAME and --older-than 400d."
        )
    before = None
    if request.party is not None:
        get_party(unit.connection, unit.workspace, request.party)
    if request.older_than is not None:
        try:
            before = unit.wall - parse_span(request.older_than)
        except Invalid as error:
            raise Invalid(error.sentence, error.next_step, field="older_than") from None
    erasure = Erasure(unit.new_id("era"), request.party, before)
    unit.connection.execute(
        insert(tables.erasures).values(
            id=erasure.id,
            workspace_id=unit.workspace,
            party=erasure.party,
            before=before,
            asked=unit.wall,
        )
    )
    unit.subject = "journal" if request.party is None else f"party:{request.party}"
    unit.details |= {"erasure": erasure.id, "party": erasure.party, "before": before}
    return erasure


def pending_erasures(connection: Connection, workspace: str) -> list[Erasure]:
    """What was asked for and is not done yet, in that order."""
    table = tables.erasures
    rows = connection.execute(
        select(table.c.id, table.c.party, table.c.before)
        .where(table.c.workspace_id == workspace, table.c.done.is_(None))
        .order_by(table.c.asked)
    )
    return [Erasure(*row) for row in rows]


def erasure_is_done(connection: Connection, erasure: Erasure, erased: int, wall: float) -> None:
    """Nothing of it is left anywhere. What was said first stays."""
    table = tables.erasures
    pending = table.c.id == erasure.id, table.c.done.is_(None)
    connection.execute(update(table).where(*pending).values(erased=erased, done=wall))


def erased_by(connection: Connection, erasure: Erasure) -> int | None:
    """How many records it blanked, None while it is not done."""
    table = tables.erasures
    erased: int | None = connection.execute(
        select(table.c.erased).where(table.c.id == erasure.id)
    ).scalar_one()
    return erased


def forget_sightings(connection: Connection, workspace: str, party: str | None, before: float | None) -> int:
    """Erase where keys were used from, and by which programs, as the journal's own fields; return how many."""
    sightings, keys, parties = tables.sightings, tables.keys, tables.parties
    held = (
        select(keys.c.id)
        .join(parties, parties.c.id == keys.c.holder_id)
        .where(keys.c.workspace_id == workspace, parties.c.name == party)
    )
    chosen: list[ColumnElement[bool]] = []
    if party is not None:
        chosen.append(sightings.c.key_id.in_(held))
    if before is not None:
        chosen.append(sightings.c.last < before)
    return connection.execute(
        delete(sightings).where(sightings.c.workspace_id == workspace, or_(*chosen))
    ).rowcount


def pinned_keys(connection: Connection, workspace: str, party: str) -> tuple[str, ...]:
    """Ids of the party's living keys that are pinned to an address, which an erasure therefore leaves."""
    keys, parties = tables.keys, tables.parties
    living = keys.c.state != State.REVOKED.value, keys.c.ended.is_(None)
    found = connection.execute(
        select(keys.c.id)
        .join(parties, parties.c.id == keys.c.holder_id)
        .where(keys.c.workspace_id == workspace, parties.c.name == party, keys.c.pinned != "", *living)
        .order_by(keys.c.id)
    )
    return tuple(found.scalars())


def blocks_pinned(
    connection: Connection, workspace: str, party: str | None, before: float | None
) -> list[int]:
    """Counter blocks of ended keys whose pins an erasure is about: their addresses go from there first."""
    keys = tables.keys
    query = select(keys.c.block).where(*_pinned(workspace, party, before), keys.c.block.is_not(None))
    return list(connection.execute(query).scalars())


def forget_pins(connection: Connection, workspace: str, party: str | None, before: float | None) -> int:
    """What a key was pinned to goes once it has ended; of a living one it is what the key may be used from. Returns
    of how many keys.

    One that can live again stays sticky: its next first call pins it anew.
    """
    keys = tables.keys
    kept = case((keys.c.state == State.REVOKED.value, None), else_="")
    return connection.execute(
        update(keys).where(*_pinned(workspace, party, before)).values(pinned=kept)
    ).rowcount


def _pinned(workspace: str, party: str | None, before: float | None) -> list[ColumnElement[bool]]:
    keys, parties = tables.keys, tables.parties
    chosen = [keys.c.workspace_id == workspace, keys.c.pinned != "", keys.c.ended.is_not(None)]
    if party is not None:
        holders = select(parties.c.id).where(parties.c.workspace_id == workspace, parties.c.name == party)
        chosen.append(keys.c.holder_id.in_(holders))
    if before is not None:
        chosen.append(keys.c.ended < before)
    return chosen
