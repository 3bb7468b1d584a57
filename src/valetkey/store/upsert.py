"""Insert rows or fold them into those that are there, many at once, on SQLite and PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

Fold = Callable[[Any, Any], ColumnElement[Any]]
"""How a column of the row that is there and of the new one become one."""


def upsert(
    connection: Connection, table: Table, rows: Sequence[dict[str, Any]], keys: Sequence[str], **folds: Fold
) -> None:
    """Insert `rows`; where one with the same `keys` exists, fold the named columns and leave the others."""
    if not rows:
        return
    insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)
    merged = {name: fold(table.c[name], insert.excluded[name]) for name, fold in folds.items()}
    statement = insert.on_conflict_do_update(index_elements=[table.c[key] for key in keys], set_=merged)
    connection.execute(statement, list(rows))


def added(old: Any, new: Any) -> ColumnElement[Any]:
    """The sum of both."""
    total: ColumnElement[Any] = old + new
    return total


def newest(_: Any, new: Any) -> ColumnElement[Any]:
    """The new one."""
    value: ColumnElement[Any] = new
    return value
