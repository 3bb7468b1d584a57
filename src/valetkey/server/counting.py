"""The control process's part in the counters of limits: they begin, are filled from the journal, follow the clock."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from valetkey.access.clock import read_acceptance
from valetkey.access.operation import Begun
from valetkey.errors import Unavailable
from valetkey.gateway.counters_file import CountersUnavailable
from valetkey.gateway.counters_keeping import KeptCounters
from valetkey.journal.errors import JournalFailed
from valetkey.log import note_failure
from valetkey.server.lifting import are_lifted, lift_all, lift_begun, mark_lifted
from valetkey.server.record import Recorder
from valetkey.server.workers import Workers
from valetkey.store.engine import Store, StoreError

Found = TypeVar("Found")


class Counting:
    """One opening of the counters, with the journal that proves them."""

    def __init__(
        self,
        *,
        path: Path,
        store: Store,
        workspace: str,
        wall: Callable[[], float],
        recorder: Recorder,
        workers: Workers,
        counters: KeptCounters,
        writer: ThreadPoolExecutor,
    ) -> None:
        self._path = path
        self._store = store
        self._workspace = workspace
        self._wall = wall
        self._recorder = recorder
        self._workers = workers
        self._counters = counters
        self._writer = writer
        self._unlifted = False
        """Whether there may be counters that are held and that nobody is about to lift."""

    async def begin(self) -> None:
        """Before any worker joins: fill a new file, or an old one; and what a loss of power may have taken."""
        if not await self._read(lambda connection: are_lifted(connection, self._counters)):
            await self._recorder.catch_up()
            await self._read(lambda c: lift_all(c, self._workspace, self._counters, self._wall()))
        await self.mark()
        await self.carry_acceptance()
        # Those wait for the workers that live already: what these reserve without counting is not recorded yet.
        self._unlifted = bool(await asyncio.to_thread(self._counters.held))

    async def mark(self) -> None:
        """From here on a copy of the file that was made before is known for one."""
        mark = int.from_bytes(os.urandom(7), "big") + 1
        await self._write(lambda connection: mark_lifted(connection, self._counters, mark))

    @property
    def taken_away(self) -> bool:
        """Whether the file was removed or replaced: whoever opened it now would count elsewhere."""
        return not self._counters.stand_at(self._path)

    async def give_up(self) -> None:
        """Whatever file the next start finds, it is not the one that counted."""
        await self._write(lambda connection: mark_lifted(connection, None, 0))

    def hold(self, begun: Iterable[Begun], wall: float) -> None:
        """Before its action is committed, shut a limit that begins: whenever we die, it does not count from nothing.

        Raises `Unavailable`.
        """
        try:
            for limits in begun:
                self._counters.hold(limits.block, limits.cells, wall)
        except CountersUnavailable as error:
            raise Unavailable(str(error), "Nothing was changed; do it again then.") from error

    def look_for_held(self) -> None:
        """There may be counters that are held and that nobody is about to lift."""
        self._unlifted = True

    async def lift(self, begun: Iterable[Begun]) -> None:
        """Let limits count that begin; every worker has them, so none reserves without counting any more."""
        await self._lift(lambda c: lift_begun(c, self._workspace, self._counters, self._wall(), begun))

    async def lift_held(self) -> None:
        """Let limits count whose beginning was cut short, by the end of a control process or a failing store."""
        if not self._unlifted:
            return
        self._unlifted = False
        async with self._workers.joining:
            held = await asyncio.to_thread(self._counters.held)
            sent = self._workers.send([]) if held else []
        if held:
            await self._workers.settle(sent)
            await self._lift(lambda c: lift_all(c, self._workspace, self._counters, self._wall(), held))

    async def _lift(self, lift: Callable[[Connection], None]) -> None:
        try:
            await self._recorder.catch_up()
            await self._read(lift)
        except BaseException as error:
            # What is held stays shut, and is tried again.
            self.look_for_held()
            if not isinstance(error, StoreError | JournalFailed):
                raise
            note_failure(error)

    async def carry_acceptance(self) -> None:
        """Have the counters follow the latest acceptance of the clock, if they have not."""
        acceptance = await self._read(read_acceptance)
        if acceptance is not None:
            await asyncio.to_thread(self._counters.accept_clock, self._wall(), acceptance)

    async def _read(self, query: Callable[[Connection], Found]) -> Found:
        def run() -> Found:
            with self._store.read() as connection:
                return query(connection)

        return await asyncio.to_thread(run)

    async def _write(self, change: Callable[[Connection], None]) -> None:
        def run() -> None:
            with self._store.write() as connection:
                change(connection)

        await asyncio.get_running_loop().run_in_executor(self._writer, run)
