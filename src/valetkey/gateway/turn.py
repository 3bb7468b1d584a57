"""The calls of one turn of the loop: decided one by one, recorded together, and only then answered or sent on.

One write(2) for all that was decided in a turn instead of two for each call; under load some twenty share it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from valetkey.gateway.logged import note_failure
from valetkey.journal.errors import JournalFailed
from valetkey.journal.records import Personal, Record
from valetkey.journal.segment import Entry, SegmentWriter

Step = Callable[[], object]


def nothing() -> None:
    """No step follows."""


class Turn:
    """What waits for its record."""

    def __init__(self, journal: SegmentWriter, may_accept: Callable[[], bool]) -> None:
        """`may_accept`: whether this node may still let calls through, asked again before they are recorded."""
        self._journal = journal
        self._may_accept = may_accept
        self._entries: list[Entry] = []
        self._steps: list[tuple[Step, Step, bool]] = []

    def record(
        self,
        *appended: Record,
        personal: Personal | None = None,
        then: Step = nothing,
        otherwise: Step = nothing,
        accepts: bool = False,
    ) -> None:
        """Record, and take the step `then` when the record stands, `otherwise` when it could not be made.

        `accepts`: the record lets a call through, so it is not made when the node may not do that any more.
        """
        if not self._steps:
            asyncio.get_running_loop().call_soon(self.flush)
        self._entries.append((appended, personal))
        self._steps.append((then, otherwise, accepts))

    def flush(self) -> None:
        """Write the records of all that was decided, then take each one's step."""
        if not self._steps:
            return
        entries, self._entries = self._entries, []
        steps, self._steps = self._steps, []
        refused: list[Step] = []
        if not self._may_accept():
            refused = [otherwise for _, otherwise, accepts in steps if accepts]
            entries = [entry for entry, step in zip(entries, steps, strict=True) if not step[2]]
            steps = [step for step in steps if not step[2]]
        try:
            self._journal.append_all(entries)
        except JournalFailed:
            refused += [otherwise for _, otherwise, _ in steps]
            steps = []
        for otherwise in refused:
            _take(otherwise, nothing)
        for then, otherwise, _ in steps:
            _take(then, otherwise)


def _take(step: Step, otherwise: Step) -> None:
    """One call's failure must not keep the others from their answers."""
    try:
        step()
    except Exception as error:
        note_failure(error)
        if otherwise is not nothing:
            _take(otherwise, nothing)
