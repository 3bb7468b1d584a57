"""Add partners with what was agreed, change it, end it. In force everywhere when the answer comes."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, Row, insert, select, update

from valetkey.access.operation import Unit, operation
from valetkey.agreements.agreement import Agreement, Terms, sentences, understand
from valetkey.decision.limits import Limits
from valetkey.errors import Conflict, Invalid, NotFound
from valetkey.journal.actions import AuditAction
from valetkey.parties.operations import PartyKind, find_party, make_party
from valetkey.services.policies import check_names, policy_id
from valetkey.services.queries import get_service
from valetkey.store import tables
from valetkey.store.blocks import next_block


class PartnerTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A partner and what is agreed."""

    name: str
    agreement: Agreement


class PartnerName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which partner."""

    name: str


class PartnerView(msgspec.Struct, frozen=True):
    """A partner as doors show it."""

    id: str
    """Of the agreement."""
    name: str
    agreement: Agreement
    begins: float | None
    ends: float
    ended: float | None
    """When it was ended before its time, if it was."""
    sentences: tuple[str, ...]


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
    elif _row(unit.connection, unit.workspace, request.name) is not None:
        raise Conflict(
            f"{request.name} has an agreement already.",
            f"Change it: valetkey partner change {request.name} --agreement FILE",
            field="name",
        )
    terms = understand(request.agreement, unit.wall)
    identifier, block = unit.new_id("agr"), next_block(unit.connection)
    unit.connection.execute(
        insert(tables.agreements).values(
            id=identifier,
            workspace_id=unit.workspace,
            party_id=party.id,
            block=block,
            **_columns(unit, request.agreement, terms),
        )
    )
    unit.count("agreement", identifier, block, Limits(), terms.limits)
    return _done(unit, request.name, identifier)


@operation(AuditAction.PARTNER_CHANGE)
def change_partner(unit: Unit, request: PartnerTerms) -> PartnerView:
    """Another agreement in the place of the one there is; one that was ended lives again with it."""
    row = _get(unit.connection, unit.workspace, request.name)
    terms = understand(request.agreement, unit.wall)
    unit.connection.execute(
        update(tables.agreements)
        .where(tables.agreements.c.id == row.id)
        .values(ended=None, **_columns(unit, request.agreement, terms))
    )
    unit.count("agreement", row.id, row.block, msgspec.json.decode(row.limits, type=Limits), terms.limits)
    return _done(unit, request.name, row.id)


@operation(AuditAction.PARTNER_END)
def end_partner(unit: Unit, request: PartnerName) -> PartnerView:
    """End the agreement before its time: every key of the partner is dead. Twice is once."""
    row = _get(unit.connection, unit.workspace, request.name)
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
    view = get_partner(unit.connection, unit.workspace, name)
    unit.subject = f"partner:{name}"
    unit.details |= {
        "agreement": identifier,
        "ends": view.ends,
        "ended": view.ended,
        "terms": list(view.sentences),
    }
    unit.touch("agreement", identifier)
    return view


def _select(workspace: str):  # type: ignore[no-untyped-def]
    table, parties = tables.agreements, tables.parties
    return (
        select(table, parties.c.name)
        .join(parties, parties.c.id == table.c.party_id)
        .where(table.c.workspace_id == workspace, parties.c.removed.is_(None))
        .order_by(parties.c.name)
    )


def _row(connection: Connection, workspace: str, name: str) -> Row | None:  # type: ignore[type-arg]
    return connection.execute(_select(workspace).where(tables.parties.c.name == name)).first()


def _get(connection: Connection, workspace: str, name: str) -> Row:  # type: ignore[type-arg]
    row = _row(connection, workspace, name)
    if row is None:
        raise NotFound(f"There is no agreement with a partner named {name!r}.", "See: valetkey partner list")
    return row


def _view(row: Row) -> PartnerView:  # type: ignore[type-arg]
    agreement = msgspec.json.decode(row.document, type=Agreement)
    said = sentences(agreement, understand(agreement, row.created))
    return PartnerView(row.id, row.name, agreement, row.begins, row.ends, row.ended, said)


def agreed_limits(
    connection: Connection, workspace: str, name: str, service_id: str, wall: float
) -> tuple[Limits, float]:
    """What all keys of the partner may do together, and until when, for a key of this service.

    Raises `Invalid` where there is no living agreement that names the service.
    """
    row = _row(connection, workspace, name)
    if row is None:
        raise Invalid(
            f"There is no agreement with {name}.",
            "Add it: valetkey partner add NAME --agreement FILE",
            field="holder",
        )
    if row.ended is not None or row.ends <= wall:
        raise Invalid(
            f"The agreement with {name} has ended.", "Change it, then issue the key.", field="holder"
        )
    if service_id not in msgspec.json.decode(row.policies, type=dict[str, str]):
        raise Invalid(
            f"The agreement with {name} does not name this service.", "Add it there first.", field="service"
        )
    return msgspec.json.decode(row.limits, type=Limits), row.ends


def get_partner(connection: Connection, workspace: str, name: str) -> PartnerView:
    """One partner. Raises `NotFound`."""
    return _view(_get(connection, workspace, name))


def list_partners(connection: Connection, workspace: str) -> list[PartnerView]:
    """All partners with agreements, ended ones too, by name."""
    return [_view(row) for row in connection.execute(_select(workspace)).all()]
