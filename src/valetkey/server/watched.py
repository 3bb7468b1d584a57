"""Tasks that a process cannot do without: when one ends, the process does, and the supervisor starts it anew."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Any

from valetkey import log


class WatchedTasks:
    """The tasks of one process. A task that dies unseen would leave half a process that looks alive."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    def start(self, work: Coroutine[Any, Any, None], *, may_end: bool = False) -> None:
        """Run `work` beside the others; unless it `may_end`, its end is the process's."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(done, may_end=may_end))

    def stop(self) -> None:
        """Cancel them all: the process is ending in good order."""
        self._stopping = True
        for task in list(self._tasks):
            task.cancel()

    def _ended(self, task: asyncio.Task[None], *, may_end: bool) -> None:
        self._tasks.discard(task)
        if self._stopping or task.cancelled():
            return
        error = task.exception()
        if error is not None:
            log.note_failure(error)
        if error is not None or not may_end:
            log.current().flush()
            os._exit(1)
