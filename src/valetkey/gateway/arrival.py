"""What is known of one call while it is judged."""

from __future__ import annotations

from valetkey.decision.address import Address
from valetkey.decision.call import Call, Decision, Now
from valetkey.decision.listener import Listener
from valetkey.decision.path import JudgedPath
from valetkey.decision.reservation import Reserved
from valetkey.gateway.credentials import Taken
from valetkey.gateway.entries import KeyEntry, ServiceEntry
from valetkey.gateway.facts import SecretVersion
from valetkey.gateway.runtime import ServiceRuntime


class Refused(Exception):
    """The call is refused with a decision."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision


class Arrival:
    """Filled in the order of the checks."""

    __slots__ = (
        "address", "call", "cost", "entry", "fingerprint", "headers", "label", "listener", "now", "operation", "path",
        "query",
        "reserved", "runtime", "secret", "service", "taken",
    )  # fmt: skip

    def __init__(self, now: Now) -> None:
        self.now = now
        self.headers: dict[bytes, bytes] = {}
        self.address: Address | None = None
        self.listener: Listener | None = None
        self.service: ServiceEntry | None = None
        self.runtime: ServiceRuntime | None = None
        self.label: str | None = None
        self.path: JudgedPath | None = None
        self.call: Call | None = None
        self.entry: KeyEntry | None = None
        self.taken: Taken | None = None
        self.secret: SecretVersion | None = None
        self.reserved: Reserved | None = None
        self.cost: int | None = None
        """Micros that the call may cost at most."""
        self.fingerprint: str | None = None
        self.query: bytes = b""
        self.operation: str | None = None
        """What is asked of Valetkey itself."""
