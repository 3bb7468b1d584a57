"""Rollups and audit in the database: stored with the journal positions they cover, read by doors."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, func, select

from valetkey.errors import Invalid, NotFound
from valetkey.journal.tail import Position
from valetkey.journal.usage import HOUR, MOST_SEEN, SeenSet, Use
from valetkey.store import tables
from valetkey.store.upsert import added, newest, upsert

NOBODY = "-"
"""Stands for calls with no key of ours."""
MAX_HOURS = 24 * 31


def read_positions(connection: Connection) -> dict[str, Position]:
    """How far the journal is accounted for."""
    table = tables.segments
    columns = (table.c.name, table.c.offset, table.c.count, table.c.head, table.c.sealed)
    return {
        name: Position(offset, count, head, bool(sealed))
        for name, offset, count, head, sealed in connection.execute(select(*columns))
    }


def store_use(
    connection: Connection,
    workspace: str,
    use: Use,
    positions: dict[str, Position],
) -> None:
    """Add use, and note in the same transaction how far the journal is accounted for: exactly once."""
    _add_hours(connection, workspace, use)
    for kind, sets in (("address", use.addresses), ("agent", use.user_agents)):
        _add_sightings(connection, workspace, kind, sets)
    segments = tables.segments
    stored = dict(connection.execute(select(segments.c.name, segments.c.count)).tuples().all())
    upsert(
        connection,
        segments,
        [
            {
                "name": name, "count": position.count, "head": position.head,
                "sealed": int(position.sealed), "offset": position.offset,
            }
            for name, position in positions.items()
            if stored.get(name) != position.count
        ],
        ("name",),
        count=newest, head=newest, sealed=newest, offset=newest,
    )  # fmt: skip


def _add_hours(connection: Connection, workspace: str, use: Use) -> None:
    named = [(key or NOBODY, hour, more) for (key, hour), more in use.hours.items()]
    upsert(
        connection,
        tables.rollups,
        [
            {
                "workspace_id": workspace, "key_id": key, "hour": hour, "calls": more.calls, "allowed": more.allowed,
                "given_back": more.given_back,
                "bytes_in": more.bytes_in, "bytes_out": more.bytes_out, "bytes_uncounted": more.bytes_uncounted,
                "cost": more.cost,
            }
            for key, hour, more in named
        ],
        ("workspace_id", "key_id", "hour"),
        calls=added, allowed=added, given_back=added, bytes_in=added, bytes_out=added,
        bytes_uncounted=added, cost=added,
    )  # fmt: skip
    upsert(
        connection,
        tables.refusals,
        [
            {"workspace_id": workspace, "key_id": key, "hour": hour, "code": code, "calls": count}
            for key, hour, more in named
            for code, count in more.refused.items()
        ],
        ("workspace_id", "key_id", "hour", "code"),
        calls=added,
    )


def _add_sightings(connection: Connection, workspace: str, kind: str, sets: dict[str, SeenSet]) -> None:
    table = tables.sightings
    upsert(
        connection,
        table,
        [
            {
                "workspace_id": workspace, "key_id": key, "kind": kind, "value": value,
                "first": sighting.first, "last": sighting.last, "calls": sighting.calls,
            }
            for key, seen in sets.items()
            for value, sighting in seen.values.items()
        ],
        ("workspace_id", "key_id", "kind", "value"),
        last=newest, calls=added,
    )  # fmt: skip
    # Only a key that was seen from several places at once can have come over the bound.
    for key in [key for key, seen in sets.items() if len(seen.values) > 1]:
        chosen = (table.c.workspace_id == workspace, table.c.key_id == key, table.c.kind == kind)
        values = (
            connection.execute(select(table.c.value).where(*chosen).order_by(table.c.last.desc()))
            .scalars()
            .all()
        )
        if len(values) > MOST_SEEN:
            connection.execute(delete(table).where(*chosen, table.c.value.in_(values[MOST_SEEN:])))


def read_usage(
    connection: Connection, workspace: str, key: str | None, hours: int, wall: float
) -> dict[str, Any]:
    """Use by key over the last hours; for one key also its addresses and user agents. Raises `NotFound`."""
    if not 1 <= hours <= MAX_HOURS:
        raise Invalid(f"Usage is shown for 1 to {MAX_HOURS} hours.", "Give another number.", field="hours")
    table, keys = tables.rollups, tables.keys
    current = int(wall) // HOUR * HOUR
    first = current - (hours - 1) * HOUR
    query = (
        select(
            table,
            keys.c.label,
            tables.parties.c.name.label("holder"),
            tables.services.c.name.label("service"),
        )
        .join(keys, keys.c.id == table.c.key_id, isouter=True)
        .join(tables.parties, tables.parties.c.id == keys.c.holder_id, isouter=True)
        .join(tables.services, tables.services.c.id == keys.c.service_id, isouter=True)
        .where(table.c.workspace_id == workspace, table.c.hour >= first)
    )
    if key is not None:
        known = connection.execute(
            select(keys.c.id).where(keys.c.workspace_id == workspace, keys.c.id == key)
        ).first()
        if known is None:
            raise NotFound("There is no key with that id.", "See: valetkey key list", field="key")
        query = query.where(table.c.key_id == key)
    items: dict[str, dict[str, Any]] = {}
    for row in connection.execute(query):
        item = items.setdefault(
            row.key_id,
            {
                "key_id": None if row.key_id == NOBODY else row.key_id,
                "label": row.label, "holder": row.holder, "service": row.service,
                "calls": 0, "allowed": 0, "refused": 0, "bytes_in": 0, "bytes_out": 0, "cost": 0,
                "hours": [0] * hours, "codes": {},
            },
        )  # fmt: skip
        for name in ("calls", "allowed", "bytes_in", "bytes_out", "cost"):
            item[name] += getattr(row, name)
        item["refused"] = item["calls"] - item["allowed"]
        place = (row.hour - first) // HOUR
        if 0 <= place < hours:
            item["hours"][place] += row.calls
    refusals = tables.refusals
    refused = select(refusals.c.key_id, refusals.c.code, func.sum(refusals.c.calls)).where(
        refusals.c.workspace_id == workspace, refusals.c.hour >= first
    )
    if key is not None:
        refused = refused.where(refusals.c.key_id == key)
    for key_id, code, calls in connection.execute(refused.group_by(refusals.c.key_id, refusals.c.code)):
        if key_id in items:
            items[key_id]["codes"][code] = int(calls)
    answer: dict[str, Any] = {
        "items": sorted(items.values(), key=lambda item: -item["calls"]),
        "next": None,
        "from": first,
    }
    if key is not None:
        answer["addresses"] = _sightings(connection, workspace, key, "address")
        answer["agents"] = _sightings(connection, workspace, key, "agent")
    return answer


def _sightings(connection: Connection, workspace: str, key: str, kind: str) -> list[dict[str, Any]]:
    table = tables.sightings
    rows = connection.execute(
        select(table)
        .where(table.c.workspace_id == workspace, table.c.key_id == key, table.c.kind == kind)
        .order_by(table.c.last.desc())
    )
    return [{"value": r.value, "first": r.first, "last": r.last, "calls": r.calls} for r in rows]


def read_audit(connection: Connection, workspace: str, limit: int, cursor: str | None) -> dict[str, Any]:
    """A page of management actions, newest first. Raises `Invalid` for a cursor that is none."""
    table = tables.audit
    limit = max(1, min(limit, 200))
    query = select(table).where(table.c.workspace_id == workspace)
    if cursor is not None:
        try:
            before = int(base64.urlsafe_b64decode(cursor))
            if not 0 < before < 2**63:
                raise ValueError
            query = query.where(table.c.seq < before)
        except ValueError:
            raise Invalid(
                "That cursor was not given out here.", "Start again without one.", field="cursor"
            ) from None
    rows = connection.execute(query.order_by(table.c.seq.desc()).limit(limit + 1)).all()
    items = [
        {
            "id": row.id, "time": row.time, "actor": row.actor, "action": row.action, "subject": row.subject,
            "outcome": row.outcome, "details": msgspec.json.decode(row.details),
        }
        for row in rows[:limit]
    ]  # fmt: skip
    following = (
        base64.urlsafe_b64encode(str(rows[limit - 1].seq).encode()).decode() if len(rows) > limit else None
    )
    return {"items": items, "next": following}
