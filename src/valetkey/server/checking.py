"""`key check`: the real decision for a call that is only imagined. Nothing is spent, pinned or recorded."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, select

from valetkey.decision.address import parse_address
from valetkey.decision.call import Call, Now
from valetkey.decision.codes import Code
from valetkey.decision.decide import UNKNOWN, decide, refuse
from valetkey.decision.listener import Listener, parse_listener
from valetkey.decision.path import PathRefused, judge_path
from valetkey.decision.policy import MAX_DEPTH
from valetkey.decision.reservation import BeingCounted
from valetkey.decision.restrictions.patterns import KNOWN_METHODS
from valetkey.durations import read_time
from valetkey.errors import Invalid, NotFound
from valetkey.gateway.client_address import address_bytes
from valetkey.gateway.counted import STILL_COUNTING
from valetkey.gateway.counters import SharedCounters
from valetkey.gateway.index import KeyIndex
from valetkey.gateway.node import refused_by_limit
from valetkey.keys.checking import CheckedKey, CheckKey
from valetkey.server.facts import FactLoader
from valetkey.services.service import Kind
from valetkey.store import tables
from valetkey.vault.queries import has_living_secret


def check_key(
    connection: Connection,
    workspace: str,
    loader: FactLoader,
    counters: SharedCounters,
    request: CheckKey,
    now: Now,
) -> CheckedKey:
    """Decide with the same function, the same compiled policy and the same counters as the gateway.

    Raises `NotFound` for an unknown key and `Invalid` for a time that is none.
    """
    index = index_of_key(connection, workspace, loader, request.id)
    entry = index.get(request.id)
    service = None if entry is None else index.services.get(index.service_name(entry.service_id))
    at = now.wall if request.at is None else _instant(request.at)
    listener = _listener(request.listener)
    method = None if request.method is None else request.method.upper()
    # A derived key that has long been dead is forgotten.
    decision = UNKNOWN if entry is None else refuse(Code.SERVICE_DENIED)
    if method is not None and method not in KNOWN_METHODS:
        decision = refuse(Code.METHOD_REFUSED)
    elif entry is not None and service is not None:
        host = request.host
        if host is None and service.service.kind is not Kind.OWN:
            host = service.service.default_host
        # A host that the service does not have is a service that does not exist.
        known = host is None or host in service.service.hosts
        try:
            path = None
            if request.path is not None:
                raw = request.path.partition("?")[0].encode("utf-8", "surrogateescape")
                path = judge_path(raw, encoded_slash=known and service.service.encoded_slash)
            address = None if request.address is None else parse_address(request.address)
        except PathRefused as error:
            decision = refuse(Code.PATH_REFUSED, str(error))
        except ValueError as error:
            raise Invalid(str(error), "Write an address such as 203.0.113.7.", field="address") from None
        else:
            name = service.service.name if known else None
            call = Call(method, path, name, host, address, request.origin, listener=listener)
            key = index.compiled(entry)
            decision = decide(key, call, at, counters.pins(key.plan))
            if decision.code is Code.VALID and key.plan.levels:
                try:
                    refusal = counters.peek(
                        key.plan,
                        service.service.price_micros,
                        Now(at, now.monotonic),
                        None if address is None else address_bytes(address),
                        request.bytes,
                    )
                except BeingCounted:
                    decision = STILL_COUNTING
                else:
                    if refusal is not None:
                        decision = refused_by_limit(refusal, decision.endpoint)
            if (
                decision.code is Code.VALID
                and service.service.kind is not Kind.OWN
                and not has_living_secret(
                    connection, entry.service_id, entry.environment_id, entry.secret_name, at
                )
            ):
                decision = refuse(Code.SECRET_UNAVAILABLE)
    sentence, next_step = decision.sentence, decision.next_step
    if decision.code is Code.NETWORK_DENIED and request.address is None:
        sentence, next_step = f"{sentence} No address was given.", "Give the caller's address: --address."
    if decision.code is Code.ORIGIN_DENIED and request.origin is None:
        sentence, next_step = f"{sentence} No web origin was given.", "Give the caller's origin: --origin."
    return CheckedKey(
        code=decision.code,
        sentence=sentence,
        next_step=next_step,
        endpoint=decision.endpoint,
        limit=decision.limit,
        retry_after=decision.retry_after,
        key_id=request.id,
    )


def index_of_key(connection: Connection, workspace: str, loader: FactLoader, key_id: str) -> KeyIndex:
    """A key index that holds one key and what it needs. Raises `NotFound`."""
    keys = tables.keys
    changes: list[tuple[str, str]] = []
    following: str | None = key_id
    for _ in range(MAX_DEPTH):
        if following is None:
            break
        row = connection.execute(
            select(keys.c.id, keys.c.service_id, keys.c.holder_id, keys.c.policy_id, keys.c.parent_id).where(
                keys.c.workspace_id == workspace, keys.c.id == following
            )
        ).first()
        if row is None:
            raise NotFound("There is no key with that id.", "See: valetkey key list", field="id")
        changes += [
            ("key", row.id),
            ("service", row.service_id),
            ("party", row.holder_id),
            ("policy", row.policy_id),
        ]
        following = row.parent_id
    subjects = [workspace, *(identifier for kind, identifier in changes if kind in ("service", "party"))]
    limits = connection.execute(
        select(tables.limits.c.id).where(
            tables.limits.c.workspace_id == workspace, tables.limits.c.subject.in_(subjects)
        )
    ).scalars()
    changes += [("limits", identifier) for identifier in limits]
    agreements = connection.execute(
        select(tables.agreements.c.id, tables.agreements.c.policies).where(
            tables.agreements.c.workspace_id == workspace, tables.agreements.c.party_id.in_(subjects)
        )
    ).all()
    for identifier, policies in agreements:
        changes.append(("agreement", identifier))
        changes += [
            ("policy", policy) for policy in msgspec.json.decode(policies, type=dict[str, str]).values()
        ]
    networks = connection.execute(
        select(tables.networks.c.id).where(tables.networks.c.workspace_id == workspace)
    ).scalars()
    changes += [("network", identifier) for identifier in networks]
    index = KeyIndex()
    index.apply(loader.changed(connection, changes))
    return index


def _listener(text: str | None) -> Listener | None:
    try:
        return None if text is None else parse_listener(text)
    except ValueError as error:
        raise Invalid(
            str(error), "Write it as 192.0.2.1:8300 or [2001:db8::1]:8300.", field="listener"
        ) from None


def _instant(text: str) -> float:
    try:
        instant = read_time(text)
    except ValueError:
        raise Invalid(f"{text!r} is no time.", "Write it as 2026-12-31T10:00:00Z.", field="at") from None
    # A day within the calendar on both sides, so that it has a local time everywhere.
    if not 1970 <= instant.year <= 9998:
        raise Invalid(f"{text!r} is no time that a call can have.", "Write a year from 1970 on.", field="at")
    return instant.timestamp()
