"""How far the journal was read, and what it said of use."""

from __future__ import annotations

from sqlalchemy import Column, Integer, Table, Text, UniqueConstraint

from valetkey.store.tables.columns import Whole, metadata, time_column, workspace_column

segments = Table(
    "segments",
    metadata,
    Column("name", Text, primary_key=True),
    Column("count", Whole, nullable=False),
    Column("head", Text, nullable=False),
    Column("sealed", Integer, nullable=False),
    Column("offset", Whole, nullable=False),
    sqlite_strict=True,
)

rollups = Table(
    "rollups",
    metadata,
    workspace_column(),
    Column("key_id", Text, nullable=False),
    Column("hour", Whole, nullable=False),
    Column("calls", Whole, nullable=False),
    Column("allowed", Whole, nullable=False),
    # Of those allowed: calls whose bytes never left, so that they count against no limit.
    Column("given_back", Whole, nullable=False, server_default="0"),
    Column("bytes_in", Whole, nullable=False),
    Column("bytes_out", Whole, nullable=False),
    Column("bytes_uncounted", Whole, nullable=False, server_default="0"),
    Column("cost", Whole, nullable=False),
    UniqueConstraint("workspace_id", "key_id", "hour"),
    sqlite_strict=True,
)

refusals = Table(
    "refusals",
    metadata,
    workspace_column(),
    Column("key_id", Text, nullable=False),
    Column("hour", Whole, nullable=False),
    Column("code", Text, nullable=False),
    Column("calls", Whole, nullable=False),
    UniqueConstraint("workspace_id", "key_id", "hour", "code"),
    sqlite_strict=True,
)

sightings = Table(
    "sightings",
    metadata,
    workspace_column(),
    Column("key_id", Text, nullable=False),
    # 'address' or 'agent'
    Column("kind", Text, nullable=False),
    Column("value", Text, nullable=False),
    time_column("first"),
    time_column("last"),
    Column("calls", Whole, nullable=False),
    UniqueConstraint("workspace_id", "key_id", "kind", "value"),
    sqlite_strict=True,
)
