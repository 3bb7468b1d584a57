"""What an installation holds: its workspaces, their environments, and marks of its own."""

from __future__ import annotations

from sqlalchemy import Column, LargeBinary, Table, Text, UniqueConstraint

from valetkey.store.tables.columns import id_column, metadata, time_column, workspace_column

meta = Table(
    "meta",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_strict=True,
)

workspaces = Table(
    "workspaces",
    metadata,
    id_column(),
    Column("name", Text, nullable=False, unique=True),
    Column("root_key_id", Text, nullable=False),
    Column("sealed_key", LargeBinary, nullable=False),
    time_column("created"),
    sqlite_strict=True,
)

environments = Table(
    "environments",
    metadata,
    id_column(),
    workspace_column(),
    Column("name", Text, nullable=False),
    UniqueConstraint("workspace_id", "name"),
    sqlite_strict=True,
)
