"""Asking about secrets without opening one."""

from __future__ import annotations

from sqlalchemy import Connection, select

from valetkey.store import tables


def has_living_secret(
    connection: Connection, service_id: str, environment_id: str, name: str, wall: float
) -> bool:
    """Whether calls of a service would find a version of the secret that is neither retired nor expired."""
    secrets, versions = tables.secrets, tables.secret_versions
    living = (
        select(versions.c.id)
        .join(secrets, secrets.c.id == versions.c.secret_id)
        .where(
            secrets.c.service_id == service_id,
            secrets.c.environment_id == environment_id,
            secrets.c.name == name,
            versions.c.retired.is_(None),
            versions.c.expires.is_(None) | (versions.c.expires > wall),
        )
    )
    return connection.execute(living.limit(1)).first() is not None
