"""Take a named network away, which nothing may name that can still be used."""

from __future__ import annotations

import msgspec
from sqlalchemy import delete, select

from valetkey.access.operation import Unit, operation
from valetkey.decision.policy import Policy, State
from valetkey.decision.restrictions import Networks
from valetkey.errors import Conflict, NotFound
from valetkey.journal.actions import AuditAction
from valetkey.nearest import did_you_mean
from valetkey.networks.operations import Network, list_networks
from valetkey.store import tables

SHOWN = 3
"""Keys that a refusal names; of more only the number is told."""


class NetworkName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which network."""

    name: str


@operation(AuditAction.NETWORK_REMOVE)
def remove_network(unit: Unit, request: NetworkName) -> Network:
    """Forget the name. Raises `NotFound`, and `Conflict` while a key that is not revoked, or an agreement that was not
    ended, names it: one that has expired may live again, and would be held to a name that means nothing.

    Workers need not be told: nothing that they let through names it, and a name that comes back is told anew."""
    named = {network.name: network for network in list_networks(unit.connection, unit.workspace)}
    network = named.get(request.name)
    if network is None:
        raise NotFound(
            f"There is no network named {request.name!r}.",
            f"{did_you_mean(request.name, named)} See: valetkey network list".lstrip(),
            field="name",
        )
    policies, keys = _naming(unit, network.name)
    partners = _partners(unit, policies)
    if keys or partners:
        users = [
            *([_counted(len(keys), "key", keys)] if keys else []),
            *([_counted(len(partners), "agreement", partners)] if partners else []),
        ]
        raise Conflict(
            f"{network.name} is named by {' and by '.join(users)}.",
            "Have them name another one, or revoke the keys, first: valetkey key change ID --network NAME",
        )
    unit.connection.execute(delete(tables.networks).where(tables.networks.c.id == network.id))
    unit.subject = f"network:{network.name}"
    return network


def _naming(unit: Unit, name: str) -> tuple[set[str], list[str]]:
    """Policies that name a network, and the keys of these that are not revoked."""
    table, keys = tables.policies, tables.keys
    rows = unit.connection.execute(
        # A name holds nothing that LIKE reads otherwise.
        select(table.c.id, table.c.document).where(
            table.c.workspace_id == unit.workspace, table.c.document.like(f'%"{name}"%')
        )
    )
    policies = {row.id for row in rows if _names(msgspec.json.decode(row.document, type=Policy), name)}
    held = unit.connection.execute(
        select(keys.c.id, keys.c.policy_id)
        .join(table, table.c.id == keys.c.policy_id)
        .where(
            keys.c.workspace_id == unit.workspace,
            keys.c.state != State.REVOKED.value,
            keys.c.dropped.is_(None),
            table.c.document.like(f'%"{name}"%'),
        )
        .order_by(keys.c.created, keys.c.id)
    )
    return policies, [row.id for row in held if row.policy_id in policies]


def _names(policy: Policy, name: str) -> bool:
    networks = policy.find(Networks)
    return isinstance(networks, Networks) and name in networks.allow


def _partners(unit: Unit, policies: set[str]) -> list[str]:
    """Whose agreement, not ended, is made of one of these policies."""
    agreements, parties = tables.agreements, tables.parties
    rows = unit.connection.execute(
        select(parties.c.name, agreements.c.policies)
        .join(parties, parties.c.id == agreements.c.party_id)
        .where(agreements.c.workspace_id == unit.workspace, agreements.c.ended.is_(None))
        .order_by(parties.c.name)
    )
    return [
        name
        for name, made in rows
        if not policies.isdisjoint(msgspec.json.decode(made, type=dict[str, str]).values())
    ]


def _counted(number: int, one: str, names: list[str]) -> str:
    more = f" and {number - SHOWN:,} more" if number > SHOWN else ""
    return f"{number:,} {one if number == 1 else f'{one}s'} ({', '.join(names[:SHOWN])}{more})"
