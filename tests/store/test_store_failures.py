"""A database that cannot be used says why in one sentence and what to do, and never shows its password."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text

from valetkey.errors import ValetkeyError
from valetkey.store import tables
from valetkey.store.engine import Store, StoreError, sqlite_url
from valetkey.store.place import read_url

NOBODY = 65534


def refusal(url: str) -> StoreError:
    with pytest.raises(StoreError) as caught:
        Store.open(url)
    assert caught.value.sentence.endswith(".")
    assert "\n" not in caught.value.sentence
    assert caught.value.next_step
    return caught.value


def filled(path: Path) -> None:
    store = Store.open(sqlite_url(path))
    with store.write() as connection:
        rows = [{"name": f"{number}", "value": "x" * 500} for number in range(200)]
        connection.execute(insert(tables.meta), rows)
    store.close()


def overwrite(path: Path, start: int, length: int) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * length)


@pytest.fixture
def folder_closed_to_nobody() -> Iterator[Path]:
    """A folder that an ordinary user can see but not write into: pytest's own would be closed altogether."""
    with tempfile.TemporaryDirectory(prefix="vk-closed-") as name:
        folder = Path(name)
        filled(folder / "there.db")
        (folder / "there.db").chmod(0o644)
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o700)


def sentence_for_ordinary_user(url: str) -> str:
    """What `Store.open` says to a user who is not root, for whom no folder is read-only."""

    def ask() -> None:
        if os.geteuid() == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        try:
            Store.open(url)
        except BaseException as error:
            sender.send(f"{type(error).__name__}: {error}")
        else:
            sender.send("opened")

    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=ask)
    process.start()
    said = str(receiver.recv())
    process.join()
    return said


def test_errors_of_the_store_are_errors_for_people() -> None:
    assert issubclass(StoreError, ValetkeyError)
    assert (StoreError.status, StoreError.code) == (503, "UNAVAILABLE")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "valetkey.db"
    path.write_text("a letter to a friend\n" * 400)
    assert refusal(sqlite_url(path)).sentence == f"{path} is not a Valetkey database."


def test_a_database_whose_schema_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "valetkey.db"
    filled(path)
    overwrite(path, 100, 3000)
    assert refusal(sqlite_url(path)).sentence == f"The database {path} is damaged."


def test_a_database_whose_rows_are_damaged(tmp_path: Path) -> None:
    path = tmp_path / "valetkey.db"
    filled(path)
    # The newest pages are the file's last, and hold the rows.
    overwrite(path, path.stat().st_size - 8 * 4096, 8 * 4096)
    store = Store.open(sqlite_url(path))
    with pytest.raises(StoreError) as caught, store.read() as connection:
        connection.execute(select(tables.meta)).all()
    store.close()
    assert caught.value.sentence == f"The database {path} is damaged."


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    assert (
        refusal(sqlite_url(tmp_path / "no" / "valetkey.db")).sentence == f"There is no folder {tmp_path}/no."
    )


def test_a_folder_instead_of_a_file(tmp_path: Path) -> None:
    assert refusal(sqlite_url(tmp_path)).sentence == f"The database {tmp_path} cannot be opened."


def test_a_new_database_in_a_folder_that_cannot_be_written(folder_closed_to_nobody: Path) -> None:
    path = folder_closed_to_nobody / "new.db"
    said = sentence_for_ordinary_user(sqlite_url(path))
    assert said == f"StoreError: The database {path} cannot be opened: permission denied."


def test_a_database_of_someone_else_in_a_folder_that_cannot_be_written(folder_closed_to_nobody: Path) -> None:
    said = sentence_for_ordinary_user(sqlite_url(folder_closed_to_nobody / "there.db"))
    assert said.startswith(f"StoreError: The database {folder_closed_to_nobody / 'there.db'} cannot be ")
    assert "\n" not in said


def test_a_full_disk_refuses_the_transaction_and_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "valetkey.db"
    filled(path)
    store = Store.open(sqlite_url(path))

    def fill_up() -> None:
        with store.write() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1")
            connection.execute(insert(tables.meta).values(name="big", value="x" * 10_000_000))

    with pytest.raises(StoreError) as caught:
        fill_up()
    assert caught.value.sentence == f"The disk that holds {path} is full."
    with store.read() as connection:
        assert len(connection.execute(select(tables.meta)).all()) == 200
    store.close()


