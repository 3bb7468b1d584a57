"""Calls as they happen: what `events --follow` shows."""

from __future__ import annotations

from pathlib import Path

from valetkey.journal.chain import Admit, Problem
from valetkey.journal.event import Event, EventFilter, join
from valetkey.journal.records import Closed, Flood, Opened, Personal
from valetkey.journal.tail import Tailer


class Follower:
    """Gives the events that come after it was made.

    A call that is still open appears with `end` None, and once more when it has closed.
    """

    def __init__(
        self, folder: Path, wanted: EventFilter | None = None, *, admit: Admit | None = None
    ) -> None:
        self._tailer = Tailer(folder, from_end=True, admit=admit)
        self._wanted = wanted or EventFilter()
        self._open: dict[str, tuple[Opened, Personal | None]] = {}
        self.problems: list[Problem] = []
        """Breaks of the journal met so far; a segment that broke is not followed any further."""

    def poll(self) -> list[Event]:
        """What came since the last poll, oldest first. The caller decides when to poll again."""
        batch = self._tailer.poll()
        self.problems += batch.problems
        shown: dict[str, Event] = {}
        for entry in batch.entries:
            record = entry.record
            if isinstance(record, Opened):
                shown[record.call] = join(record, None, entry.personal)
                self._open[record.call] = (record, entry.personal)
            elif isinstance(record, Flood):
                shown[record.call] = join(record, None, entry.personal)
            elif isinstance(record, Closed):
                opened = self._open.pop(record.call, None)
                if opened is not None:
                    shown[record.call] = join(opened[0], record, opened[1])
        # A refusal without a closed record has ended all the same.
        for call in [call for call, event in shown.items() if event.end is not None]:
            self._open.pop(call, None)
        return sorted(
            (event for event in shown.values() if self._wanted.matches(event)), key=lambda event: event.time
        )

    def close(self) -> None:
        self._tailer.close()
