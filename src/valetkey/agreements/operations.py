"""Add partners with what was agreed, change it, end it. In force everywhere when the answer comes."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, func, insert, select, update

from valetkey.access.operation import Unit, operation
from valetkey.agreements.agreement import Agreement, Terms, dated, understand
from valetkey.agreements.queries import PartnerView, find_row, get_partner, get_row
from valetkey.decision.limits import Limits
from valetkey.durations import as_day
from valetkey.errors import Conflict
from valetkey.journal.actions import AuditAction
from valetkey.parties.operations import PartyKind, find_party, make_party
from valetkey.services.policies import check_names, policy_id
from valetkey.services.queries import get_service
from valetkey.store import tables
from valetkey.store.blocks import next_block
from valetkey.store.standing import still_living


class PartnerTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A partner and what is agreed."""

    name: str
    agreement: Agreement


class ChangePartner(PartnerTerms, frozen=True, forbid_unknown_fields=True):
    """Another agreement in the place of the one there is."""

    revive: bool = False
    """Whether an agreement that was ended may live again, and the partner's keys with it."""


class PartnerName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which partner."""

    name: str


@operation(AuditAction.PARTNER_ADD)
def add_partner(unit: Unit, request: PartnerTerms) -> PartnerView:
    """Make the partner known, with its agreement; also a party that is a partner already and has none yet.

    Raises `Invalid`, `NotFound` and `Conflict`."""
    party = find_party(unit.connection, unit.workspace, request.name)
    if party is None:
        party = make_party(unit, request.name, PartyKind.PARTNER)
    elif party.kind is not PartyKind.PARTNER:
        raise Conflict(
            f"{request.name} is known as {party.kind}.", "Use another name for the partner.", field="name"
        )
    elif find_row(unit.connection, unit.workspace, request.name) is not None:
        raise Conflict(
            f"{request.name} has an agreement already.",
            f"Change it: valetkey partner change {request.name} --agreement FILE",
            field="name",
        )
    agreement = dated(request.agreement, unit.wall)
    terms = understand(agreement, unit.wall)
    identifier, block = unit.new_id("agr"), next_block(unit.connection)
    unit.connection.execute(
        insert(tables.agreements).values(
            id=identifier,
            workspace_id=unit.workspace,
            party_id=party.id,
            block=block,
            **_columns(unit, agreement, terms),
        )
    )
    unit.count("agreement", identifier, block, Limits(), terms.limits)
    return _done(unit, request.name, identifier)


@operation(AuditAction.PARTNER_CHANGE)
def change_partner(unit: Unit, request: ChangePartner) -> PartnerView:
    """Another agreement in the place of the one there is. Raises `Conflict` for one that was ended, unless it is
    said that it may live again."""
    row = get_row(unit.connection, unit.workspace, request.name)
    if row.ended is not None and not request.revive:
        raise Conflict(
            f"The agreement with {request.name} was ended, and with it all its keys. Another one would bring "
            f"{_number(unit, row.party_id)} back to life.",
            "If that is meant, say so with --revive (in the API: revive=true); else revoke those keys first.",
            field="revive",
        )
    agreement = dated(request.agreement, unit.wall)
    terms = understand(agreement, unit.wall)
    unit.connection.execute(
        update(tables.agreements)
        .where(tables.agreements.c.id == row.id)
        .values(ended=None, latched=None, **_columns(unit, agreement, terms))
    )
    unit.count("agreement", row.id, row.block, msgspec.json.decode(row.limits, type=Limits), terms.limits)
    notes = []
    if row.ended is not None:
        unit.details["revived"] = True
        notes.append(f"It had been ended and lives again, with {_number(unit, row.party_id)}.")
    notes += _ending_earlier(unit, row.party_id, terms.ends)
    return msgspec.structs.replace(_done(unit, request.name, row.id), notes=tuple(notes))


@operation(AuditAction.PARTNER_END)
def end_partner(unit: Unit, request: PartnerName) -> PartnerView:
    """End the agreement before its time: every key of the partner is dead. Twice is once."""
    row = get_row(unit.connection, unit.workspace, request.name)
    ended = row.ended if row.ended is not None else unit.wall
    unit.connection.execute(
        update(tables.agreements).where(tables.agreements.c.id == row.id).values(ended=ended)
    )
    return _done(unit, request.name, row.id)


def _columns(unit: Unit, agreement: Agreement, terms: Terms) -> dict[str, object]:
    policies = {}
    for name, policy in terms.policies.items():
        stored = get_service(unit.connection, unit.workspace, name)
        check_names(unit, policy, stored.service)
        policies[stored.id] = policy_id(unit, policy)
    return {
        "document": msgspec.json.encode(agreement).decode(),
        "policies": msgspec.json.encode(policies).decode(),
        "limits": msgspec.json.encode(terms.limits).decode(),
        "begins": terms.begins,
        "ends": terms.ends,
        "created": unit.wall,
    }


def _done(unit: Unit, name: str, identifier: str) -> PartnerView:
    view = get_partner(unit.connection, unit.workspace, name, unit.wall)
    unit.subject = f"partner:{name}"
    unit.details |= {
        "agreement": identifier,
        "ends": view.ends,
        "ended": view.ended,
        "terms": list(view.sentences),
    }
    unit.touch("agreement", identifier)
    return view


MOST_NAMED = 5
"""Keys that a note names; more are counted."""


def _living(party_id: str, wall: float) -> tuple[Any, ...]:
    keys = tables.keys
    return (keys.c.holder_id == party_id, *still_living(wall))


def _number(unit: Unit, party_id: str) -> str:
    """How many keys of the partner are dead by the agreement alone."""
    keys = tables.keys
    held = select(keys.c.id).where(keys.c.holder_id == party_id).cte("held", recursive=True)
    # What comes from them is dead by it too, whoever holds it.
    held = held.union(select(keys.c.id).join(held, keys.c.parent_id == held.c.id))
    living = unit.connection.execute(
        select(func.count())
        .select_from(keys)
        .where(keys.c.id.in_(select(held.c.id)), *still_living(unit.wall))
    ).scalar_one()
    return "1 key" if living == 1 else f"{living:,} keys"


def _ending_earlier(unit: Unit, party_id: str, ends: float) -> list[str]:
    """Keys that keep an end of their own before that of the agreement, as sentences."""
    keys = tables.keys
    earlier = (*_living(party_id, unit.wall), keys.c.parent_id.is_(None), keys.c.expires < ends)
    number = unit.connection.execute(select(func.count()).select_from(keys).where(*earlier)).scalar_one()
    named = unit.connection.execute(
        select(keys.c.id, keys.c.label, keys.c.expires)
        .where(*earlier)
        .order_by(keys.c.expires)
        .limit(MOST_NAMED)
    )
    said = [
        f"{identifier}{f' ({label})' if label else ''} ends before the agreement, on {as_day(expires)}."
        for identifier, label, expires in named
    ]
    if number > MOST_NAMED:
        said.append(f"So do {number - MOST_NAMED:,} more of its keys.")
    if said:
        said.append("To prolong one: valetkey key change ID --expires WHEN")
    return said


def latch_ended(connection: Connection, workspace: str, wall: float) -> list[str]:
    """Note for good that agreements have reached their end, so that a clock set back revives none; return their
    ids. A thousand at once: the rest in the next turn."""
    table = tables.agreements
    over = table.c.workspace_id == workspace, table.c.latched.is_(None), table.c.ends <= wall
    found = list(connection.execute(select(table.c.id).where(*over).limit(1_000)).scalars())
    if found:
        connection.execute(update(table).where(table.c.id.in_(found)).values(latched=wall))
    return found
