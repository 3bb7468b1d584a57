"""What the frame of every operation writes: what was done, what changed, what was answered."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, LargeBinary, Table, Text, UniqueConstraint

from valetkey.store.tables.columns import Whole, metadata, time_column, workspace_column

audit = Table(
    "audit",
    metadata,
    # Integer on SQLite is the row id: it only ever grows, as the outbox needs.
    Column("seq", Whole, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    workspace_column(),
    time_column("time"),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("details", Text, nullable=False),
    Column("journaled", Integer, nullable=False),
    Index("ix_audit_journaled", "journaled"),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)

changes = Table(
    "changes",
    metadata,
    Column("seq", Whole, primary_key=True, autoincrement=True),
    workspace_column(),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    time_column("time"),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)

replays = Table(
    "replays",
    metadata,
    workspace_column(),
    Column("actor", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("request", LargeBinary, nullable=False),
    Column("answer", Text, nullable=False),
    time_column("created"),
    UniqueConstraint("workspace_id", "actor", "token"),
    sqlite_strict=True,
)
