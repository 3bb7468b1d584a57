"""Services, and the policies that keys of them are held to."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, LargeBinary, Table, Text, UniqueConstraint

from valetkey.store.tables.columns import Whole, id_column, metadata, time_column, workspace_column

services = Table(
    "services",
    metadata,
    id_column(),
    workspace_column(),
    Column("name", Text, nullable=False),
    Column("definition", Text, nullable=False),
    Column("locked", Integer, nullable=False),
    Column("block", Whole, nullable=False),
    time_column("created"),
    time_column("removed", nullable=True),
    sqlite_strict=True,
)
Index(
    "uq_services_living_name",
    services.c.workspace_id,
    services.c.name,
    unique=True,
    sqlite_where=services.c.removed.is_(None),
    postgresql_where=services.c.removed.is_(None),
)

policies = Table(
    "policies",
    metadata,
    id_column(),
    workspace_column(),
    Column("digest", LargeBinary, nullable=False),
    Column("document", Text, nullable=False),
    UniqueConstraint("workspace_id", "digest"),
    sqlite_strict=True,
)
