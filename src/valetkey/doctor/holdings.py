"""What the database holds of keys, services and secrets, as facts. Opens no secret and reads no key's value."""

from __future__ import annotations

import ipaddress

import msgspec
from sqlalchemy import Connection, func, select

from valetkey.decision.policy import Policy
from valetkey.decision.restrictions.endpoints import Endpoints
from valetkey.decision.restrictions.networks import Networks
from valetkey.decision.restrictions.wording import NAME
from valetkey.doctor.facts import HoldingsFacts, KeyFacts, SecretFacts
from valetkey.keys.kinds import KeyKind
from valetkey.services.queries import list_services
from valetkey.services.service import Kind
from valetkey.store import tables
from valetkey.store.standing import still_living

HOUR = 3600
WIDE_NETWORK = {4: 8, 6: 19}
"""Larger blocks than these no holder has."""


def holdings(connection: Connection, workspace: str, wall: float) -> HoldingsFacts:
    """Everything that lives in a workspace."""
    services = {one.id: one.service for one in list_services(connection, workspace)}
    secrets = _secrets(connection, workspace, {id_: one.name for id_, one in services.items()})
    having = {name.partition("/")[0] for name in (secret.name for secret in secrets)}
    bare = [one.name for one in services.values() if one.kind is not Kind.OWN and one.name not in having]
    # A service of one's own says what each call costs.
    unpriced = {
        id_: one.name
        for id_, one in services.items()
        if one.price_micros is None and one.kind is not Kind.OWN
    }
    return HoldingsFacts(_keys(connection, workspace, wall, unpriced), secrets, tuple(bare))


def _keys(
    connection: Connection, workspace: str, wall: float, unpriced: dict[str, str]
) -> tuple[KeyFacts, ...]:
    keys, use = tables.keys, tables.rollups
    newest = (
        select(use.c.key_id, func.max(use.c.hour).label("hour"))
        .where(use.c.workspace_id == workspace)
        .group_by(use.c.key_id)
        .subquery()
    )
    rows = connection.execute(
        select(
            keys.c.id,
            keys.c.kind,
            keys.c.service_id,
            keys.c.created,
            keys.c.expires,
            keys.c.review,
            tables.parties.c.removed,
            tables.policies.c.document,
            newest.c.hour,
        )
        .join(tables.parties, tables.parties.c.id == keys.c.holder_id)
        .join(tables.policies, tables.policies.c.id == keys.c.policy_id)
        .outerjoin(newest, newest.c.key_id == keys.c.id)
        .where(
            keys.c.workspace_id == workspace,
            *still_living(wall),
        )
        .order_by(keys.c.created, keys.c.id)
    )
    return tuple(
        KeyFacts(
            id=row.id,
            kind=row.kind,
            created=row.created,
            expires=row.expires,
            review=row.review,
            # The end of the hour: used at some time in it.
            last_used=None if row.hour is None else float(row.hour + HOUR),
            holder_gone=row.removed is not None,
            wide=wide(msgspec.json.decode(row.document, type=Policy)) if row.kind == KeyKind.PUBLIC else None,
            unpriced=unpriced.get(row.service_id) if _has_budget(row.document) else None,
        )
        for row in rows
    )


def _secrets(connection: Connection, workspace: str, services: dict[str, str]) -> tuple[SecretFacts, ...]:
    secrets, versions = tables.secrets, tables.secret_versions
    rows = connection.execute(
        select(
            secrets.c.id, secrets.c.service_id, secrets.c.name, versions.c.number, versions.c.created,
            versions.c.expires,
        )
        .join(versions, versions.c.secret_id == secrets.c.id)
        .where(secrets.c.workspace_id == workspace, versions.c.retired.is_(None))
        .order_by(versions.c.number)
    )  # fmt: skip
    newest: dict[str, SecretFacts] = {}
    for row in rows:
        service = services.get(row.service_id)
        if service is not None:
            name = service if row.name == "default" else f"{service}/{row.name}"
            newest[row.id] = SecretFacts(name, row.number, row.created, row.expires)
    return tuple(sorted(newest.values(), key=lambda one: one.name))


def _has_budget(document: str) -> bool:
    return '"budgets"' in document and bool(msgspec.json.decode(document, type=Policy).limits.budgets)


def wide(policy: Policy) -> str | None:
    """In what way a public key's policy is wide; None when it is not."""
    endpoints = policy.find(Endpoints)
    allowed = endpoints.allow if isinstance(endpoints, Endpoints) else ()
    if not allowed or any(entry.rpartition(" ")[2] in ("**", "/**") for entry in allowed):
        return "every endpoint"
    networks = policy.find(Networks)
    for entry in networks.allow if isinstance(networks, Networks) else ():
        if not NAME.fullmatch(entry):
            block = ipaddress.ip_network(entry)
            if block.prefixlen < WIDE_NETWORK[block.version]:
                return f"itself to {block}"
    return None
