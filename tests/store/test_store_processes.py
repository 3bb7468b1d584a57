"""Several processes on one database: nobody fails, nothing is lost, no number is given twice."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import func, insert, select

from valetkey.store import tables
from valetkey.store.blocks import next_block
from valetkey.store.engine import Store, sqlite_url

pytestmark = pytest.mark.real

Result = TypeVar("Result")


def in_processes(count: int, work: Callable[[str, int], Result], url: str) -> list[Result]:
    """What `work` returns in each of `count` fresh processes that run at the same time."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context) as pool:
        return list(pool.map(work, [url] * count, range(count)))


def write_many(url: str, process: int) -> int:
    store = Store.open(url)
    for number in range(500):
        with store.write() as connection:
            connection.execute(insert(tables.meta).values(name=f"{process}-{number}", value="1"))
    store.close()
    return 500


def take_blocks(url: str, process: int) -> list[int]:
    store = Store.open(url)
    taken: list[int] = []
    for turn in range(100):
        count = 1 + (turn + process) % 3
        with store.write() as connection:
            first = next_block(connection, count)
        taken += range(first, first + count)
    store.close()
    return taken


def die_while_writing(url: str) -> None:
    store = Store.open(url)
    with store.write() as connection:
        connection.execute(insert(tables.meta).values(name="half", value="1"))
        os.kill(os.getpid(), signal.SIGKILL)


def write_one(url: str, _process: int) -> int:
    store = Store.open(url)
    with store.write() as connection:
        number = next_block(connection)
    store.close()
    return number


def test_two_processes_write_500_transactions_each_without_one_error(store: Store, store_url: str) -> None:
    assert in_processes(2, write_many, store_url) == [500, 500]
    with store.read() as connection:
        assert connection.execute(select(func.count()).select_from(tables.meta)).scalar_one() == 1000


def test_processes_that_open_an_empty_database_at_once_are_never_given_the_same_block(store_url: str) -> None:
    taken = [number for each in in_processes(3, take_blocks, store_url) for number in each]
    assert sorted(taken) == list(range(len(taken)))


def test_a_process_killed_while_writing_leaves_nothing_and_holds_nothing(
    store: Store, store_url: str
) -> None:
    process = multiprocessing.get_context("spawn").Process(target=die_while_writing, args=(store_url,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with store.write() as connection:
        assert connection.execute(select(tables.meta)).all() == []
        assert next_block(connection) == 0


def test_opening_a_database_again_does_not_free_it_for_others(tmp_path: Path) -> None:
    """A process that closes a file loses all its locks on it (fcntl), so nothing but SQLite may open it.

    Without the lock another process would take itself for the last and remove the log that we write to.
    """
    url, log = sqlite_url(tmp_path / "valetkey.db"), tmp_path / "valetkey.db-wal"
    store = Store.open(url)
    with store.write() as connection:
        next_block(connection)
    before = log.stat().st_ino
    Store.open(url).close()
    assert in_processes(1, write_one, url) == [1]
    assert log.stat().st_ino == before
    store.close()
