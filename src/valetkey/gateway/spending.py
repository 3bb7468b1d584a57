"""What one allowed call has reserved: metered while it runs, then given back or settled."""

from __future__ import annotations

from valetkey.decision.reservation import Plan, Reserved
from valetkey.gateway.metering import Meter
from valetkey.gateway.node import Node
from valetkey.log import note_failure


class Spending:
    """Of one call. Counters that fail keep no call from its record and its answer: then it stays spent.

    Every call is settled in its end, also one that was given back before: what it had reserved is open no more by
    then (`Reserved.open`), so settling changes nothing. One that could not be given back is settled then.
    """

    __slots__ = ("_cost", "_node", "_reserved", "_started_ns", "given_back", "meter")

    def __init__(self, node: Node, reserved: Reserved | None, cost: int | None, started_ns: int) -> None:
        self._node = node
        self._reserved = reserved
        self._cost = cost
        self._started_ns = started_ns
        self.meter = Meter.of(node, reserved)
        self.given_back = False

    @property
    def cost(self) -> int | None:
        """Millionths that the call costs, as it stands; None: without a price."""
        return 0 if self.given_back else self._cost

    @property
    def counting(self) -> bool:
        """See `Meter.counting`."""
        return self.meter is not None and self.meter.counting

    def follow(self, plan: Plan, moved: int) -> None:
        """The key's limits are now those of `plan`: so many bytes count at them too. Raises `CountersUnavailable`."""
        if self.meter is None:
            if not plan.checks.bytes:
                return
            if self._reserved is None:
                self._reserved = Reserved(Plan(()), 0, self._started_ns, (), [])
            self.meter = Meter(self._node, self._reserved)
        if not self.given_back:
            self.meter.follow(plan, moved)

    def give_back(self) -> None:
        """Spend nothing."""
        try:
            if self._reserved is not None:
                self._node.counters.give_back(self._reserved, self._node.clock.now())
            self.given_back = True
        except Exception as error:
            note_failure(error)

    def settle(self, moved: int) -> None:
        """Spend what was reserved and so many bytes, and leave the call's place among the open ones at once."""
        if self._reserved is None:
            return
        try:
            self._node.counters.settle(self._reserved, None, None if self.meter is None else moved)
        except Exception as error:
            note_failure(error)
