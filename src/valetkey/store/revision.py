"""Which form a database has, read without Alembic: importing that is slower than all else at start."""

from __future__ import annotations

from sqlalchemy import Connection, column, inspect, select, table

from valetkey.store.failures import StoreError

NEWEST = "0001"
"""Revision of the newest script in migrations/versions; a test compares the two."""

_versions = table("alembic_version", column("version_num"))


def current_revision(connection: Connection) -> str | None:
    """The revision of this database, or None for an empty one.

    Raises `StoreError` where there are tables but no revision: a database of something else.
    """
    inspector = inspect(connection)
    if inspector.has_table("alembic_version"):
        return connection.execute(select(_versions.c.version_num)).scalar()
    if inspector.get_table_names():
        raise StoreError(
            "This database holds tables of something other than Valetkey.",
            "Give Valetkey a database of its own.",
        )
    return None
