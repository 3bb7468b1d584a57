"""The control process's part of the record: audit outbox, tailing, rollups, checkpoints, recovery, proof."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import Connection, select, update

from valetkey import log
from valetkey.access.clock import Newest, read_newest, store_newest
from valetkey.journal.admission import read_admission
from valetkey.journal.chain import SegmentName, segment_path, segments_in
from valetkey.journal.checkpoint import Checkpointer, Heads, last_checkpoint
from valetkey.journal.errors import JournalError, JournalFailed, SegmentLive
from valetkey.journal.notes import Notary
from valetkey.journal.personal import Erasure, erase_personal
from valetkey.journal.randomness import RandomPool
from valetkey.journal.records import Audit, Erased, time_of
from valetkey.journal.recover import Recovery, finish_erasures, recover_segment
from valetkey.journal.segment import SegmentWriter
from valetkey.journal.tail import Batch, Position, Tailer
from valetkey.journal.usage import Rollups, Use
from valetkey.log import note_failure
from valetkey.parties.erasure import forget_sightings
from valetkey.server.home import Home
from valetkey.server.open_calls import all_of, read_open_calls, store_open_calls
from valetkey.server.proving import proof_of, prove
from valetkey.server.received import Received
from valetkey.server.usage import read_positions, store_use
from valetkey.server.witness import Witnesses
from valetkey.store import tables
from valetkey.store.engine import Store, StoreError

Made = TypeVar("Made")

TICK_SECONDS = 0.2
"""How often the journal is read on; a call is in `usage` within a second."""
MOST_PROBLEMS = 100
"""More tell nobody anything: `audit verify` lists them all."""
AUDIT_BATCH = 500
"""Audit entries chained in one turn."""
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
        self._stored_at = 0.0
        self._pending = Use()
        """What is not in the database yet."""
        self._synced = 0
        self.problems: dict[str, None] = {}
        """What is wrong with the journal, each thing once, in the order it was met."""
        with store.read() as connection:
            positions, opened = read_positions(connection), read_open_calls(connection)
            known = read_newest(connection) or Newest(0.0, None)
            open_calls = all_of(opened)
            self._received = Received(connection, workspace, open_calls)
        self._rollups = Rollups(open_calls)
        public_key = signing_key.public_key()
        self.admission = read_admission(home.journal, [public_key])
        """Which segments belong to the journal; a file that someone else put there does not."""
        self._newest = known
        """Newest instant that a record read so far names: a clock far behind it must not open windows again."""
        finish_erasures(home.journal, [public_key])
        self._tailer = Tailer(home.journal, positions, open_calls=opened, admit=self.admission)
        self._stored = positions
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
        return self._newest.time

    @property
    def failed(self) -> bool:
        """Whether the control segment cannot be written any more."""
        return self._segment.failed

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
        batch = self._poll()
        while batch.entries:
            batch = self._poll()
        heads = self._tailer.heads()
        monotonic = time.monotonic_ns()
        try:
            if self._checkpointer.due(heads, monotonic):
                self._sign(heads, monotonic)
            self._sync()
        except JournalFailed:
            return
        if store or time.monotonic() - self._stored_at > STORE_SECONDS:
            self._store_use()

    def _poll(self) -> Batch:
        batch = self._tailer.poll()
        for entry in batch.entries:
            self._rollups.add(entry.record, entry.personal)
            self._received.add(entry.record)
            named = time_of(entry.record)
            if named > self._newest.time:
                self._newest = Newest(named, self._newest.accepted)
        for problem in batch.problems:
            where = problem.segment if problem.seq is None else f"{problem.segment} record {problem.seq}"
            self._note(f"{where}: {problem.detail}")
        return batch

    def _checkpoint_now(self) -> dict[str, tuple[int, str]]:
        self._tick(store=True)
        self._poll()
        heads = self._tailer.heads()
        self._sign(heads, time.monotonic_ns())
        self._poll()
        self._store_use()
        return dict(self._checkpointer.signed)

    def _sign(self, heads: Heads, monotonic: int) -> None:
        checkpoint = self._checkpointer.make(heads, int(self._wall() * 1000), monotonic)
        if checkpoint is not None:
            self.witnesses.offer(checkpoint)

    def _store_use(self) -> None:
        self._stored_at = time.monotonic()
        self._pending.merge(self._rollups.take())
        positions = self._tailer.positions()
        if positions == self._stored:
            return
        with self._store.write() as connection:
            store_use(connection, self._workspace, self._pending, positions)
            store_open_calls(connection, self._tailer.all_open_calls())
            self._received.store(connection)
            self._newest = self.newest_in(connection)
            store_newest(connection, self._newest)
        self._pending = Use()
        self._received.stored()
        self._stored = positions

    def newest_in(self, connection: Connection) -> Newest:
        """What no clock may be far behind, as of this transaction: an acceptance that it holds comes first."""
        stored = read_newest(connection)
        if stored is None or stored.accepted == self._newest.accepted:
            return self._newest
        return stored

    def _sync(self) -> None:
        if self._segment.count != self._synced:
            self._segment.sync()
            self._synced = self._segment.count

    def _journal_audit(self) -> None:
        """Audit entries were written in the action's own transaction; here they enter the chain."""
        table = tables.audit
        with self._store.read() as connection:
            rows = connection.execute(
                select(table).where(table.c.journaled == 0).order_by(table.c.seq).limit(AUDIT_BATCH)
            ).all()
        for row in rows:
            details = msgspec.json.decode(row.details)
            self._segment.append(
                Audit(
                    row.time,
                    row.action,
                    row.actor,
                    entry=row.id,
                    subject=row.subject or None,
                    workspace=row.workspace_id,
                    detail={"outcome": row.outcome, **_flat(details)},
                )
            )
        if rows:
            # On the disk first: a loss of power in between enters them twice, never not at all.
            self._sync()
            with self._store.write() as connection:
                connection.execute(
                    update(table)
                    .where(table.c.journaled == 0, table.c.seq <= rows[-1].seq)
                    .values(journaled=1)
                )

    def _recover(self, slot: int | None, live: set[str]) -> list[Recovery]:
        self._poll()
        found = []
        positions = self._tailer.positions()
        for name in segments_in(self._home.journal):
            segment = str(name)
            if (
                not self.admission(name)
                or segment == self._segment.name
                or segment in live
                or (slot is not None and name.writer != f"w{slot}")
            ):
                continue
            position = positions.get(segment)
            path = segment_path(self._home.journal, name)
            if position is not None and position.sealed and not (name.control and _goes_on(path, position)):
                continue
            try:
                recovery = recover_segment(
                    path,
                    time=self._wall(),
                    resume=position,
                    open_calls=self._tailer.open_calls(segment),
                )
            except SegmentLive:
                continue
            except (OSError, JournalError) as error:
                self._note(f"{segment}: {error}")
                continue
            if recovery.problem is not None:
                self._note(f"{segment}: {recovery.problem.detail}")
            found.append(recovery)
        self._poll()
        return found

    def _unreceived(self) -> list[str]:
        with self._store.read() as connection:
            waiting = self._received.waiting(connection)
        if not waiting or self._segment.failed:
            return []
        # Only now: a call is in the journal before its key is made, so none of these is missed.
        self._tick(store=True)
        with self._store.read() as connection:
            still = self._received.waiting(connection)
        return [key for key, call in waiting.items() if key in still and not self._received.may_be(call)]

    def _note(self, problem: str) -> None:
        if len(self.problems) < MOST_PROBLEMS:
            self.problems[problem] = None

    def _seal(self) -> None:
        if self._segment.failed:
            return
        self._tick(store=True)
        self._segment.seal(self._wall())
        self._poll()
        self._sign(self._tailer.heads(), time.monotonic_ns())
        self._poll()
        self._store_use()
        self._sync()
        self._segment.close()


def _goes_on(path: Path, position: Position) -> bool:
    """Whether something stands behind the seal: half a checkpoint, of a process that was killed at its very end."""
    try:
        return path.stat().st_size > position.offset
    except FileNotFoundError:
        return False


def _flat(details: dict[str, Any]) -> dict[str, str | int | float | bool | None]:
    """Nested details as JSON text: a record holds plain values only."""
    return {
        name: value
        if isinstance(value, str | int | float | bool) or value is None
        else msgspec.json.encode(value).decode()
        for name, value in details.items()
    }
