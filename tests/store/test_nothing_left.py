"""What was deleted is in no byte of the database's files: not in unused space, not in the log."""

from __future__ import annotations

import random
from pathlib import Path

from sqlalchemy import delete, insert, select, update

from valetkey.store import tables
from valetkey.store.engine import Store, sqlite_url

WORKSPACE = {"id": "w", "name": "w", "root_key_id": "r", "sealed_key": b"", "created": 0.0}


def fill(store: Store, seed: int) -> None:
    """Sightings of many keys, as they come in: pages are divided, and hold copies of what went to the new one."""
    drawn = random.Random(seed)
    table = tables.sightings
    with store.write() as connection:
        connection.execute(insert(tables.workspaces), WORKSPACE)
    for start in range(0, 6_000, 500):
        with store.write() as connection:
            for number in range(start, start + 500):
                erased = drawn.random() < 0.2
                key = f"key_{drawn.getrandbits(64) if number % 3 else drawn.randrange(50):016x}"
                value = f"{'erase-me' if erased else 'keep'}-{number:06}{'x' * drawn.randrange(40)}"
                row = {"workspace_id": "w", "key_id": key, "kind": "agent", "value": value}
                connection.execute(insert(table), {**row, "first": 1.0, "last": 2.0, "calls": 1})
            connection.execute(update(table).where(table.c.key_id < "key_1").values(calls=2))


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


def test_deleted_rows_are_in_no_file_once_the_table_is_written_anew(tmp_path: Path) -> None:
    left = 0
    for seed in range(4):
        folder = tmp_path / str(seed)
        folder.mkdir()
        store = Store.open(sqlite_url(folder / "valetkey.db"))
        fill(store, seed)
        with store.write() as connection:
            connection.execute(delete(tables.sightings).where(tables.sightings.c.value.like("erase-me%")))
        assert b"erase-me" in bytes_of(folder), "the log still has it"
        assert store.forget_deleted()
        left += bytes_of(folder).count(b"erase-me")
        with store.read() as connection:
            kept = connection.execute(select(tables.sightings)).all()
        store.write_anew(tables.sightings)
        assert store.forget_deleted()
        assert b"erase-me" not in bytes_of(folder)
        with store.read() as connection:
            assert sorted(connection.execute(select(tables.sightings)).all()) == sorted(kept)
        store.close()
    assert left > 0, "deleting alone leaves copies: else there is no need to write anything anew"


def test_a_reader_keeps_the_log_and_is_waited_for(tmp_path: Path) -> None:
    store = Store.open(sqlite_url(tmp_path / "valetkey.db"))
    with store.write() as connection:
        connection.execute(insert(tables.workspaces), WORKSPACE)
    with store.read() as reader:
        reader.execute(select(tables.workspaces)).all()
        with store.write() as connection:
            connection.execute(update(tables.workspaces).values(name="other"))
        assert not store.forget_deleted()
    assert store.forget_deleted()
    store.close()


def test_a_table_is_written_anew_on_both_databases(store: Store) -> None:
    with store.write() as connection:
        connection.execute(insert(tables.workspaces), WORKSPACE)
        row = {"workspace_id": "w", "key_id": "k", "kind": "agent", "value": "v"}
        connection.execute(insert(tables.sightings), {**row, "first": 1.0, "last": 2.0, "calls": 1})
    store.write_anew(tables.sightings)
    assert store.forget_deleted()
    with store.read() as connection:
        assert connection.execute(select(tables.sightings.c.value)).scalars().all() == ["v"]
