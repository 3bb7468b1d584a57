"""Bring a database to the newest form with Alembic, inside the caller's transaction.

Import this only when there is something to do: `revision` says so without Alembic.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from valetkey.store.failures import StoreError
from valetkey.store.revision import current_revision

FOLDER = Path(__file__).parent / "migrations"


def configuration(connection: Connection | None = None) -> Config:
    """Alembic's settings for our scripts, working on `connection`."""
    config = Config()
    # Alembic interpolates its settings: a percent sign in the folder's name must be doubled.
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def newest_revision() -> str | None:
    """Revision of the newest script."""
    return ScriptDirectory.from_config(configuration()).get_current_head()


def upgrade(connection: Connection) -> None:
    """Run the migrations that are missing. Raises `StoreError` for a database from a newer Valetkey.

    On SQLite the connection must not enforce foreign keys: changing a table there means to copy and drop it,
    which would break what refers to it. All references are checked at the end instead.
    """
    config = configuration(connection)
    script = ScriptDirectory.from_config(config)
    current = current_revision(connection)
    if current == script.get_current_head():
        return
    if current is not None and current not in {each.revision for each in script.walk_revisions()}:
        raise StoreError(
            "This database was written by a newer Valetkey.",
            "Start that version, or restore an older backup.",
        )
    command.upgrade(config, "head")
    if connection.dialect.name == "sqlite" and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
        raise StoreError(
            "Some rows of this database refer to rows that are gone, so it was left as it is.",
            "Restore a backup.",
        )


__all__ = ["FOLDER", "StoreError", "configuration", "newest_revision", "upgrade"]
