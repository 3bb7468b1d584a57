"""Parties, the tokens that the API and the verify door take, and what is to be erased of a party."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, LargeBinary, Table, Text, UniqueConstraint

from valetkey.store.tables.columns import Whole, id_column, metadata, time_column, workspace_column

parties = Table(
    "parties",
    metadata,
    id_column(),
    workspace_column(),
    Column("name", Text, nullable=False),
    # What looks like the name, see `parties/operations`: no database folds more than ASCII by itself.
    Column("folded", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("block", Whole, nullable=False),
    time_column("created"),
    time_column("removed", nullable=True),
    UniqueConstraint("workspace_id", "name"),
    Index("ix_parties_workspace_id_folded", "workspace_id", "folded"),
    sqlite_strict=True,
)

credentials = Table(
    "credentials",
    metadata,
    id_column(),
    workspace_column(),
    # 'service' for /v1/verify, 'api' for the control API.
    Column("kind", Text, nullable=False),
    Column("service_id", ForeignKey("services.id"), nullable=True),
    Column("party_id", ForeignKey("parties.id"), nullable=True),
    Column("fingerprint", LargeBinary, nullable=False, unique=True),
    Column("last4", Text, nullable=False),
    Column("label", Text, nullable=False),
    time_column("created"),
    time_column("revoked", nullable=True),
    sqlite_strict=True,
)

erasures = Table(
    "erasures",
    metadata,
    id_column(),
    workspace_column(),
    # Whose personal fields are to be erased, or those of calls before which instant.
    Column("party", Text, nullable=True),
    time_column("before", nullable=True),
    time_column("asked"),
    # How many records were blanked; null while it is not done: the next start goes on with it.
    Column("erased", Whole, nullable=True),
    time_column("done", nullable=True),
    sqlite_strict=True,
)
