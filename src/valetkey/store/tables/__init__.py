"""All tables, for SQLite and PostgreSQL alike: a file a room, gathered here, so that the metadata is whole.

Every row belongs to a workspace and, where it makes sense, an environment, from the first migration on.
Times are seconds since the epoch, UTC; money is in millionths; yes and no are 1 and 0. No column ever
holds a plain key.
"""

from __future__ import annotations

from valetkey.store.tables.access import audit, changes, replays
from valetkey.store.tables.agreement import agreements
from valetkey.store.tables.columns import metadata
from valetkey.store.tables.installation import environments, meta, workspaces
from valetkey.store.tables.journal import refusals, rollups, segments, sightings
from valetkey.store.tables.key import keys
from valetkey.store.tables.limit import blocks, limits, spare_blocks
from valetkey.store.tables.network import networks
from valetkey.store.tables.party import credentials, erasures, parties
from valetkey.store.tables.service import policies, services
from valetkey.store.tables.vault import sealed_keys, secret_versions, secrets

__all__ = [
    "agreements",
    "audit",
    "blocks",
    "changes",
    "credentials",
    "environments",
    "erasures",
    "keys",
    "limits",
    "meta",
    "metadata",
    "networks",
    "parties",
    "policies",
    "refusals",
    "replays",
    "rollups",
    "sealed_keys",
    "secret_versions",
    "secrets",
    "segments",
    "services",
    "sightings",
    "spare_blocks",
    "workspaces",
]
