"""Add and list named networks."""

from __future__ import annotations

import re

import msgspec
from sqlalchemy import Connection, insert, select, update

from valetkey.access.operation import Unit, operation
from valetkey.decision.restrictions import InvalidRestriction, Networks
from valetkey.errors import Invalid
from valetkey.journal.actions import AuditAction
from valetkey.labels import refuse_keys
from valetkey.store import tables

_NAME = re.compile(r"[a-z][a-z0-9-]{0,59}")


class AddNetwork(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Give a name to address blocks; an existing name gets the new blocks."""

    name: str
    blocks: tuple[str, ...]


class Network(msgspec.Struct, frozen=True):
    """A named network."""

    id: str
    name: str
    blocks: tuple[str, ...]


@operation(AuditAction.NETWORK_ADD)
def add_network(unit: Unit, request: AddNetwork) -> Network:
    """Make the network or replace its blocks; keys that name it follow at the next call."""
    refuse_keys("name", request.name)
    if not _NAME.fullmatch(request.name):
        raise Invalid(
            f"{request.name!r} cannot be a network's name.",
            "Use lower-case letters, digits and hyphens, such as office-berlin.",
            field="name",
        )
    if not request.blocks:
        raise Invalid(
            "A network needs at least one address block.", "Give one, such as 203.0.113.0/24.", field="blocks"
        )
    try:
        for block in request.blocks:
            if not re.search(r"[.:]", block):
                raise InvalidRestriction(f"{block!r} is not an address block.")
        Networks(request.blocks)
    except InvalidRestriction as error:
        sentence, _, next_step = str(error).partition(". ")
        raise Invalid(
            sentence.rstrip(".") + ".",
            next_step or "Give address blocks such as 203.0.113.0/24.",
            field="blocks",
        ) from None
    table = tables.networks
    existing = unit.connection.execute(
        select(table.c.id).where(table.c.workspace_id == unit.workspace, table.c.name == request.name)
    ).scalar()
    blocks = msgspec.json.encode(request.blocks).decode()
    if existing is None:
        existing = unit.new_id("net")
        unit.connection.execute(
            insert(table).values(
                id=existing, workspace_id=unit.workspace, name=request.name, blocks=blocks, created=unit.wall
            )
        )
    else:
        unit.connection.execute(update(table).where(table.c.id == existing).values(blocks=blocks))
    unit.subject = f"network:{request.name}"
    unit.details["blocks"] = list(request.blocks)
    unit.touch("network", existing)
    return Network(existing, request.name, request.blocks)


def list_networks(connection: Connection, workspace: str) -> list[Network]:
    """All named networks, by name."""
    table = tables.networks
    rows = connection.execute(
        select(table.c.id, table.c.name, table.c.blocks)
        .where(table.c.workspace_id == workspace)
        .order_by(table.c.name)
    )
    return [Network(i, name, tuple(msgspec.json.decode(blocks, type=list[str]))) for i, name, blocks in rows]
