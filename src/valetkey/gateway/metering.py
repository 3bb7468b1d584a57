"""The bytes of one call as they pass, against the limits of its key and of all that shares them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from valetkey.decision.call import Decision
from valetkey.decision.codes import Code
from valetkey.decision.decide import refuse
from valetkey.decision.reservation import BeingCounted, Reserved
from valetkey.gateway.counters_file import CountersUnavailable
from valetkey.gateway.node import refused_by_limit
from valetkey.journal.records import End

if TYPE_CHECKING:
    from valetkey.gateway.node import Node


class Meter:
    """Of a call whose bytes are limited."""

    __slots__ = ("_node", "_reserved", "refusal")

    def __init__(self, node: Node, reserved: Reserved) -> None:
        self._node = node
        self._reserved = reserved
        self.refusal: Decision = refuse(Code.QUOTA_EXCEEDED)
        """Why the last bytes could not pass."""

    @classmethod
    def of(cls, node: Node, reserved: Reserved | None) -> Meter | None:
        """None for a call that may move as much as it likes."""
        return cls(node, reserved) if reserved is not None and reserved.plan.checks.bytes else None

    def take(self, size: int) -> bool:
        """Whether so many bytes more may pass; if so, they count."""
        try:
            refusal = self._node.counters.meter(self._reserved, size, self._node.clock.now())
        except (CountersUnavailable, BeingCounted):
            self.refusal = refuse(Code.NOT_READY, "The counters of this key's limits cannot be used.")
            return False
        if refusal is not None:
            self.refusal = refused_by_limit(refusal, None)
        return refusal is None

    @property
    def end(self) -> End:
        """How a call ends whose bytes could not pass."""
        return End.CUT_BY_QUOTA if self.refusal.code is Code.QUOTA_EXCEEDED else End.INTERRUPTED
