"""Add and list named networks: blocks, an interface of this machine, or an address of ours that callers reach."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta
from sqlalchemy import Connection, insert, select, update

from valetkey.access.operation import Unit, operation
from valetkey.decision.listener import parse_listener
from valetkey.decision.restrictions import InvalidRestriction, Networks
from valetkey.decision.restrictions.networks import everywhere
from valetkey.errors import Invalid, NotFound
from valetkey.journal.actions import AuditAction
from valetkey.labels import refuse_keys
from valetkey.networks.interfaces import InterfaceNetworks, read_interfaces
from valetkey.store import tables

_NAME = re.compile(r"[a-z][a-z0-9-]{0,59}")


class AddNetwork(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Give a name to one of the three; a name that exists means the new one."""

    name: str
    blocks: tuple[str, ...] = ()
    interface: Annotated[str, Meta(max_length=15)] | None = None
    """Interface of the server's machine: the networks of its addresses, at any later moment."""
    listener: Annotated[str, Meta(max_length=100)] | None = None
    """An address of the server's machine, with a port or without: whoever calls there."""


class InterfaceChanged(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a network by interface is now."""

    id: str
    blocks: tuple[str, ...]


class Meant(msgspec.Struct, frozen=True):
    """What a name meant before."""

    blocks: tuple[str, ...]
    interface: str | None = None
    listener: str | None = None


class Network(msgspec.Struct, frozen=True):
    """A named network."""

    id: str
    name: str
    blocks: tuple[str, ...]
    """Of an interface: as they are now."""
    interface: str | None = None
    listener: str | None = None
    warnings: tuple[str, ...] = ()
    """What will surprise; said when it is added."""
    before: Meant | None = None
    """What the name was until it was added again as something else."""


@operation(AuditAction.NETWORK_ADD)
def add_network(unit: Unit, request: AddNetwork) -> Network:
    """Make the network or replace what it is; keys that name it follow at the next call."""
    refuse_keys("name", request.name)
    if not _NAME.fullmatch(request.name):
        raise Invalid(
            f"{request.name!r} cannot be a network's name.",
            "Use lower-case letters, digits and hyphens, such as office-berlin.",
            field="name",
        )
    blocks, listener = request.blocks, None
    if bool(blocks) + (request.interface is not None) + (request.listener is not None) > 1:
        raise Invalid(
            "A network is address blocks, an interface or a listener's address.", "Give one of them."
        )
    if request.interface is not None:
        blocks = _blocks_of(request.interface)
    elif request.listener is not None:
        try:
            listener = parse_listener(request.listener).text
        except ValueError as error:
            raise Invalid(
                str(error), "Write it as 192.0.2.1, 192.0.2.1:8300 or [2001:db8::1]:8300.", field="listener"
            ) from None
    else:
        _check_blocks(blocks)
    values = {
        "blocks": msgspec.json.encode(blocks).decode(),
        "interface": request.interface,
        "listener": listener,
    }
    table = tables.networks
    found = unit.connection.execute(
        select(table).where(table.c.workspace_id == unit.workspace, table.c.name == request.name)
    ).first()
    now, before = Meant(blocks, request.interface, listener), None
    if found is None:
        existing = unit.new_id("net")
        unit.connection.execute(
            insert(table).values(
                id=existing, workspace_id=unit.workspace, name=request.name, created=unit.wall, **values
            )
        )
    else:
        existing = found.id
        was = Meant(tuple(msgspec.json.decode(found.blocks, type=list[str])), found.interface, found.listener)
        before = None if was == now else was
        unit.connection.execute(update(table).where(table.c.id == existing).values(**values))
    unit.subject = f"network:{request.name}"
    unit.details["blocks"] = list(blocks)
    unit.details |= {name: values[name] for name in ("interface", "listener") if values[name] is not None}
    unit.touch("network", existing)
    return Network(
        existing, request.name, blocks, request.interface, listener, _warnings(request.name, blocks), before
    )


@operation(AuditAction.NETWORK_FOLLOW)
def follow_interface(unit: Unit, request: InterfaceChanged) -> Network:
    """An interface's addresses have changed, so the networks that it is have."""
    table = tables.networks
    row = unit.connection.execute(select(table).where(table.c.id == request.id)).first()
    if row is None:
        raise NotFound("That network was removed meanwhile.")
    before = msgspec.json.decode(row.blocks)
    unit.subject = f"network:{row.name}"
    if row.interface is not None:
        unit.connection.execute(
            update(table)
            .where(table.c.id == request.id)
            .values(blocks=msgspec.json.encode(request.blocks).decode())
        )
        unit.touch("network", request.id)
    unit.details |= {"interface": row.interface, "before": before, "after": list(request.blocks)}
    return Network(row.id, row.name, request.blocks, row.interface)


def list_networks(connection: Connection, workspace: str) -> list[Network]:
    """All named networks, by name."""
    table = tables.networks
    rows = connection.execute(
        select(table.c.id, table.c.name, table.c.blocks, table.c.interface, table.c.listener)
        .where(table.c.workspace_id == workspace)
        .order_by(table.c.name)
    )
    return [
        Network(i, name, tuple(msgspec.json.decode(blocks, type=list[str])), interface, listener)
        for i, name, blocks, interface, listener in rows
    ]


def changed_interfaces(
    connection: Connection, workspace: str, read: Callable[[], InterfaceNetworks] = read_interfaces
) -> list[InterfaceChanged]:
    """Networks by interface that are no longer what is stored. An interface that is gone has no addresses."""
    bound = [network for network in list_networks(connection, workspace) if network.interface is not None]
    if not bound:
        return []
    now = read()
    found = [(network, now.get(network.interface or "", ())) for network in bound]
    return [InterfaceChanged(network.id, blocks) for network, blocks in found if blocks != network.blocks]


def _warnings(name: str, blocks: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(
        f"{name} holds every {version} address, so it keeps nobody out who comes from one."
        for version in everywhere(blocks)
    )


def _blocks_of(interface: str) -> tuple[str, ...]:
    try:
        known = read_interfaces()
    except OSError:
        raise Invalid(
            "The server cannot read its machine's interfaces.",
            "Give the address blocks themselves.",
            field="interface",
        ) from None
    if interface not in known:
        # What was given is not repeated: it may be anything.
        raise Invalid(
            "There is no such interface on the server's machine.",
            f"There are: {', '.join(sorted(known))}.",
            field="interface",
        )
    return known[interface]


def _check_blocks(blocks: tuple[str, ...]) -> None:
    if not blocks:
        raise Invalid(
            "A network needs at least one address block.",
            "Give one, such as 203.0.113.0/24, or an interface or a listener's address.",
            field="blocks",
        )
    try:
        for block in blocks:
            if not re.search(r"[.:]", block):
                raise InvalidRestriction(f"{block!r} is not an address block.")
        Networks(blocks)
    except InvalidRestriction as error:
        sentence, _, next_step = str(error).partition(". ")
        raise Invalid(
            sentence.rstrip(".") + ".",
            next_step or "Give address blocks such as 203.0.113.0/24.",
            field="blocks",
        ) from None
