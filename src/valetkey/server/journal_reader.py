"""Reads the journal on: what its records say of use, open calls, derived keys and time, rolled up into the database."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import Connection

from valetkey.access.clock import Newest, read_newest, store_newest
from valetkey.journal.admission import Admission
from valetkey.journal.checkpoint import Heads
from valetkey.journal.records import Opened, time_of
from valetkey.journal.tail import Batch, Position, Tailer
from valetkey.journal.usage import Rollups, Use
from valetkey.server.open_calls import all_of, read_open_calls, store_open_calls
from valetkey.server.received import Received
from valetkey.server.usage import read_positions, store_use
from valetkey.store.engine import Store

MOST_PROBLEMS = 100
"""More tell nobody anything: `audit verify` lists them all."""


class JournalReader:
    """Goes on where the database says that it stopped. For one thread at a time."""

    def __init__(self, journal: Path, store: Store, workspace: str, admission: Admission) -> None:
        self.admit = admission
        self._store = store
        self._workspace = workspace
        self._pending = Use()
        """What is not in the database yet."""
        self.stored_at = 0.0
        """When it was stored last, by the monotonic clock."""
        self.problems: dict[str, None] = {}
        """What is wrong with the journal, each thing once, in the order it was met."""
        with store.read() as connection:
            positions, opened = read_positions(connection), read_open_calls(connection)
            self.newest = read_newest(connection) or Newest(0.0, None)
            """Newest instant that a record read so far names: a clock far behind it must not open windows again."""
            open_calls = all_of(opened)
            self.received = Received(connection, workspace, open_calls)
        self._rollups = Rollups(open_calls)
        self._tailer = Tailer(journal, positions, open_calls=opened, admit=admission)
        self._stored = positions

    def poll(self) -> Batch:
        """Read what has come since."""
        batch = self._tailer.poll()
        for entry in batch.entries:
            self._rollups.add(entry.record, entry.personal)
            self.received.add(entry.record)
            named = time_of(entry.record)
            if named > self.newest.time:
                self.newest = Newest(named, self.newest.accepted)
        for problem in batch.problems:
            where = problem.segment if problem.seq is None else f"{problem.segment} record {problem.seq}"
            self.note(f"{where}: {problem.detail}")
        return batch

    def heads(self) -> Heads:
        """How far each segment was read, and the hash there."""
        return self._tailer.heads()

    def positions(self) -> dict[str, Position]:
        """How far each segment was read."""
        return self._tailer.positions()

    def open_calls(self, segment: str) -> Mapping[str, Opened]:
        """Calls of a segment that are open as far as it was read."""
        return self._tailer.open_calls(segment)

    def store_use(self) -> None:
        """Put use into the database, with how far the journal was read for it. Raises `StoreError`: then what was
        read stays pending and goes with the next attempt."""
        self.stored_at = time.monotonic()
        self._pending.merge(self._rollups.take())
        positions = self._tailer.positions()
        if positions == self._stored:
            return
        with self._store.write() as connection:
            store_use(connection, self._workspace, self._pending, positions)
            store_open_calls(connection, self._tailer.all_open_calls())
            self.received.store(connection)
            self.newest = self.newest_in(connection)
            store_newest(connection, self.newest)
        self._pending = Use()
        self.received.stored()
        self._stored = positions

    def newest_in(self, connection: Connection) -> Newest:
        """What no clock may be far behind, as of this transaction: an acceptance that it holds comes first."""
        stored = read_newest(connection)
        if stored is None or stored.accepted == self.newest.accepted:
            return self.newest
        return stored

    def note(self, problem: str) -> None:
        """Something is wrong with the journal."""
        if len(self.problems) < MOST_PROBLEMS:
            self.problems[problem] = None
