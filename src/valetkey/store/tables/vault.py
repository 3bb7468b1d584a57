"""What is sealed: keys of a workspace, and secrets with their versions."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, LargeBinary, Table, Text, UniqueConstraint

from valetkey.store.tables.columns import id_column, metadata, time_column, workspace_column

sealed_keys = Table(
    "sealed_keys",
    metadata,
    workspace_column(),
    Column("purpose", Text, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    UniqueConstraint("workspace_id", "purpose"),
    sqlite_strict=True,
)

secrets = Table(
    "secrets",
    metadata,
    id_column(),
    workspace_column(),
    Column("environment_id", ForeignKey("environments.id"), nullable=False),
    Column("service_id", ForeignKey("services.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("risk", Text, nullable=False),
    time_column("created"),
    UniqueConstraint("workspace_id", "environment_id", "service_id", "name"),
    sqlite_strict=True,
)

secret_versions = Table(
    "secret_versions",
    metadata,
    id_column(),
    Column("secret_id", ForeignKey("secrets.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    time_column("created"),
    time_column("expires", nullable=True),
    time_column("retired", nullable=True),
    UniqueConstraint("secret_id", "number"),
    Index("ix_secret_versions_fingerprint", "fingerprint"),
    sqlite_strict=True,
)
