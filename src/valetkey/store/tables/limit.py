"""Limits of holders, services and workspaces, and which blocks of counters are free."""

from __future__ import annotations

from sqlalchemy import Column, Integer, Table, Text, UniqueConstraint

from valetkey.store.tables.columns import Whole, id_column, metadata, time_column, workspace_column

limits = Table(
    "limits",
    metadata,
    id_column(),
    workspace_column(),
    # 'holder', 'service' or 'workspace', and its id.
    Column("level", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("document", Text, nullable=False),
    Column("block", Whole, nullable=False),
    UniqueConstraint("workspace_id", "level", "subject"),
    sqlite_strict=True,
)

blocks = Table(
    "blocks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("next", Whole, nullable=False),
    sqlite_strict=True,
)

spare_blocks = Table(
    "spare_blocks",
    metadata,
    # Of keys that workers know no more.
    Column("block", Whole, primary_key=True, autoincrement=False),
    time_column("since"),
    # Whether its counters were set to nothing: only then may another key have it.
    Column("clean", Integer, nullable=False),
    sqlite_strict=True,
)
