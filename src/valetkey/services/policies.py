"""Policies as they stand beside a service: whether their names mean something there, and where they are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import msgspec
from sqlalchemy import insert, select

from valetkey.access.operation import Unit
from valetkey.decision.policy import Policy, compile_policy
from valetkey.decision.restrictions import Endpoints, Hosts, InvalidRestriction
from valetkey.decision.restrictions.base import CompileContext
from valetkey.decision.restrictions.patterns import EndpointPattern
from valetkey.errors import Invalid
from valetkey.networks.operations import list_networks
from valetkey.services.catalogue import compile_context
from valetkey.services.service import Service
from valetkey.store import tables

_encode = msgspec.json.Encoder(order="deterministic").encode


def context_of(unit: Unit, service: Service, known: Collection[str] | None = None) -> CompileContext:
    """What names in restrictions on keys of this service mean now. `known`: networks that may be named; None: all."""
    named = list_networks(unit.connection, unit.workspace)
    if known is not None:
        named = [network for network in named if network.name in known]
    networks = {network.name: network.blocks for network in named if network.listener is None}
    listeners = {network.name: network.listener for network in named if network.listener is not None}
    return compile_context(service, networks, listeners)


def check_names(
    unit: Unit, policy: Policy, service: Service, known: Collection[str] | None = None
) -> CompileContext:
    """Names in restrictions must mean something now; later changes of what they name are followed live.

    Returns what they mean. `known`: names of networks that who asks may know, None: all. Raises `Invalid`.
    """
    context = context_of(unit, service, known)
    try:
        compile_policy(policy, context)
    except InvalidRestriction as error:
        sentence, _, next_step = str(error).partition(". ")
        raise Invalid(sentence.rstrip(".") + ".", next_step) from None
    hosts = policy.find(Hosts)
    known = ", ".join(service.hosts) or "none"
    for name in hosts.allow if isinstance(hosts, Hosts) else ():
        if name not in service.hosts:
            raise Invalid(f"{service.name} has no host {name!r}.", f"It has: {known}.", field="hosts")
    for pattern in patterns(policy):
        if pattern.host is not None and pattern.host not in service.hosts:
            raise Invalid(
                f"{pattern.text!r} begins with a host that {service.name} does not have.",
                f"Begin the path with a slash, or name one of its hosts: {known}.",
                field="endpoints",
            )
    return context


def patterns(policy: Policy) -> list[EndpointPattern]:
    """The endpoint patterns that a policy spells out; names of the catalogue are left to the compiler."""
    endpoints = policy.find(Endpoints)
    if not isinstance(endpoints, Endpoints):
        return []
    return [EndpointPattern(text) for text in (*endpoints.allow, *endpoints.deny) if "/" in text]


def policy_id(unit: Unit, policy: Policy) -> str:
    """The id of this policy's row, which is made where there is none: equal policies are stored once."""
    document = _encode(policy)
    digest = hashlib.sha256(document).digest()
    table = tables.policies
    found = unit.connection.execute(
        select(table.c.id).where(table.c.workspace_id == unit.workspace, table.c.digest == digest)
    ).scalar()
    if found is not None:
        return str(found)
    identifier = unit.new_id("pol")
    unit.connection.execute(
        insert(table).values(
            id=identifier, workspace_id=unit.workspace, digest=digest, document=document.decode()
        )
    )
    unit.touch("policy", identifier)
    return identifier
