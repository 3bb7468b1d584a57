"""Limits that all keys of a holder, of a service, or of the whole workspace share."""

from __future__ import annotations

from enum import StrEnum

import msgspec
from sqlalchemy import Connection, insert, select, update

from valetkey.access.operation import Unit, operation
from valetkey.decision.limits import Limits
from valetkey.errors import Invalid
from valetkey.journal.actions import AuditAction
from valetkey.limits.terms import LimitTerms, change_limits
from valetkey.parties.operations import get_party
from valetkey.services.queries import get_service
from valetkey.store import tables
from valetkey.store.blocks import next_block


class Shared(StrEnum):
    """Who shares a limit. The value is the name of the level in a refusal."""

    HOLDER = "holder"
    SERVICE = "service"
    WORKSPACE = "workspace"
    AGREEMENT = "agreement"
    """Set with the agreement itself."""


class ChangeLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """New limits of a holder, of a service, or, where neither is named, of everything together."""

    holder: str | None = None
    service: str | None = None
    terms: LimitTerms = LimitTerms()


class LimitsView(msgspec.Struct, frozen=True):
    """Limits that several keys share."""

    level: Shared
    name: str | None
    """Of the holder, the service or the partner."""
    limits: Limits
    sentences: tuple[str, ...]


@operation(AuditAction.LIMIT_CHANGE)
def change_shared_limits(unit: Unit, request: ChangeLimits) -> LimitsView:
    """Change what is given; in force at the next call. Raises `Invalid` and `NotFound`."""
    level, name, subject, block = _subject(unit, request)
    table = tables.limits
    row = unit.connection.execute(
        select(table.c.id, table.c.document, table.c.block).where(
            table.c.workspace_id == unit.workspace, table.c.level == level.value, table.c.subject == subject
        )
    ).first()
    old = Limits() if row is None else msgspec.json.decode(row.document, type=Limits)
    new = change_limits(old, request.terms)
    document = msgspec.json.encode(new).decode()
    if row is None:
        identifier = unit.new_id("lim")
        block = next_block(unit.connection) if block is None else block
        unit.connection.execute(
            insert(table).values(
                id=identifier,
                workspace_id=unit.workspace,
                level=level.value,
                subject=subject,
                document=document,
                block=block,
            )
        )
    else:
        identifier, block = row.id, row.block
        unit.connection.execute(update(table).where(table.c.id == identifier).values(document=document))
    unit.subject = str(level.value) if name is None else f"{level}:{name}"
    unit.details |= {"before": msgspec.to_builtins(old), "after": msgspec.to_builtins(new)}
    unit.touch("limits", identifier)
    unit.count("limits", identifier, block, old, new)
    return LimitsView(level, name, new, new.sentences())


def _subject(unit: Unit, request: ChangeLimits) -> tuple[Shared, str | None, str, int | None]:
    """Level, name, identifier, and the block of counters that the subject has already."""
    if request.holder is not None and request.service is not None:
        raise Invalid("A limit belongs to a holder or to a service.", "Name one of them.")
    if request.holder is not None:
        party = get_party(unit.connection, unit.workspace, request.holder)
        block = unit.connection.execute(
            select(tables.parties.c.block).where(tables.parties.c.id == party.id)
        ).scalar_one()
        return Shared.HOLDER, party.name, party.id, block
    if request.service is not None:
        stored = get_service(unit.connection, unit.workspace, request.service)
        return Shared.SERVICE, request.service, stored.id, stored.block
    return Shared.WORKSPACE, None, unit.workspace, None


def list_limits(connection: Connection, workspace: str) -> list[LimitsView]:
    """All that is set: of everything first, then of services, of holders, and what was agreed with partners, by
    name."""
    table = tables.limits
    rows = connection.execute(
        select(table.c.level, table.c.document, tables.services.c.name, tables.parties.c.name)
        .join(tables.services, tables.services.c.id == table.c.subject, isouter=True)
        .join(tables.parties, tables.parties.c.id == table.c.subject, isouter=True)
        .where(
            table.c.workspace_id == workspace,
            tables.services.c.removed.is_(None),
            tables.parties.c.removed.is_(None),
        )
    ).all()
    found = []
    for level, document, service, holder in rows:
        limits = msgspec.json.decode(document, type=Limits)
        if not limits.unlimited:
            found.append(LimitsView(Shared(level), service or holder, limits, limits.sentences()))
    agreements = tables.agreements
    agreed = connection.execute(
        select(tables.parties.c.name, agreements.c.limits)
        .join(tables.parties, tables.parties.c.id == agreements.c.party_id)
        .where(
            agreements.c.workspace_id == workspace,
            agreements.c.ended.is_(None),
            agreements.c.latched.is_(None),
        )
    )
    for partner, document in agreed:
        limits = msgspec.json.decode(document, type=Limits)
        if not limits.unlimited:
            found.append(LimitsView(Shared.AGREEMENT, partner, limits, limits.sentences()))
    order = (Shared.WORKSPACE, Shared.SERVICE, Shared.HOLDER, Shared.AGREEMENT)
    return sorted(found, key=lambda view: (order.index(view.level), view.name or ""))
