"""What a node knows of a call that is open: enough to cut it and to hold it to new limits."""

from __future__ import annotations

from typing import Protocol

from valetkey.decision.call import Call
from valetkey.decision.codes import Code
from valetkey.decision.reservation import Plan
from valetkey.journal.records import End


class OpenCall(Protocol):
    """An exchange, as a node sees it."""

    @property
    def key_id(self) -> str:
        """Whose call it is."""
        ...

    @property
    def call(self) -> Call:
        """What was judged."""
        ...

    @property
    def deadline(self) -> float:
        """When it has waited too long (seconds of the monotonic clock)."""
        ...

    def cut(self, end: End, why: Code) -> bool:
        """Hand nothing more on, in either direction; in force when this returns. False when it had ended before."""
        ...

    def follow(self, plan: Plan) -> None:
        """The key's limits are now those of `plan`."""
        ...
