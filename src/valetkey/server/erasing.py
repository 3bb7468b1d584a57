"""Carries out erasures of personal fields: those that were asked for, and by age. What a crash left is gone on with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from sqlalchemy import func, select

from valetkey.errors import Unavailable
from valetkey.gateway.counters_keeping import KeptCounters
from valetkey.journal.errors import JournalFailed
from valetkey.journal.personal import Erasure as Lines
from valetkey.journal.personal import erase_personal
from valetkey.parties.erasure import (
    Erasure,
    blocks_pinned,
    erased_by,
    erasure_is_done,
    forget_pins,
    pending_erasures,
    pinned_keys,
)
from valetkey.server.record import Recorder
from valetkey.store import tables
from valetkey.store.engine import Store

FEW_SIGHTINGS = 100_000
"""Up to so many are written anew after an erasure by age too: it takes half a second in which no write passes."""
PATIENCE = 30.0
"""Seconds for readers to let go of the write-ahead log; then the next attempt goes on."""


class Erased(msgspec.Struct, frozen=True):
    """What was erased."""

    id: str
    party: str | None
    before: float | None
    erased: int
    """Records whose personal fields were blanked."""
    pinned: tuple[str, ...] = ()
    """Ids of the party's living sticky keys that stay pinned to an address: unpin them first."""


class Eraser:
    """One erasure after the other."""

    def __init__(
        self,
        store: Store,
        workspace: str,
        recorder: Recorder,
        writer: ThreadPoolExecutor,
        wall: Callable[[], float],
        counters: KeptCounters,
    ) -> None:
        """`writer`: where all writing of management is done, so that it queues instead of timing out."""
        self._writer = writer
        self._store = store
        self._workspace = workspace
        self._recorder = recorder
        self._wall = wall
        self._counters = counters
        self._lock = asyncio.Lock()

    async def carry_out(self, erasure: Erasure, *, thoroughly: bool = True) -> Erased:
        """Nothing of it is left in any file when this returns. Raises `Unavailable` and `StoreError`: then it is
        gone on with later."""
        async with self._lock:
            done = await asyncio.to_thread(self._erased_by, erasure)
            if done is not None:  # while this one waited for its turn
                return await self._told(erasure, done)
            try:
                erased = await self._recorder.erase(party=erasure.party, before=erasure.before)
            except JournalFailed:
                raise Unavailable(
                    "The journal cannot be written, so nothing is erased now.",
                    "Look at the disk of the data folder; the erasure is gone on with when the server is well.",
                ) from None
            loop = asyncio.get_running_loop()
            forgotten = await loop.run_in_executor(self._writer, self._forget_pins, erasure)
            if thoroughly or forgotten:
                # Also of pins that were taken away before: pages may hold copies.
                await loop.run_in_executor(self._writer, self._store.write_anew, tables.keys)
            if thoroughly or await asyncio.to_thread(self._sightings) <= FEW_SIGHTINGS:
                await loop.run_in_executor(self._writer, self._store.write_anew, tables.sightings)
            await asyncio.to_thread(self._empty_log)
            await loop.run_in_executor(self._writer, self._note_done, erasure, erased)
            return await self._told(erasure, erased)

    async def _told(self, erasure: Erasure, erased: int) -> Erased:
        pinned = await asyncio.to_thread(self._pinned, erasure.party)
        return Erased(erasure.id, erasure.party, erasure.before, erased, pinned)

    async def go_on(self) -> int:
        """Carry out what was asked for before; return how many."""
        pending = await asyncio.to_thread(self._pending)
        for erasure in pending:
            await self.carry_out(erasure)
        return len(pending)

    def _pending(self) -> list[Erasure]:
        with self._store.read() as connection:
            return pending_erasures(connection, self._workspace)

    def _pinned(self, party: str | None) -> tuple[str, ...]:
        if party is None:
            return ()
        with self._store.read() as connection:
            return pinned_keys(connection, self._workspace, party)

    def _erased_by(self, erasure: Erasure) -> int | None:
        with self._store.read() as connection:
            return erased_by(connection, erasure)

    def _sightings(self) -> int:
        with self._store.read() as connection:
            return connection.execute(select(func.count()).select_from(tables.sightings)).scalar_one()

    def _forget_pins(self, erasure: Erasure) -> bool:
        """Whether there were any."""
        chosen = (self._workspace, erasure.party, erasure.before)
        with self._store.read() as connection:
            blocks = blocks_pinned(connection, *chosen)
        # The counters first: dying in between, the database still tells of them.
        for block in blocks:
            self._counters.pin(block, None)
        with self._store.write() as connection:
            return forget_pins(connection, *chosen) > 0

    def _empty_log(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self._store.forget_deleted():
            if time.monotonic() > deadline:
                raise Unavailable(
                    "A reader holds the database's log open, so that it still holds what was erased.",
                    "It is gone on with by itself; end long readings of the database.",
                )

    def _note_done(self, erasure: Erasure, erased: int) -> None:
        with self._store.write() as connection:
            erasure_is_done(connection, erasure, erased, self._wall())


def holds_older(journal: Path, store: Store, before: float) -> bool:
    """Whether there are personal fields of calls before an instant."""
    sightings = tables.sightings
    with store.read() as connection:
        if connection.execute(select(sightings.c.key_id).where(sightings.c.last < before).limit(1)).first():
            return True
    try:
        erase_personal(journal, older_than=before, note=_stop)
    except _Found:
        return True
    return False


class _Found(Exception):
    """There is something to erase."""


def _stop(lines: Lines) -> None:
    """Stands for the note that comes before the blanking: nothing is blanked."""
    raise _Found
