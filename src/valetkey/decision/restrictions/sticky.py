"""Only from the address that used the key first. Which one that is stands beside the counters, not in the policy."""

from __future__ import annotations

from typing import ClassVar

from valetkey.decision.call import Call
from valetkey.decision.codes import Code
from valetkey.decision.restrictions.base import CompileContext, Judge, Restriction


class Sticky(Restriction, frozen=True, tag="sticky", forbid_unknown_fields=True):
    """The first call that passes every check pins the key to its address (IPv4 address, IPv6 /64).

    From then on only calls from there pass, until `valetkey key unpin`. A call whose address is not known is refused.
    """

    code: ClassVar[Code] = Code.NETWORK_DENIED
    options: ClassVar[tuple[str, ...]] = ("--sticky",)

    def compile(self, context: CompileContext) -> Judge:
        # Whether it is the pinned one is asked beside the limits, where all workers see the same.
        def judge(call: Call, wall: float) -> bool:
            return call.address is not None

        return judge

    def sentence(self) -> str:
        return "Only from the address that uses it first"
