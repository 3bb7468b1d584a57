"""From which web origins a key may be used (RFC 6454; the Origin header of browsers).

An origin is what an honest browser says; it protects a public key from use by other sites, not from programs.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import ClassVar

from msgspec.structs import force_setattr

from valetkey.decision.call import Call
from valetkey.decision.codes import Code
from valetkey.decision.restrictions.base import CompileContext, InvalidRestriction, Judge, Restriction
from valetkey.decision.restrictions.hosts import LABEL, MAX_HOST_LENGTH
from valetkey.decision.restrictions.wording import checked_entries, listed, quoted, without_repetition

MAX_ORIGIN_LENGTH = len("https://") + MAX_HOST_LENGTH + len(":65535")
"""Characters of the longest origin there can be; longer headers are not even read."""

MAX_CACHED_ORIGINS = 1024
"""Read Origin headers remembered by a process: a page sends the same one with every call."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_PORT = r"(?::(?P<port>[1-9][0-9]{0,4}))?"
_NAME = rf"{LABEL}(?:\.{LABEL})*"
_ORIGIN = re.compile(rf"(?P<scheme>https?)://(?P<host>{_NAME}|\[[0-9a-f:.]+\]){_PORT}")
_WRITTEN = re.compile(rf"(?P<scheme>https?)://(?P<wild>\*\.)?(?P<host>{_NAME}|\[[0-9a-f:.]+\]){_PORT}")


class Origins(Restriction, frozen=True, tag="origins", forbid_unknown_fields=True):
    """The call must carry one of these origins. One without an origin, or with ``null``, is refused."""

    code: ClassVar[Code] = Code.ORIGIN_DENIED
    options: ClassVar[tuple[str, ...]] = ("--origin",)

    allow: tuple[str, ...]
    """``https://app.example.com``, or ``https://*.example.com`` for every name below it; lower case, without
    the scheme's own port."""

    def __post_init__(self) -> None:
        entries = checked_entries("origins", self.allow)
        force_setattr(self, "allow", without_repetition(parse_origin_rule(entry) for entry in entries))

    def compile(self, context: CompileContext) -> Judge:
        exact = frozenset(rule for rule in self.allow if "*" not in rule)
        below = frozenset(rule for rule in self.allow if "*" in rule)

        def judge(call: Call, wall: float) -> bool:
            sent = call.origin
            if sent is None:
                return False
            if sent in exact:
                return True
            origin = _read(sent) if len(sent) <= MAX_ORIGIN_LENGTH else None
            if origin is None:
                return False
            scheme, host, port = origin
            if f"{scheme}://{host}{port}" in exact:
                return True
            if below and not host.startswith("["):
                dot = host.find(".")
                while dot != -1:
                    if f"{scheme}://*{host[dot:]}{port}" in below:
                        return True
                    dot = host.find(".", dot + 1)
            return False

        return judge

    def sentence(self) -> str:
        return f"Only from the web origins {listed(self.allow)}"


def parse_origin_rule(text: str) -> str:
    """Return an origin or a wildcard over one in its usual spelling. Raises `InvalidRestriction`."""
    if not text.isascii():
        raise InvalidRestriction(
            f"The origin {quoted(text)} is not ASCII. Write its host in punycode, beginning with 'xn--'."
        )
    if text.lower() == "null":
        raise InvalidRestriction("The origin 'null' can be made by anyone. Name the site's own origin.")
    found = _WRITTEN.fullmatch(text.lower()) if len(text) <= MAX_ORIGIN_LENGTH else None
    if found is None:
        raise InvalidRestriction(
            f"{quoted(text)} is not an origin. Write it as 'https://app.example.com', 'https://*.example.com'"
            " or with a port as 'https://app.example.com:8443', without path or user."
        )
    host = _usual_host(found["host"])
    port = _usual_port(found["scheme"], found["port"])
    if host is None or port is None:
        raise InvalidRestriction(
            f"The host or port of the origin {quoted(text)} does not exist. Correct the address or the port."
        )
    if found["wild"]:
        if "." not in host or _looks_numeric(host) or host.startswith("["):
            raise InvalidRestriction(
                f"The wildcard in {quoted(text)} is too wide. Put at least two names behind it, as in"
                " 'https://*.example.com'."
            )
        host = f"*.{host}"
    return f"{found['scheme']}://{host}{port}"


@lru_cache(maxsize=MAX_CACHED_ORIGINS)
def _read(sent: str) -> tuple[str, str, str] | None:
    """Scheme, host and port (with its colon, empty for the scheme's own) of an Origin header."""
    # `lower` turns some letters outside ASCII into ASCII ones (the Kelvin sign): refused before it.
    if not sent.isascii():
        return None
    found = _ORIGIN.fullmatch(sent.lower())
    if found is None:
        return None
    host, port = _usual_host(found["host"]), _usual_port(found["scheme"], found["port"])
    return None if host is None or port is None else (found["scheme"], host, port)


def _usual_host(host: str) -> str | None:
    if len(host) > MAX_HOST_LENGTH:
        return None
    try:
        if host.startswith("["):
            return f"[{ipaddress.IPv6Address(host[1:-1])}]"
        return str(ipaddress.IPv4Address(host)) if _looks_numeric(host) else host
    except ValueError:
        return None


def _usual_port(scheme: str, port: str | None) -> str | None:
    if port is None or int(port) == _DEFAULT_PORTS[scheme]:
        return ""
    return f":{port}" if int(port) <= 65535 else None


def _looks_numeric(host: str) -> bool:
    """Whether a browser would take the name for an IPv4 address: its last part is a number."""
    last = host.rpartition(".")[2]
    return last.isdigit() or re.fullmatch(r"0x[0-9a-f]*", last) is not None
