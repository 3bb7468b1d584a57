"""The bytes of one call as they pass, against the limits of its key and of all that shares them."""

from __future__ import annotations

from valetkey.decision.call import Decision
from valetkey.decision.codes import Code
from valetkey.decision.counter_bytes import same_bytes
from valetkey.decision.decide import refuse
from valetkey.decision.reservation import BeingCounted, LimitRefusal, Plan, Reserved
from valetkey.gateway.counted import STILL_COUNTING, when_counted
from valetkey.gateway.counters_file import CountersUnavailable
from valetkey.gateway.node import Node, refused_by_limit
from valetkey.journal.records import End


class Meter:
    """Of a call whose bytes are limited."""

    __slots__ = ("_counting", "_node", "_reserved", "refusal")

    def __init__(self, node: Node, reserved: Reserved) -> None:
        self._node = node
        self._reserved = reserved
        self._counting = False
        """Whether limits have begun with this call open, and what was used before may still have to be counted."""
        self.refusal: Decision = refuse(Code.QUOTA_EXCEEDED)
        """Why the last bytes could not pass."""

    @classmethod
    def of(cls, node: Node, reserved: Reserved | None) -> Meter | None:
        """None for a call that may move as much as it likes."""
        return cls(node, reserved) if reserved is not None and reserved.plan.checks.bytes else None

    async def reach(self, moved: int) -> bool:
        """Whether the call may have moved so many bytes in all; if so, they count. Holds up what is being counted."""
        try:
            refusal = await when_counted(lambda: self._count(moved))
        except BeingCounted:
            self.refusal = STILL_COUNTING
            return False
        except CountersUnavailable:
            self.refusal = refuse(Code.NOT_READY, "The counters of this key's limits cannot be used.")
            return False
        if refusal is not None:
            self.refusal = refused_by_limit(refusal, None)
        return refusal is None

    def _count(self, moved: int) -> LimitRefusal | None:
        size = moved - self._reserved.size
        return self._node.counters.meter(self._reserved, size, self._node.clock.now()) if size > 0 else None

    def follow(self, plan: Plan, moved: int) -> None:
        """The key's limits are now those of `plan`. Raises `CountersUnavailable`."""
        if not same_bytes(plan, self._reserved.metered):
            self._node.counters.follow(self._reserved, plan, moved, self._node.clock.now())
            self._counting = True

    @property
    def counting(self) -> bool:
        """Whether what was used before a limit is still being counted: until then the record must not tell this call's
        bytes, which it counts itself."""
        if self._counting and self._reserved.open:
            try:
                self._counting = self._node.counters.are_held(self._reserved.metered)
            except CountersUnavailable:
                self._counting = False
            return self._counting
        return False

    @property
    def end(self) -> End:
        """How a call ends whose bytes could not pass."""
        return End.CUT_BY_QUOTA if self.refusal.code is Code.QUOTA_EXCEEDED else End.INTERRUPTED
