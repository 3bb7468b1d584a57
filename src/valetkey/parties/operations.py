"""Add and list parties. A key has exactly one, its holder; two people never share one key."""

from __future__ import annotations

import unicodedata
from enum import StrEnum

import msgspec
from sqlalchemy import Connection, insert, select

from valetkey.access.operation import Unit, operation
from valetkey.errors import Conflict, Invalid, NotFound
from valetkey.journal.actions import AuditAction
from valetkey.labels import refuse_keys
from valetkey.nearest import MOST_COMPARED, did_you_mean
from valetkey.store import tables
from valetkey.store.blocks import next_block
from valetkey.store.standing import names_in_use


class PartyKind(StrEnum):
    """The kinds of parties. There is no team: two people never share one key."""

    PERSON = "person"
    MACHINE = "machine"
    APPLICATION = "application"
    PARTNER = "partner"


class AddParty(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Make a party known."""

    name: str
    kind: PartyKind = PartyKind.PERSON


class Party(msgspec.Struct, frozen=True):
    """One who holds keys."""

    id: str
    name: str
    kind: PartyKind


def _check_name(name: str) -> None:
    if not name or len(name) > 120 or not name.isprintable() or name != name.strip() or name[0] == "-":
        raise Invalid(
            "That cannot be a party's name.",
            "Use 1 to 120 printable characters, not beginning with -, such as ana or ci-runner.",
            field="name",
        )
    refuse_keys("name", name)


@operation(AuditAction.PARTY_ADD)
def add_party(unit: Unit, request: AddParty) -> Party:
    """Add a party. Raises `Conflict` when the name is taken."""
    _check_name(request.name)
    if find_party(unit.connection, unit.workspace, request.name) is not None:
        raise Conflict(f"There is a party named {request.name!r} already.", "Use another name.", field="name")
    party = make_party(unit, request.name, request.kind)
    unit.subject = f"party:{party.name}"
    unit.details["kind"] = party.kind
    return party


def make_party(unit: Unit, name: str, kind: PartyKind) -> Party:
    """Write a party's row, inside any operation that needs one. Raises `Conflict` beside a name spelled alike."""
    _check_name(name)
    _refuse_twin(unit, name)
    party = Party(unit.new_id("pty"), name, kind)
    unit.connection.execute(
        insert(tables.parties).values(
            id=party.id,
            workspace_id=unit.workspace,
            name=name,
            folded=_folded(name),
            kind=kind.value,
            block=next_block(unit.connection),
            created=unit.wall,
        )
    )
    unit.touch("party", party.id)
    return party


def _folded(name: str) -> str:
    """What names have in common that look alike (Unicode Standard, section 3.13, compatibility caseless match)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _refuse_twin(unit: Unit, name: str) -> None:
    """Two names that differ only in case, or in how a letter is put together, are taken for each other by people."""
    table = tables.parties
    other = unit.connection.execute(
        select(table.c.name).where(
            table.c.workspace_id == unit.workspace,
            table.c.folded == _folded(name),
            table.c.removed.is_(None),
        )
    ).scalar()
    if other is not None:
        raise Conflict(
            f"There is a party named {other!r}, which looks like {name!r}.",
            f"Write {other!r}, or use another name.",
            field="name",
        )


def find_party(connection: Connection, workspace: str, name: str) -> Party | None:
    """The living party of that name."""
    table = tables.parties
    row = connection.execute(
        select(table.c.id, table.c.name, table.c.kind).where(
            table.c.workspace_id == workspace, table.c.name == name, table.c.removed.is_(None)
        )
    ).first()
    return None if row is None else Party(row.id, row.name, PartyKind(row.kind))


def get_party(connection: Connection, workspace: str, name: str) -> Party:
    """As `find_party`, but a missing one is an error. Raises `NotFound`."""
    party = find_party(connection, workspace, name)
    if party is None:
        meant = did_you_mean(name, names_in_use(connection, tables.parties, workspace, MOST_COMPARED))
        raise NotFound(f"There is no party named {name!r}.", f"{meant} See: valetkey party list".lstrip())
    return party


def list_parties(connection: Connection, workspace: str) -> list[Party]:
    """All living parties, by name."""
    table = tables.parties
    rows = connection.execute(
        select(table.c.id, table.c.name, table.c.kind)
        .where(table.c.workspace_id == workspace, table.c.removed.is_(None))
        .order_by(table.c.name)
    )
    return [Party(row.id, row.name, PartyKind(row.kind)) for row in rows]
