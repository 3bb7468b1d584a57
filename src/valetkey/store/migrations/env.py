"""Alembic runs on the connection it is handed, never on one of its own."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from sqlalchemy import BigInteger, Double

from valetkey.store.tables import metadata


def render_item(kind: str, item: object, _context: object) -> str | Literal[False]:
    """Write the two types that differ between the databases by the names that each script gives them."""
    if kind == "type" and isinstance(item, BigInteger):
        return "WHOLE"
    if kind == "type" and isinstance(item, Double):
        return "INSTANT"
    return False


attributes: dict[str, Any] = context.config.attributes
context.configure(
    connection=attributes["connection"],
    target_metadata=metadata,
    # SQLite changes a table only by copying it, which Alembic calls a batch.
    render_as_batch=attributes.get("batch", True),
    render_item=render_item,
)
context.run_migrations()
