"""Migrations lead an empty database to exactly what the tables say, once, and never touch a stranger's."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, inspect, text

from valetkey.store import compose, migrate, revision
from valetkey.store.engine import Store, StoreError, sqlite_url
from valetkey.store.tables import metadata

SCRIPTS = sorted((migrate.FOLDER / "versions").glob("*.py"))


@contextmanager
def plain_engine(url: str) -> Iterator[Engine]:
    engine = create_engine(url)
    yield engine
    engine.dispose()


def sqlite_shape(connection: Connection) -> dict[str, Any]:
    """All that SQLite knows of its tables, in an order that does not depend on how they came about."""

    def pragma(name: str, of: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in connection.exec_driver_sql(f'PRAGMA {name}("{of}")')]

    rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'table'").all()
    shape: dict[str, Any] = {}
    for name, sql in rows:
        if name.startswith("sqlite_") or name == "alembic_version":
            continue
        indexes = []
        for _, index, *facts in pragma("index_list", name):
            columns = [row[2] for row in pragma("index_info", index)]
            made = connection.exec_driver_sql(
                "SELECT sql FROM sqlite_master WHERE name = ?", (index,)
            ).scalar()
            indexes.append((made.split(" ON ")[1] if made else "", columns, facts))
        shape[name] = {
            "columns": sorted(row[1:] for row in pragma("table_xinfo", name)),
            "references": sorted(row[2:] for row in pragma("foreign_key_list", name)),
            "indexes": sorted(indexes, key=repr),
            "strict": pragma("table_list", name)[0][5],
            "autoincrement": "AUTOINCREMENT" in sql,
        }
    return shape


def postgres_shape(connection: Connection) -> dict[str, Any]:
    """All that PostgreSQL knows of its tables: columns, constraints and indexes as it prints them."""
    asked = {
        "columns": "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, "
        "pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attcollation FROM pg_attribute a "
        "JOIN pg_class c ON c.oid = a.attrelid "
        "LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (c.oid, a.attnum) "
        "WHERE c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped "
        "AND c.relnamespace = 'public'::regnamespace",
        "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) "
        "FROM pg_constraint WHERE connamespace = 'public'::regnamespace",
        "indexes": "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    }
    return {
        what: sorted(
            (tuple(row) for row in connection.execute(text(sql)) if row[0] != "alembic_version"), key=repr
        )
        for what, sql in asked.items()
    }


def shape_of(connection: Connection) -> dict[str, Any]:
    return sqlite_shape(connection) if connection.dialect.name == "sqlite" else postgres_shape(connection)


def test_an_empty_database_gets_every_table(store: Store) -> None:
    with store.read() as connection:
        assert set(inspect(connection).get_table_names()) == {*metadata.tables, "alembic_version"}


def test_alembic_finds_no_difference_between_tables_and_migrated_database(store: Store) -> None:
    with store.read() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == [], "script/migration writes what is missing"


def test_migrated_database_is_what_the_tables_themselves_would_create(store: Store) -> None:
    with store.read() as connection:
        migrated = shape_of(connection)
    with store.write() as connection:
        metadata.drop_all(connection)
        metadata.create_all(connection)
        assert shape_of(connection) == migrated, "script/migration writes what is missing"


def test_the_shape_tells_a_missing_not_null_a_lost_default_and_a_lost_condition(store: Store) -> None:
    with store.write() as connection:
        before = shape_of(connection)
        connection.exec_driver_sql("DROP INDEX uq_services_living_name")
        connection.exec_driver_sql(
            "CREATE UNIQUE INDEX uq_services_living_name ON services (workspace_id, name)"
        )
        without_condition = shape_of(connection)
        connection.exec_driver_sql("DROP TABLE meta")
        connection.exec_driver_sql("CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value TEXT)")
        assert before != without_condition != shape_of(connection)


def test_every_column_that_must_be_filled_is_so_on_this_database(store: Store) -> None:
    with store.read() as connection:
        inspector = inspect(connection)
        found = {
            (table, column["name"]): column["nullable"]
            for table in metadata.tables
            for column in inspector.get_columns(table)
        }
    assert found == {
        (table.name, column.name): column.nullable
        for table in metadata.tables.values()
        for column in table.columns
    }


def test_a_second_start_changes_nothing(store_url: str) -> None:
    Store.open(store_url).close()
    with plain_engine(store_url) as engine:
        with engine.begin() as connection:
            before = shape_of(connection)
            connection.execute(text("INSERT INTO meta (name, value) VALUES ('kept', 'yes')"))
        Store.open(store_url).close()
        with engine.connect() as connection:
            assert shape_of(connection) == before
            assert connection.execute(text("SELECT value FROM meta")).scalar_one() == "yes"
            assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar_one() == 1


def test_a_database_of_a_newer_version_is_refused_and_left_alone(store_url: str) -> None:
    Store.open(store_url).close()
    with plain_engine(store_url) as engine, engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="newer Valetkey") as caught:
        Store.open(store_url)
    assert caught.value.next_step == "Start that version, or restore an older backup."
    with plain_engine(store_url) as engine, engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "9999"


def test_a_database_of_something_else_is_refused_and_left_alone(store_url: str) -> None:
    with plain_engine(store_url) as engine:
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE theirs (id INTEGER)"))
        with pytest.raises(StoreError, match="something other than Valetkey"):
            Store.open(store_url)
        with engine.connect() as connection:
            assert inspect(connection).get_table_names() == ["theirs"]


def test_a_migration_that_fails_leaves_nothing(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_afterwards(connection: Connection) -> None:
        upgrade(connection)
        raise RuntimeError("power is gone")

    upgrade = migrate.upgrade
    monkeypatch.setattr(migrate, "upgrade", fail_afterwards)
    with pytest.raises(RuntimeError, match="power is gone"):
        Store.open(store_url)
    with plain_engine(store_url) as engine, engine.connect() as connection:
        assert inspect(connection).get_table_names() == []


def test_the_revision_that_a_start_compares_with_is_the_newest_script() -> None:
    assert migrate.newest_revision() == revision.NEWEST


def test_opening_a_database_that_is_up_to_date_does_not_import_alembic(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "valetkey.db")
    Store.open(url).close()
    program = (
        "import sys; from valetkey.store.engine import Store; Store.open(sys.argv[1]).close();"
        "print('alembic' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program, url], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_migration_reads_nothing_of_the_program(script: Path) -> None:
    imported = {
        name
        for node in ast.walk(ast.parse(script.read_text()))
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }
    assert imported <= {"__future__", "sqlalchemy", "alembic"}


def test_the_foundation_can_be_written_anew_from_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(migrate.FOLDER, tmp_path / "migrations")
    monkeypatch.setattr(migrate, "FOLDER", tmp_path / "migrations")
    written = compose.compose(compose.FOUNDATION)
    assert written == tmp_path / "migrations" / "versions" / "0001_foundation.py"
    created = {
        node.args[0].value
        for node in ast.walk(ast.parse(written.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "create_table"
        and isinstance(node.args[0], ast.Constant)
    }
    assert created == set(metadata.tables)


def test_the_next_migration_continues_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(migrate.FOLDER, tmp_path / "migrations")
    newest = migrate.newest_revision()
    monkeypatch.setattr(migrate, "FOLDER", tmp_path / "migrations")
    written = compose.compose("more of it")
    assert f"down_revision = {newest!r}" in written.read_text()
    assert migrate.newest_revision() == f"{int(newest or '0') + 1:04}"
