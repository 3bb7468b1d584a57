"""The control process's part of the record, in turn: audit entries chained, the journal read on, heads signed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import Connection

from valetkey import log
from valetkey.access.clock import Newest
from valetkey.journal.admission import read_admission
from valetkey.journal.chain import SegmentName
from valetkey.journal.checkpoint import Checkpointer, Heads, last_checkpoint
from valetkey.journal.errors import JournalFailed
from valetkey.journal.notes import Notary
from valetkey.journal.personal import Erasure, erase_personal
from valetkey.journal.randomness import RandomPool
from valetkey.journal.records import Erased
from valetkey.journal.recover import Recovery, finish_erasures
from valetkey.journal.segment import SegmentWriter
from valetkey.log import note_failure
from valetkey.parties.erasure import forget_sightings
from valetkey.server.home import Home
from valetkey.server.journal_reader import JournalReader
from valetkey.server.outbox import note_journaled, waiting_entries
from valetkey.server.proving import proof_of, prove
from valetkey.server.recovering import recover_segments
from valetkey.server.witness import Witnesses
from valetkey.store.engine import Store, StoreError

Made = TypeVar("Made")

TICK_SECONDS = 0.2
"""How often the journal is read on; a call is in `usage` within a second."""
STORE_SECONDS = 15.0
"""How often rollups and heads go to the database by themselves: with thousands of busy keys it takes a tenth of a
second in which no other write passes. Whoever asks for use gets it stored first; a crash only reads it again."""


class Recorder:
    """Runs in the control process, one thread's worth of work at a time."""

    def __init__(
        self,
        home: Home,
        store: Store,
        workspace: str,
        signing_key: Ed25519PrivateKey,
        generation: int,
        writer: ThreadPoolExecutor,
        wall: Callable[[], float] = time.time,
        witnesses: Iterable[str] = (),
    ) -> None:
        self._home = home
        self._store = store
        self._workspace = workspace
        self._signing_key = signing_key
        self._wall = wall
        self._executor = writer
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()
        self._synced = 0
        public_key = signing_key.public_key()
        self.admission = read_admission(home.journal, [public_key])
        """Which segments belong to the journal; a file that someone else put there does not."""
        finish_erasures(home.journal, [public_key])
        self._reader = JournalReader(home.journal, store, workspace, self.admission)
        previous = last_checkpoint(home.journal, public_key, admit=self.admission)
        name = SegmentName(int(wall() * 1000), "control", generation)
        self._segment = SegmentWriter(home.journal, name, time=wall(), random=RandomPool())
        self._notary = Notary(signing_key, self._segment)
        self.admission.announce(self._notary.started_itself(int(wall() * 1000)))
        self._checkpointer = Checkpointer(signing_key, self._segment, previous, time.monotonic_ns())
        self.witnesses = Witnesses(witnesses, home.journal)

    @property
    def signed_by(self) -> Ed25519PublicKey:
        """What proves the checkpoints."""
        return self._signing_key.public_key()

    @property
    def newest(self) -> float:
        """Newest instant that records name, or the one accepted since."""
        return self._reader.newest.time

    @property
    def problems(self) -> dict[str, None]:
        """What is wrong with the journal, each thing once, in the order it was met."""
        return self._reader.problems

    @property
    def failed(self) -> bool:
        """Whether the control segment cannot be written any more."""
        return self._segment.failed

    def newest_in(self, connection: Connection) -> Newest:
        """See `JournalReader.newest_in`."""
        return self._reader.newest_in(connection)

    def wake(self) -> None:
        """There is something to record now."""
        self._wake.set()

    async def run(self) -> None:
        """Tail, roll up, sign, until cancelled."""
        while True:
            try:
                await asyncio.wait_for(self._wake.wait(), TICK_SECONDS)
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                await self._in_turn(self._tick)
            except StoreError as error:
                # Nothing is lost: what was read stays pending and goes with the next attempt.
                note_failure(error)
            if self._segment.failed:
                log.error("journal_failed", "The control process ends.", reason=self._segment.reason)
                raise JournalFailed("The control segment cannot be written.")

    async def catch_up(self) -> None:
        """Read everything that stands in the journal now, and store it.

        Raises `StoreError`, and `JournalFailed` when the control segment cannot be written any more.
        """

        def read_on() -> None:
            self._tick(store=True)
            if self._segment.failed:
                raise JournalFailed("The control segment cannot be written.")

        await self._in_turn(read_on)

    async def verify(self, witness: Path | None = None) -> dict[str, Any]:
        """Checkpoint, then prove up to it, also against the file of a witness. Raises `Invalid` for a file that
        is none."""
        heads = await self._in_turn(self._checkpoint_now)
        public_key = self._signing_key.public_key()
        return await asyncio.to_thread(prove, self._home.journal, public_key, heads, heads, witness)

    async def prove_record(self, which: str, *, personal: bool) -> dict[str, Any]:
        """Checkpoint, then the proof of one call or record. Raises `NotFound`."""
        await self._in_turn(self._checkpoint_now)
        public_key = self._signing_key.public_key()
        return await asyncio.to_thread(
            proof_of, self._home.journal, public_key, which, self.admission, personal=personal
        )

    async def announce(self, slot: int, generation: int, segment: str) -> None:
        """Admit the segment of a worker that joins, under a signature. Raises `ValueError` for another's name."""
        name = SegmentName.parse(segment)
        if (name.writer, name.generation) != (f"w{slot}", generation):
            raise ValueError("A worker names a segment that is not its own.")

        def announce() -> None:
            now_ms = int(self._wall() * 1000)
            self.admission.announce(
                self._notary.started(name.writer, generation, name.start_ms, now_ms, segment=segment)
            )
            self._sync()

        if not self.admission(name):
            await self._in_turn(announce)

    async def erase(self, *, party: str | None, before: float | None) -> int:
        """Erase personal fields of a party's calls, or of calls before an instant, beside the journal and among
        sightings; return of how many records. What is asked of the store itself is left to the caller."""

        def note(erasure: Erasure) -> Erased:
            # From the eraser's thread to the one that writes the segment: noted and on the disk before it is done.
            return self._executor.submit(self._notary.erased, erasure, int(self._wall() * 1000)).result()

        erased = await asyncio.to_thread(
            erase_personal, self._home.journal, older_than=before, party=party, note=note
        )

        def forget() -> None:
            # What was read before it was erased is stored first, and goes with the rest.
            self._tick(store=True)
            with self._store.write() as connection:
                forget_sightings(connection, self._workspace, party, before)

        await self._in_turn(forget)
        return erased

    async def recover(self, slot: int | None, live: set[str]) -> list[Recovery]:
        """Recover the segments of dead writers: of one worker slot, or all (None) but those in `live`."""
        return await self._in_turn(lambda: self._recover(slot, live))

    async def unreceived(self) -> list[str]:
        """Ids of keys that were derived at the gateway by calls that ended without an answer."""
        return await self._in_turn(self._unreceived)

    async def close(self) -> None:
        """Last tick, last checkpoint, seal."""
        await self._in_turn(self._seal)
        await asyncio.to_thread(self.witnesses.close)

    async def _in_turn(self, work: Callable[[], Made]) -> Made:
        async with self._lock:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    # -- in the writer's thread

    def _tick(self, *, store: bool = False) -> None:
        if self._segment.failed:
            return
        self._journal_audit()
        batch = self._reader.poll()
        while batch.entries:
            batch = self._reader.poll()
        heads = self._reader.heads()
        monotonic = time.monotonic_ns()
        try:
            if self._checkpointer.due(heads, monotonic):
                self._sign(heads, monotonic)
            self._sync()
        except JournalFailed:
            return
        if store or time.monotonic() - self._reader.stored_at > STORE_SECONDS:
            self._reader.store_use()

    def _checkpoint_now(self) -> dict[str, tuple[int, str]]:
        self._tick(store=True)
        self._reader.poll()
        heads = self._reader.heads()
        self._sign(heads, time.monotonic_ns())
        self._reader.poll()
        self._reader.store_use()
        return dict(self._checkpointer.signed)

    def _sign(self, heads: Heads, monotonic: int) -> None:
        checkpoint = self._checkpointer.make(heads, int(self._wall() * 1000), monotonic)
        if checkpoint is not None:
            self.witnesses.offer(checkpoint)

    def _sync(self) -> None:
        if self._segment.count != self._synced:
            self._segment.sync()
            self._synced = self._segment.count

    def _journal_audit(self) -> None:
        with self._store.read() as connection:
            entries = list(waiting_entries(connection))
        for _, entry in entries:
            self._segment.append(entry)
        if entries:
            # On the disk first: a loss of power in between enters them twice, never not at all.
            self._sync()
            with self._store.write() as connection:
                note_journaled(connection, entries[-1][0])

    def _recover(self, slot: int | None, live: set[str]) -> list[Recovery]:
        self._reader.poll()
        own = {self._segment.name}
        found = recover_segments(self._home.journal, self._reader, slot, live | own, self._wall)
        self._reader.poll()
        return found

    def _unreceived(self) -> list[str]:
        received = self._reader.received
        with self._store.read() as connection:
            waiting = received.waiting(connection)
        if not waiting or self._segment.failed:
            return []
        # Only now: a call is in the journal before its key is made, so none of these is missed.
        self._tick(store=True)
        with self._store.read() as connection:
            still = received.waiting(connection)
        return [key for key, call in waiting.items() if key in still and not received.may_be(call)]

    def _seal(self) -> None:
        if self._segment.failed:
            return
        self._tick(store=True)
        self._segment.seal(self._wall())
        self._reader.poll()
        self._sign(self._reader.heads(), time.monotonic_ns())
        self._reader.poll()
        self._reader.store_use()
        self._sync()
        self._segment.close()
