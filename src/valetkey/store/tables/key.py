"""Keys that were given out."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, LargeBinary, Table, Text, and_, text

from valetkey.store.tables.columns import Whole, id_column, metadata, time_column, workspace_column

keys = Table(
    "keys",
    metadata,
    id_column(),
    workspace_column(),
    Column("environment_id", ForeignKey("environments.id"), nullable=False),
    Column("service_id", ForeignKey("services.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False, unique=True),
    # Keys of own services also stand under the service's index key: all that a verifier in-process gets.
    Column("service_fingerprint", LargeBinary, nullable=True),
    Column("last4", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("holder_id", ForeignKey("parties.id"), nullable=False),
    Column("policy_id", ForeignKey("policies.id"), nullable=False),
    Column("secret_name", Text, nullable=False),
    Column("state", Text, nullable=False),
    # Of counters; null once others may have it, of a derived key that has long been dead.
    Column("block", Whole, nullable=True),
    time_column("created"),
    time_column("expires", nullable=True),
    time_column("review", nullable=True),
    time_column("ended", nullable=True),
    # Since when workers know it no more: a derived key that has long been dead.
    time_column("dropped", nullable=True),
    # Only public keys (and leases, later) can be shown again.
    Column("sealed", LargeBinary, nullable=True),
    Column("parent_id", ForeignKey("keys.id"), nullable=True),
    # A token's or a process's (access/sessions.py), with which it ends.
    Column("session_id", Text, nullable=True),
    # Of a sticky key: the address that it is pinned to, empty until its first call.
    Column("pinned", Text, nullable=True),
    # Since when others may have read it: it came in plain text over a network.
    time_column("exposed", nullable=True),
    # The call at the gateway that asked for it, until the record shows that it was answered.
    Column("asked_by", Text, nullable=True),
    Index("ix_keys_service_id_holder_id", "service_id", "holder_id"),
    Index("ix_keys_parent_id_created", "parent_id", "created"),
    Index(
        "ix_keys_session_id",
        "session_id",
        sqlite_where=text("session_id IS NOT NULL"),
        postgresql_where=text("session_id IS NOT NULL"),
    ),
    Index(
        "ix_keys_sticky",
        "workspace_id",
        sqlite_where=text("pinned IS NOT NULL"),
        postgresql_where=text("pinned IS NOT NULL"),
    ),
    sqlite_strict=True,
)
Index(
    "ix_keys_asked_by",
    keys.c.asked_by,
    sqlite_where=keys.c.asked_by.is_not(None),
    postgresql_where=keys.c.asked_by.is_not(None),
)
Index(
    "ix_keys_derived_ended",
    keys.c.ended,
    sqlite_where=and_(keys.c.parent_id.is_not(None), keys.c.dropped.is_(None)),
    postgresql_where=and_(keys.c.parent_id.is_not(None), keys.c.dropped.is_(None)),
)
Index(
    "ix_keys_dropped",
    keys.c.dropped,
    sqlite_where=and_(keys.c.dropped.is_not(None), keys.c.block.is_not(None)),
    postgresql_where=and_(keys.c.dropped.is_not(None), keys.c.block.is_not(None)),
)
