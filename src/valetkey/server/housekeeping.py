"""What the control process does of its own accord, again and again, and tells every worker."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from valetkey.access.operation import Frame
from valetkey.decision.limits import MAX_CLOCK_LAG
from valetkey.gateway.counters_keeping import KeptCounters
from valetkey.keys.dropping import drop_dead
from valetkey.server.ending import clean_counters, latch
from valetkey.server.performing import Performer
from valetkey.server.record import Recorder


class Housekeeping:
    """Writes down what has come true by itself, so that nobody is asked for leave."""

    def __init__(
        self,
        frame: Frame,
        performer: Performer,
        recorder: Recorder,
        counters: KeptCounters,
        writer: ThreadPoolExecutor,
    ) -> None:
        self._frame = frame
        self._performer = performer
        self._recorder = recorder
        self._counters = counters
        self._writer = writer

    async def latch_ended(self) -> int:
        """Make the end of keys and agreements that have reached it final, here and in every worker."""
        wall = self._frame.wall()
        return await self._performer.spread(lambda connection: latch(connection, self._frame.workspace, wall))

    async def tell_clock(self) -> None:
        """Let workers know that the clock is behind the newest record, which may not be their own."""
        if self._recorder.newest - self._frame.wall() > MAX_CLOCK_LAG:
            await self._performer.spread(lambda connection: [("clock", "clock")])

    async def drop_dead(self) -> int:
        """Let workers forget derived keys that have long been dead, and give their counters to others."""
        wall = self._frame.wall()
        await asyncio.get_running_loop().run_in_executor(
            self._writer, clean_counters, self._frame.store, self._counters, wall
        )
        return await self._performer.spread(
            lambda connection: [("key", one) for one in drop_dead(connection, self._frame.workspace, wall)]
        )
