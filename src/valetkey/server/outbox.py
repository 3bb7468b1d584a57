"""The outbox of audit entries: written in the action's own transaction, taken from there into the journal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from sqlalchemy import Connection, select, update

from valetkey.journal.records import Audit
from valetkey.store import tables

AUDIT_BATCH = 500
"""Audit entries chained in one turn."""


def waiting_entries(connection: Connection) -> Iterator[tuple[int, Audit]]:
    """Entries that are not in the journal yet, in their order: number and record."""
    table = tables.audit
    rows = connection.execute(
        select(table).where(table.c.journaled == 0).order_by(table.c.seq).limit(AUDIT_BATCH)
    ).all()
    for row in rows:
        details = msgspec.json.decode(row.details)
        yield (
            row.seq,
            Audit(
                row.time,
                row.action,
                row.actor,
                entry=row.id,
                subject=row.subject or None,
                workspace=row.workspace_id,
                detail={"outcome": row.outcome, **_flat(details)},
            ),
        )


def note_journaled(connection: Connection, last: int) -> None:
    """The entries up to this number stand in the journal, on the disk."""
    table = tables.audit
    connection.execute(update(table).where(table.c.journaled == 0, table.c.seq <= last).values(journaled=1))


def _flat(details: dict[str, Any]) -> dict[str, str | int | float | bool | None]:
    """Nested details as JSON text: a record holds plain values only."""
    return {
        name: value
        if isinstance(value, str | int | float | bool) or value is None
        else msgspec.json.encode(value).decode()
        for name, value in details.items()
    }
