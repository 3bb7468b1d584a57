"""Keys that came in plain text over a network: said to the control process until it has written them down."""

from __future__ import annotations


class ExposedKeys:
    """The ones that this worker has seen."""

    def __init__(self) -> None:
        self._noted: dict[str, bool] = {}

    def add(self, key_id: str) -> None:
        """One more. The same one again is nothing new."""
        self._noted.setdefault(key_id, False)

    def noted(self, key_id: str) -> None:
        """It stands in the database."""
        self._noted[key_id] = True

    @property
    def unsaid(self) -> list[str]:
        """Ids of those that do not stand there yet, as far as is known here."""
        return [key_id for key_id, noted in self._noted.items() if not noted]
