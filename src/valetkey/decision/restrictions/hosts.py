"""Which of a service's upstream hosts a key opens."""

from __future__ import annotations

import re
from typing import ClassVar

from msgspec.structs import force_setattr

from valetkey.decision.call import Call
from valetkey.decision.codes import Code
from valetkey.decision.restrictions.base import CompileContext, InvalidRestriction, Judge, Restriction
from valetkey.decision.restrictions.wording import checked_entries, listed, quoted, without_repetition

LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
"""One label of a lower-case host name (RFC 1123, and the underscore that some hosts have)."""

MAX_HOST_LENGTH = 253
"""Characters of a host name without its last dot, RFC 1035 section 2.3.4."""

_HOST = re.compile(rf"{LABEL}(?:\.{LABEL})*(?::[1-9][0-9]{{0,4}})?")


class Hosts(Restriction, frozen=True, tag="hosts", forbid_unknown_fields=True):
    """The call must go to one of these hosts of the service, compared exactly.

    A call that names no host is refused: the gateway always fills it, with the service's only host too.
    """

    code: ClassVar[Code] = Code.HOST_DENIED
    options: ClassVar[tuple[str, ...]] = ("--host",)

    allow: tuple[str, ...]
    """Host names in lower case, with a port where the service's host has one."""

    def __post_init__(self) -> None:
        entries = checked_entries("hosts", self.allow)
        force_setattr(self, "allow", without_repetition(parse_host(entry) for entry in entries))

    def compile(self, context: CompileContext) -> Judge:
        allowed = frozenset(self.allow)

        def judge(call: Call, wall: float) -> bool:
            return call.derives or call.host in allowed

        return judge

    def sentence(self) -> str:
        return f"Only to {listed(self.allow)}"


def parse_host(text: str) -> str:
    """Return the host name in lower case. Raises `InvalidRestriction`."""
    if not text.isascii():
        raise InvalidRestriction(
            f"The host {quoted(text)} is not ASCII. Write it in punycode, beginning with 'xn--'."
        )
    host = text.lower()
    if len(host) > MAX_HOST_LENGTH or not _HOST.fullmatch(host):
        raise InvalidRestriction(
            f"{quoted(text)} is not a host name. Write it as 'api.example.com', without scheme,"
            " path or wildcard."
        )
    return host
