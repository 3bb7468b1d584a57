"""Follows in the record which calls for a derived key are open, and which were answered."""

from __future__ import annotations

from collections.abc import Container

from sqlalchemy import Connection

from valetkey.decision.codes import Code
from valetkey.gateway.derive import OPERATION
from valetkey.journal.records import AnyRecord, Closed, End, Opened
from valetkey.keys.unreceived import keys_asked_for, note_received

_MADE = 201


class Received:
    """Feed it every record once; store it in the transaction that notes how far the journal was read."""

    def __init__(self, connection: Connection, workspace: str, open_calls: Container[str]) -> None:
        """`open_calls`: what was open as far as the journal was accounted for."""
        self._workspace = workspace
        waiting = keys_asked_for(connection, workspace).values()
        self._open = {call for call in waiting if call in open_calls}
        self._answered: set[str] = set()

    def add(self, record: AnyRecord) -> None:
        """Account for one record."""
        if isinstance(record, Opened):
            if record.operation == OPERATION and record.code == Code.VALID:
                self._open.add(record.call)
        elif isinstance(record, Closed) and record.call in self._open:
            self._open.discard(record.call)
            if record.end == End.COMPLETE and record.status == _MADE:
                self._answered.add(record.call)

    def store(self, connection: Connection) -> None:
        """Note whose keys have been received."""
        note_received(connection, self._answered)

    def stored(self) -> None:
        """That transaction stands."""
        self._answered.clear()

    def waiting(self, connection: Connection) -> dict[str, str]:
        """Keys of which nothing is known yet, with their calls."""
        return keys_asked_for(connection, self._workspace)

    def may_be(self, call: str) -> bool:
        """Whether the call was answered, or may be yet."""
        return call in self._open or call in self._answered
