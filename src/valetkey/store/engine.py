"""One store for SQLite (one file, WAL) and PostgreSQL: writers come one after the other, readers never wait.

On PostgreSQL a writer takes one advisory lock for its transaction, so that writing means on both databases
the same: what was checked still holds when it is written, and the order of `seq` in the change feed is the
order of commits, so that who reads on from a number misses nothing.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, QueuePool

from valetkey.store.failures import StoreError, explained
from valetkey.store.place import place_of, read_url, sqlite_url
from valetkey.store.revision import NEWEST, current_revision

BUSY_TIMEOUT_MS = 10_000
"""How long a writer waits for another before it gives up: longer than any transaction of ours takes."""

CONNECT_TIMEOUT_S = 10
"""How long PostgreSQL may take to answer a new connection."""

ABANDONED_MS = 60_000
"""PostgreSQL ends a writing transaction that is idle this long: a writer that died must not hold the lock."""

READERS = 4
"""Reading connections kept open; more are opened when needed, up to four times as many."""

WRITER_LOCK = 0x76_61_6C_65_74
"""Number of the advisory lock of writers ("valet"); such locks are a database's own."""


class Store:
    """Transactions on one database. Reading and writing are told apart by name: both databases need that."""

    def __init__(self, url: str) -> None:
        """Prepare, connect to nothing yet. Raises `StoreError` for a URL that cannot work."""
        parsed = read_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self._url = parsed
        self._place = place_of(parsed)
        # One connection for writing: threads queue for it here, which is fairer than SQLite's polling and
        # leaves the connections of readers alone.
        if self.is_sqlite:
            self._writer = _sqlite_engine(parsed, size=1)
            self._reader = _sqlite_engine(parsed, size=READERS, overflow=3 * READERS, query_only=True)
        else:
            # READ COMMITTED, because its statements see all that was committed before the lock was had;
            # the stricter levels would see what was there before the wait.
            self._writer = _postgres_engine(parsed, size=1).execution_options(
                isolation_level="READ COMMITTED"
            )
            self._reader = _postgres_engine(parsed, size=READERS, overflow=3 * READERS).execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )

    def __repr__(self) -> str:
        return f"<Store {self._place}>"

    @classmethod
    def open(cls, url: str) -> Store:
        """Open the database and bring its tables up to date. Raises `StoreError` when it cannot be used."""
        store = cls(url)
        try:
            if store.is_sqlite:
                _prepare_file(Path(store._url.database or ""))
            with store.read() as connection:
                current = current_revision(connection)
            if current != NEWEST:
                store._migrate()
        except BaseException:
            store.close()
            raise
        return store

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A writing transaction: alone, committed at the end, rolled back on any exception.

        Raises `StoreError` when the database fails, or is held by another for `BUSY_TIMEOUT_MS`.
        """
        with explained(self._place), self._writer.begin() as connection:
            _begin_writing(connection)
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view, from the first statement on. Nothing can be written, no lock is waited for.

        Raises `StoreError` when the database fails.
        """
        with explained(self._place), self._reader.begin() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN")
            yield connection

    def write_anew(self, table: Table) -> None:
        """Write a table's rows anew, so that no copy of a deleted row stays in unused space: what is deleted is
        overwritten, but a page that was divided may hold copies of what it held before.

        A second for some 200,000 rows, in which no other write passes. PostgreSQL leaves the old rows to its own
        vacuum, which is asked for. Raises `StoreError`.
        """
        name = table.name
        if not self.is_sqlite:
            with explained(self._place), self._writer.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql(f"VACUUM {name}")
            return
        with self.write() as connection:
            # Rows that others refer to are back before it is asked for.
            connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
            connection.exec_driver_sql(f"CREATE TEMP TABLE kept AS SELECT * FROM {name}")  # noqa: S608 - ours
            # Without a condition: every page is given up, and overwritten.
            connection.exec_driver_sql(f"DELETE FROM {name}")  # noqa: S608
            connection.exec_driver_sql(f"INSERT INTO {name} SELECT * FROM kept")  # noqa: S608
            connection.exec_driver_sql("DROP TABLE kept")

    def forget_deleted(self) -> bool:
        """Empty the write-ahead log, which holds pages as they were; False while a reader still needs it.

        Raises `StoreError`.
        """
        if not self.is_sqlite:
            return True
        connection = sqlite3.connect(self._url.database or "", timeout=1.0, isolation_level=None)
        try:
            (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not busy
        except sqlite3.OperationalError:
            return False
        finally:
            connection.close()

    def close(self) -> None:
        """Give all connections back."""
        self._reader.dispose()
        self._writer.dispose()

    def _migrate(self) -> None:
        from valetkey.store import migrate

        engine = _sqlite_engine(self._url, foreign_keys=False) if self.is_sqlite else self._writer
        with explained(self._place), engine.begin() as connection:
            _begin_writing(connection)
            migrate.upgrade(connection)


def _begin_writing(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        return
    # In one question, left to right: the time-outs hold for the wait, too.
    connection.exec_driver_sql(
        f"SELECT set_config('lock_timeout', '{BUSY_TIMEOUT_MS}', true),"
        f" set_config('idle_in_transaction_session_timeout', '{ABANDONED_MS}', true),"
        f" pg_advisory_xact_lock({WRITER_LOCK})"
    )


def _prepare_file(path: Path) -> None:
    """See that the file exists and is ours alone. SQLite gives -wal and -shm the rights of the file.

    An existing file is not opened here: closing it would drop the locks that SQLite has on it in this process.
    """
    try:
        if not path.exists():
            _create_file(path)
        for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
            if name.exists() and stat.S_IMODE(name.stat().st_mode) & 0o077:
                name.chmod(0o600)
    except FileNotFoundError:
        raise StoreError(f"There is no folder {path.parent}.", "Create it, or name another.") from None
    except OSError as error:
        raise StoreError(
            f"The database {path} cannot be opened: {(error.strerror or 'unknown error').lower()}.",
            "Give the user who runs Valetkey the right to write the file and its folder.",
        ) from None


def _create_file(path: Path) -> None:
    # Made beside its place and put there whole, with tight rights and already in WAL mode: of two processes
    # that switch a new database to WAL at once, SQLite refuses one without waiting.
    descriptor, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    os.close(descriptor)
    try:
        connection = sqlite3.connect(made)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        finally:
            connection.close()
        with suppress(FileExistsError):
            os.link(made, path)
    except sqlite3.Error as error:
        raise OSError(0, str(error)) from error
    finally:
        os.unlink(made)


def _sqlite_engine(
    url: URL,
    *,
    size: int = 0,
    overflow: int = 0,
    query_only: bool = False,
    foreign_keys: bool = True,
) -> Engine:
    pragmas = (
        "synchronous=FULL",
        f"foreign_keys={'ON' if foreign_keys else 'OFF'}",
        # What is deleted is overwritten: erased personal data must not stay in free pages.
        "secure_delete=ON",
        # What is put aside for a moment stays out of files that nobody watches.
        "temp_store=MEMORY",
        # A file that someone else has tampered with must not run functions through its schema.
        "trusted_schema=OFF",
        # A reader that tries to write is refused, so that it can never take the writers' lock.
        f"query_only={'ON' if query_only else 'OFF'}",
    )
    options: dict[str, object] = {"poolclass": NullPool}
    if size:
        # Connections are kept: opening one costs more than a transaction, and the last to close would
        # checkpoint and remove the WAL each time.
        options = {
            "poolclass": QueuePool,
            "pool_size": size,
            "max_overflow": overflow,
            "pool_timeout": BUSY_TIMEOUT_MS / 1000,
        }
    engine = create_engine(
        url,
        connect_args={"timeout": BUSY_TIMEOUT_MS / 1000, "isolation_level": None, "check_same_thread": False},
        hide_parameters=True,
        **options,
    )

    @event.listens_for(engine, "connect")
    def _connected(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        if cursor.fetchone() != ("wal",):
            raise StoreError(
                f"The disk that holds {url.database} does not support SQLite's write-ahead log.",
                "Put the data folder on a local disk.",
            )
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


def _postgres_engine(url: URL, *, size: int, overflow: int = 0) -> Engine:
    try:
        return create_engine(
            url,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "valetkey"},
            hide_parameters=True,
            # A connection that the server has ended meanwhile is replaced, not handed out.
            pool_pre_ping=True,
            pool_size=size,
            max_overflow=overflow,
            pool_timeout=BUSY_TIMEOUT_MS / 1000,
        )
    except ImportError:
        raise StoreError(
            "The driver for PostgreSQL is not installed.", "Run: pip install 'valetkey[postgres]'"
        ) from None


__all__ = ["BUSY_TIMEOUT_MS", "Store", "StoreError", "sqlite_url"]
