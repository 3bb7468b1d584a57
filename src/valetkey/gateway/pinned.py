"""Keys that calls of this worker pinned: said to the control process until it has written them down."""

from __future__ import annotations

from itertools import islice

AT_ONCE = 1_000
"""Pins said at once, so that neither side stalls on them."""


class PinnedKeys:
    """Those that are not written down yet, as far as is known here."""

    def __init__(self) -> None:
        self._number = 0
        self.unsaid: dict[str, int] = {}
        """Key id -> number of the pin: a key that was unpinned can be pinned again meanwhile."""

    def add(self, key_id: str) -> None:
        """One more."""
        self._number += 1
        self.unsaid[key_id] = self._number

    def to_say(self) -> dict[str, int]:
        """Those that have waited longest."""
        return dict(islice(self.unsaid.items(), AT_ONCE))

    def noted(self, key_id: str, number: int) -> None:
        """The pin of that number stands in the database, or a later one."""
        if self.unsaid.get(key_id) == number:
            del self.unsaid[key_id]