def test_a_new_database_leaves_no_other_file_when_it_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "valetkey.db").mkdir()
    refusal(sqlite_url(tmp_path / "valetkey.db"))
    assert [each.name for each in tmp_path.iterdir()] == ["valetkey.db"]


def test_wrong_sql_is_not_blamed_on_the_database(store: Store) -> None:
    with pytest.raises(Exception, match="nonsense") as caught, store.read() as connection:
        connection.execute(text("SELECT nonsense"))
    assert not isinstance(caught.value, StoreError)


@pytest.mark.parametrize(
    "url",
    [
        "postgres//user:hunter2@host/database",
        "hunter2",
        "",
        "postgresql://user:hunter2@host:port/database",
        "postgresql://user:hunter2@more@host/database",
        "postgresql://user:more@hunter2@host/database",
        "mysql://user:hunter2@host/database",
        "postgresql+asyncpg://user:hunter2@host/database",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:hunter2?uri=true",
    ],
)
def test_a_url_that_cannot_work_is_refused_without_being_repeated(url: str) -> None:
    error = refusal(url)
    shown = "".join(traceback.format_exception(error)) + error.next_step
    assert "hunter2" not in shown.replace(repr(url), "")


def test_a_password_is_shown_by_no_message_and_no_repr() -> None:
    # Port 9 of this machine (discard) answers nobody.
    url = "postgresql://user:hunter2@127.0.0.1:9/database?password=hunter2"
    error = refusal(url)
    assert error.sentence == "PostgreSQL at 127.0.0.1:9/database cannot be reached."
    assert "hunter2" not in "".join(traceback.format_exception(error)) + error.next_step
    assert repr(Store(url)) == "<Store 127.0.0.1:9/database>"


def test_a_missing_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    error = refusal("postgresql://user@localhost/database")
    assert error.sentence == "The driver for PostgreSQL is not installed."
    assert error.next_step == "Run: pip install 'valetkey[postgres]'"


@pytest.mark.parametrize(
    ("url", "mode"),
    [
        ("postgresql://user@db.example/d", "require"),
        ("postgresql://user@db.example/d?sslmode=verify-full", "verify-full"),
        ("postgresql://user@db.example/d?sslmode=disable", "disable"),
        ("postgresql://user@/d?host=db.example", "require"),
        ("postgresql://user@/d?host=/run/postgresql", None),
        ("postgresql://user@127.0.0.1/d", None),
        ("postgresql://user@localhost/d", None),
    ],
)
def test_a_database_on_another_machine_is_spoken_to_by_tls_unless_told_otherwise(
    url: str, mode: str | None
) -> None:
    assert read_url(url).query.get("sslmode") == mode


@pytest.mark.real
def test_a_database_that_postgresql_does_not_have(postgres_url: str) -> None:
    error = refusal(postgres_url.replace("/postgres?", "/missing?"))
    assert error.sentence == "this machine/missing does not exist on that PostgreSQL server."


@pytest.mark.real
def test_a_user_that_postgresql_does_not_know(postgres_url: str) -> None:
    error = refusal(postgres_url.replace("valetkey@", "stranger:hunter2@"))
    assert error.sentence == "PostgreSQL at this machine/postgres refuses the sign-in."
    assert "hunter2" not in "".join(traceback.format_exception(error))


@pytest.mark.real
def test_a_connection_that_postgresql_ends_is_replaced(postgres_database_url: str) -> None:
    store = Store.open(postgres_database_url)

    def be_cut() -> None:
        with store.write() as connection:
            connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with pytest.raises(StoreError, match=r"^PostgreSQL at .*\.$"):
        be_cut()
    with store.write() as connection:
        connection.execute(insert(tables.meta).values(name="a", value="1"))
    store.close()


def test_a_backup_in_another_journal_mode_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "valetkey.db"
    filled(path)
    with sqlite3.connect(path) as plain:
        plain.execute("PRAGMA journal_mode=DELETE")
    plain.close()
    Store.open(sqlite_url(path)).close()
