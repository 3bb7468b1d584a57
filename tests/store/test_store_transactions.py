"""Writers come one after the other, readers see one moment and never wait, and nothing half-done stays."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from valetkey.store import engine, tables
from valetkey.store.engine import Store, StoreError, sqlite_url


def note(store: Store, name: str, value: str = "1") -> None:
    with store.write() as connection:
        connection.execute(insert(tables.meta).values(name=name, value=value))


def noted(store: Store) -> int:
    with store.read() as connection:
        return connection.execute(select(func.count()).select_from(tables.meta)).scalar_one()


def make_workspace(store: Store) -> None:
    with store.write() as connection:
        row = {
            "id": "wsp_1",
            "name": "default",
            "root_key_id": "root",
            "sealed_key": b"sealed",
            "created": 0.0,
        }
        connection.execute(insert(tables.workspaces).values(row))


def record_change(store: Store) -> int:
    with store.write() as connection:
        row = {"workspace_id": "wsp_1", "kind": "key", "subject": "key_1", "time": 0.0}
        made = connection.execute(insert(tables.changes).values(row).returning(tables.changes.c.seq))
        return int(made.scalar_one())


def test_what_is_written_is_there_for_the_next_reader(store: Store) -> None:
    note(store, "a")
    assert noted(store) == 1


def test_an_exception_leaves_nothing_behind(store: Store) -> None:
    def fail() -> None:
        with store.write() as connection:
            connection.execute(insert(tables.meta).values(name="a", value="1"))
            connection.execute(insert(tables.blocks).values(name="b", next=1))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert noted(store) == 0
    with store.read() as connection:
        assert connection.execute(select(tables.blocks)).all() == []


def test_after_an_exception_the_next_writer_may_write(store: Store) -> None:
    with pytest.raises(RuntimeError), store.write():
        raise RuntimeError
    note(store, "a")
    assert noted(store) == 1


def test_a_reader_keeps_seeing_one_moment_while_a_writer_commits(store: Store) -> None:
    note(store, "before")
    count = select(func.count()).select_from(tables.meta)
    with store.read() as connection:
        assert connection.execute(count).scalar_one() == 1
        note(store, "meanwhile")
        with store.write() as other:
            other.execute(update(tables.meta).values(value="2"))
        assert connection.execute(count).scalar_one() == 1
        assert connection.execute(select(tables.meta.c.value)).scalars().all() == ["1"]
    assert noted(store) == 2


def test_a_reader_does_not_wait_for_a_writer_and_does_not_see_its_work(store: Store) -> None:
    with store.write() as connection:
        connection.execute(insert(tables.meta).values(name="a", value="1"))
        assert noted(store) == 0
    assert noted(store) == 1


def test_readers_do_not_wait_behind_a_queue_of_writers(store: Store) -> None:
    threads = [threading.Thread(target=note, args=(store, f"{number}")) for number in range(20)]
    with store.write():
        for thread in threads:
            thread.start()
        assert noted(store) == 0
    for thread in threads:
        thread.join()
    assert noted(store) == 20


def test_a_reader_cannot_write(store: Store) -> None:
    with pytest.raises((DBAPIError, StoreError)), store.read() as connection:
        connection.execute(insert(tables.meta).values(name="a", value="1"))
    assert noted(store) == 0


def test_a_writer_waits_for_the_writer_before_it(store: Store) -> None:
    inside, order = threading.Event(), []

    def second() -> None:
        inside.wait()
        with store.write():
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with store.write() as connection:
        inside.set()
        # Long enough for the second to arrive at the lock: it can only be late, never early.
        thread.join(0.2)
        connection.execute(select(tables.meta))
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_writer_of_another_store_gives_up_with_one_sentence(
    store: Store, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 100)
    other = Store.open(store_url)
    with store.write(), pytest.raises(StoreError, match=r"is held by another (process|writer)\.$"):
        note(other, "a")
    note(other, "b")
    other.close()
    assert noted(store) == 1


def test_a_thread_that_finds_the_writer_taken_gives_up_with_one_sentence(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 50)
    store = Store.open(store_url)
    with store.write(), pytest.raises(StoreError, match=r"^All connections to .* are in use\.$"):
        note(store, "a")
    store.close()


def test_a_broken_rule_reaches_the_operation_that_broke_it(store: Store) -> None:
    note(store, "a")
    with pytest.raises(IntegrityError):
        note(store, "a")


def test_values_do_not_stand_in_the_errors_of_the_database(store: Store) -> None:
    note(store, "name-of-it", "value-of-it")
    with pytest.raises(IntegrityError) as caught:
        note(store, "name-of-it", "value-of-it")
    assert "value-of-it" not in str(caught.value)


def test_a_row_cannot_refer_to_one_that_does_not_exist(store: Store) -> None:
    with pytest.raises(IntegrityError):
        record_change(store)


def test_numbers_of_the_change_feed_only_grow_even_when_rows_are_deleted(store: Store) -> None:
    make_workspace(store)
    first, second = record_change(store), record_change(store)
    with store.write() as connection:
        connection.execute(delete(tables.changes))
    third = record_change(store)
    assert first < second < third


def test_who_follows_the_change_feed_misses_nothing_that_two_writers_add(
    store: Store, store_url: str
) -> None:
    """A number is given out only when all smaller ones are committed, so a cursor never skips one."""
    make_workspace(store)
    other = Store.open(store_url)
    seen: list[int] = []
    done = threading.Event()

    def follow() -> None:
        cursor, last = 0, False
        while True:
            last = done.is_set()
            with store.read() as connection:
                query = select(tables.changes.c.seq).where(tables.changes.c.seq > cursor)
                new = connection.execute(query.order_by(tables.changes.c.seq)).scalars().all()
            seen.extend(new)
            cursor = new[-1] if new else cursor
            if last:
                return

    def add(to: Store) -> None:
        for _ in range(30):
            record_change(to)

    follower = threading.Thread(target=follow)
    writers = [threading.Thread(target=add, args=(to,)) for to in (store, other)]
    for thread in (follower, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    follower.join()
    other.close()
    assert len(seen) == 60


def test_a_number_of_the_change_feed_is_not_given_out_before_the_smaller_ones_are_committed(
    store: Store, store_url: str
) -> None:
    make_workspace(store)
    other = Store.open(store_url)
    thread = threading.Thread(target=record_change, args=(other,))
    row = {"workspace_id": "wsp_1", "kind": "key", "subject": "key_1", "time": 0.0}
    with store.write() as connection:
        connection.execute(insert(tables.changes).values(row))
        thread.start()
        # Ample for the other to commit, if nothing held it.
        thread.join(0.2)
        with other.read() as reading:
            assert reading.execute(select(tables.changes.c.seq)).all() == []
    thread.join()
    other.close()


def test_sqlite_waits_for_the_disk_at_every_commit_and_enforces_references(tmp_path: Path) -> None:
    store = Store.open(sqlite_url(tmp_path / "valetkey.db"))
    expected = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}
    expected |= {"busy_timeout": engine.BUSY_TIMEOUT_MS, "query_only": 0, "trusted_schema": 0}
    with store.write() as connection:
        found = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in expected}
    store.close()
    assert found == expected


def test_database_files_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "valetkey.db"
    store = Store.open(sqlite_url(path))
    note(store, "a")
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    store.close()
    assert modes == {"valetkey.db": 0o600, "valetkey.db-wal": 0o600, "valetkey.db-shm": 0o600}


def test_database_files_that_others_could_read_are_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "valetkey.db"
    Store.open(sqlite_url(path)).close()
    path.chmod(0o644)
    store = Store.open(sqlite_url(path))
    note(store, "a")
    modes = {stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    store.close()
    assert modes == {0o600}
