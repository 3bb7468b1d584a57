"""Networks that calls may be held to."""

from __future__ import annotations

from sqlalchemy import Column, Table, Text, UniqueConstraint

from valetkey.store.tables.columns import id_column, metadata, time_column, workspace_column

networks = Table(
    "networks",
    metadata,
    id_column(),
    workspace_column(),
    Column("name", Text, nullable=False),
    # As they are now: of an interface of this machine they change with its addresses.
    Column("blocks", Text, nullable=False),
    Column("interface", Text, nullable=True),
    # Or whoever calls at this address of ours.
    Column("listener", Text, nullable=True),
    time_column("created"),
    UniqueConstraint("workspace_id", "name"),
    sqlite_strict=True,
)
