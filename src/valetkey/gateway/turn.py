"""The calls of one turn of the loop: decided one by one, recorded together, and only then answered or sent on.

One write(2) for all that was decided in a turn instead of two for each call; under load some twenty share it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from valetkey.journal.errors import JournalFailed
from valetkey.journal.records import Personal, Record
from valetkey.journal.segment import Entry, SegmentWriter
from valetkey.log import note_failure

Step = Callable[[], object]


def nothing() -> None:
    """No step follows."""


class _Waiting(NamedTuple):
    """One call that waits for its record."""

    entry: Entry
    then: Step
    otherwise: Step
    failed: Step
    accepts: bool


class Turn:
    """What waits for its record."""

    def __init__(self, journal: SegmentWriter, may_accept: Callable[[], bool]) -> None:
        """`may_accept`: whether this node may still let calls through, asked again before they are recorded."""
        self._journal = journal
        self._may_accept = may_accept
        self._waiting: list[_Waiting] = []

    def record(
        self,
        *appended: Record,
        personal: Personal | None = None,
        then: Step = nothing,
        otherwise: Step = nothing,
        failed: Step = nothing,
        accepts: bool = False,
    ) -> None:
        """Record, and take the step `then` when the record stands, `otherwise` when it could not be made.

        `failed` is taken when `then` raised: the record stands, and nobody has been answered. `accepts`: the
        record lets a call through, so it is not made when the node may not do that any more.
        """
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append(_Waiting((appended, personal), then, otherwise, failed, accepts))

    def flush(self) -> None:
        """Write the records of all that was decided, then take each one's step."""
        if not self._waiting:
            return
        standing, self._waiting = self._waiting, []
        refused: list[_Waiting] = []
        if not self._may_accept():
            refused = [waiting for waiting in standing if waiting.accepts]
            standing = [waiting for waiting in standing if not waiting.accepts]
        try:
            if standing:
                self._journal.append_all([waiting.entry for waiting in standing])
        except Exception as error:
            # A full disk, which the worker's sweep tells the operator of, or a record that cannot be written.
            if not isinstance(error, JournalFailed):
                note_failure(error)
            refused += standing
            standing = []
        for waiting in refused:
            _take(waiting.otherwise, nothing)
        for waiting in standing:
            _take(waiting.then, waiting.failed)


def _take(step: Step, failed: Step) -> None:
    """One call's failure must not keep the others from their answers."""
    try:
        step()
    except Exception as error:
        note_failure(error)
        if failed is not nothing:
            _take(failed, nothing)
