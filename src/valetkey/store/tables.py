"""All tables, for SQLite and PostgreSQL alike.

Every row belongs to a workspace and, where it makes sense, an environment, from the first migration on.
Times are seconds since the epoch, UTC; money is in millionths; yes and no are 1 and 0. No column ever
holds a plain key.
"""

from __future__ import annotations

from sqlalchemy import (
    REAL,
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeEngine

# STRICT tables of SQLite know INTEGER, REAL, TEXT and BLOB only.
Whole: TypeEngine[int] = BigInteger().with_variant(Integer, "sqlite")
Instant: TypeEngine[float] = Double().with_variant(REAL, "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id() -> Column[str]:
    return Column("id", Text, primary_key=True)


def _workspace() -> Column[str]:
    return Column("workspace_id", ForeignKey("workspaces.id"), nullable=False)


def _time(name: str, *, nullable: bool = False) -> Column[float]:
    return Column(name, Instant, nullable=nullable)


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
    _id(),
    Column("name", Text, nullable=False, unique=True),
    Column("root_key_id", Text, nullable=False),
    Column("sealed_key", LargeBinary, nullable=False),
    _time("created"),
    sqlite_strict=True,
)

environments = Table(
    "environments",
    metadata,
    _id(),
    _workspace(),
    Column("name", Text, nullable=False),
    UniqueConstraint("workspace_id", "name"),
    sqlite_strict=True,
)

sealed_keys = Table(
    "sealed_keys",
    metadata,
    _workspace(),
    Column("purpose", Text, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    UniqueConstraint("workspace_id", "purpose"),
    sqlite_strict=True,
)

services = Table(
    "services",
    metadata,
    _id(),
    _workspace(),
    Column("name", Text, nullable=False),
    Column("definition", Text, nullable=False),
    Column("locked", Integer, nullable=False),
    Column("block", Whole, nullable=False),
    _time("created"),
    _time("removed", nullable=True),
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

secrets = Table(
    "secrets",
    metadata,
    _id(),
    _workspace(),
    Column("environment_id", ForeignKey("environments.id"), nullable=False),
    Column("service_id", ForeignKey("services.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("risk", Text, nullable=False),
    _time("created"),
    UniqueConstraint("workspace_id", "environment_id", "service_id", "name"),
    sqlite_strict=True,
)

secret_versions = Table(
    "secret_versions",
    metadata,
    _id(),
    Column("secret_id", ForeignKey("secrets.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    _time("created"),
    _time("expires", nullable=True),
    _time("retired", nullable=True),
    UniqueConstraint("secret_id", "number"),
    Index("ix_secret_versions_fingerprint", "fingerprint"),
    sqlite_strict=True,
)

parties = Table(
    "parties",
    metadata,
    _id(),
    _workspace(),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("block", Whole, nullable=False),
    _time("created"),
    _time("removed", nullable=True),
    UniqueConstraint("workspace_id", "name"),
    sqlite_strict=True,
)

networks = Table(
    "networks",
    metadata,
    _id(),
    _workspace(),
    Column("name", Text, nullable=False),
    Column("blocks", Text, nullable=False),
    _time("created"),
    UniqueConstraint("workspace_id", "name"),
    sqlite_strict=True,
)

limits = Table(
    "limits",
    metadata,
    _id(),
    _workspace(),
    # 'holder', 'service' or 'workspace', and its id.
    Column("level", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("document", Text, nullable=False),
    Column("block", Whole, nullable=False),
    UniqueConstraint("workspace_id", "level", "subject"),
    sqlite_strict=True,
)

agreements = Table(
    "agreements",
    metadata,
    _id(),
    _workspace(),
    # One a partner: every key that it holds is held to it.
    Column("party_id", ForeignKey("parties.id"), nullable=False),
    # As it was written down; and what it means: policy ids by service id, limits.
    Column("document", Text, nullable=False),
    Column("policies", Text, nullable=False),
    Column("limits", Text, nullable=False),
    Column("block", Whole, nullable=False),
    _time("begins", nullable=True),
    _time("ends"),
    _time("created"),
    _time("ended", nullable=True),
    UniqueConstraint("workspace_id", "party_id"),
    sqlite_strict=True,
)

policies = Table(
    "policies",
    metadata,
    _id(),
    _workspace(),
    Column("digest", LargeBinary, nullable=False),
    Column("document", Text, nullable=False),
    UniqueConstraint("workspace_id", "digest"),
    sqlite_strict=True,
)

keys = Table(
    "keys",
    metadata,
    _id(),
    _workspace(),
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
    Column("block", Whole, nullable=False),
    _time("created"),
    _time("expires", nullable=True),
    _time("review", nullable=True),
    _time("ended", nullable=True),
    # Only public keys (and leases, later) can be shown again.
    Column("sealed", LargeBinary, nullable=True),
    # Room for derived, partner and session-tied keys.
    Column("parent_id", ForeignKey("keys.id"), nullable=True),
    Column("session_id", Text, nullable=True),
    # Since when others may have read it: it came in plain text over a network.
    _time("exposed", nullable=True),
    # The call at the gateway that asked for it, until the record shows that it was answered.
    Column("asked_by", Text, nullable=True),
    Index("ix_keys_service_id_holder_id", "service_id", "holder_id"),
    Index("ix_keys_parent_id", "parent_id"),
    sqlite_strict=True,
)
Index(
    "ix_keys_asked_by",
    keys.c.asked_by,
    sqlite_where=keys.c.asked_by.is_not(None),
    postgresql_where=keys.c.asked_by.is_not(None),
)

credentials = Table(
    "credentials",
    metadata,
    _id(),
    _workspace(),
    # 'service' for /v1/verify, 'api' for the control API.
    Column("kind", Text, nullable=False),
    Column("service_id", ForeignKey("services.id"), nullable=True),
    Column("party_id", ForeignKey("parties.id"), nullable=True),
    Column("fingerprint", LargeBinary, nullable=False, unique=True),
    Column("last4", Text, nullable=False),
    Column("label", Text, nullable=False),
    _time("created"),
    _time("revoked", nullable=True),
    sqlite_strict=True,
)

audit = Table(
    "audit",
    metadata,
    # Integer on SQLite is the row id: it only ever grows, as the outbox needs.
    Column("seq", Whole, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    _workspace(),
    _time("time"),
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
    _workspace(),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    _time("time"),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)

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
    _workspace(),
    Column("key_id", Text, nullable=False),
    Column("hour", Whole, nullable=False),
    Column("calls", Whole, nullable=False),
    Column("allowed", Whole, nullable=False),
    # Of those allowed: calls whose bytes never left, so that they count against no limit.
    Column("given_back", Whole, nullable=False, server_default="0"),
    Column("bytes_in", Whole, nullable=False),
    Column("bytes_out", Whole, nullable=False),
    Column("cost", Whole, nullable=False),
    UniqueConstraint("workspace_id", "key_id", "hour"),
    sqlite_strict=True,
)

refusals = Table(
    "refusals",
    metadata,
    _workspace(),
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
    _workspace(),
    Column("key_id", Text, nullable=False),
    # 'address' or 'agent'
    Column("kind", Text, nullable=False),
    Column("value", Text, nullable=False),
    _time("first"),
    _time("last"),
    Column("calls", Whole, nullable=False),
    UniqueConstraint("workspace_id", "key_id", "kind", "value"),
    sqlite_strict=True,
)

blocks = Table(
    "blocks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("next", Whole, nullable=False),
    sqlite_strict=True,
)

replays = Table(
    "replays",
    metadata,
    _workspace(),
    Column("actor", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("request", LargeBinary, nullable=False),
    Column("answer", Text, nullable=False),
    _time("created"),
    UniqueConstraint("workspace_id", "actor", "token"),
    sqlite_strict=True,
)
