"""Agreements with partners."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Table, Text, UniqueConstraint

from valetkey.store.tables.columns import Whole, id_column, metadata, time_column, workspace_column

agreements = Table(
    "agreements",
    metadata,
    id_column(),
    workspace_column(),
    # One a partner: every key that it holds is held to it.
    Column("party_id", ForeignKey("parties.id"), nullable=False),
    # As it was written down; and what it means: policy ids by service id, limits.
    Column("document", Text, nullable=False),
    Column("policies", Text, nullable=False),
    Column("limits", Text, nullable=False),
    Column("block", Whole, nullable=False),
    time_column("begins", nullable=True),
    time_column("ends"),
    time_column("created"),
    # When it was ended before its time; when it was noted for good that its end was reached.
    time_column("ended", nullable=True),
    time_column("latched", nullable=True),
    UniqueConstraint("workspace_id", "party_id"),
    sqlite_strict=True,
)
