"""An upstream's answer on its way to the caller: headers sieved, addresses rewritten, secrets scrubbed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from functools import lru_cache

from valetkey.gateway.scrub import Needles, scrub_headers
from valetkey.services.placement import HOP_BY_HOP
from valetkey.services.service import Service
from valetkey.wire.request import HeaderPairs

# Framing is the listener's; the rest would speak for the gateway's own origin.
_DROPPED = frozenset(name.encode() for name in HOP_BY_HOP) | {
    b"content-length",
    b"alt-svc",
    b"strict-transport-security",
    b"public-key-pins",
    b"clear-site-data",
}


class _Known(Enum):
    """What becomes of a header."""

    DROPPED = 0
    CONNECTION = 1
    COOKIE = 2
    ADDRESS = 3
    TYPE = 4


_TABLE = (
    dict.fromkeys(_DROPPED, _Known.DROPPED)
    | dict.fromkeys((b"location", b"content-location", b"link"), _Known.ADDRESS)
    | {b"connection": _Known.CONNECTION, b"set-cookie": _Known.COOKIE, b"content-type": _Known.TYPE}
)
# Types that a browser shows without running anything; whatever else comes is sandboxed.
_PASSIVE = re.compile(
    rb"(?:application/(?:json|x-ndjson|octet-stream|pdf|zip|gzip)|text/(?:plain|csv|event-stream|markdown)"
    rb"|multipart/[a-z-]+|(?:audio|video|font)/[a-z0-9.-]+|image/(?!svg)[a-z0-9.-]+"
    rb"|application/(?:problem|vnd\.[a-z0-9.-]+)\+json)(?:\s*;.*)?",
    re.IGNORECASE,
)
_SANDBOX = [(b"content-security-policy", b"sandbox"), (b"x-content-type-options", b"nosniff")]


@lru_cache(maxsize=256)
def _passive(content_type: bytes) -> bool:
    return _PASSIVE.fullmatch(content_type) is not None


def sieve(
    raw: Sequence[tuple[bytes, bytes]], service: Service, gateway: bytes, needles: Needles
) -> HeaderPairs:
    """The headers that go on to the caller, in order, lower-case names.

    `gateway` is the address of this service at the gateway (``http://host:8300/openai``).
    """
    named: set[bytes] = set()
    headers: HeaderPairs = []
    types: list[bytes] = []
    # One search over all of them: nearly always there is nothing to scrub.
    names = b"\n".join([name for name, _ in raw])
    values = b"\n".join([value for _, value in raw])
    suspicious = needles.occur_in(b"%b\n%b\n%b" % (names, names.lower(), values))
    for name, value in raw:
        lower = name.lower()
        if suspicious and (needles.occur_in(name) or needles.occur_in(lower)):
            continue  # in another case than it came in, a name would pass the scrubber
        known = _TABLE.get(lower)
        if known is None:
            if lower.startswith(b"x-valetkey-"):
                continue
        elif known is _Known.DROPPED:
            continue
        elif known is _Known.CONNECTION:
            named.update(part.strip().lower() for part in value.split(b","))
            continue
        elif known is _Known.COOKIE:
            if not service.cookies or value.lstrip().lower().startswith(b"valetkey"):
                continue
        elif known is _Known.ADDRESS:
            value = rewrite(value, service, gateway)
        else:
            types.append(value.strip())
        headers.append((lower, value))
    if named:
        headers = [pair for pair in headers if pair[0] not in named]
    if suspicious:
        headers = scrub_headers(headers, needles)
    if len(types) != 1 or not _passive(types[0]):
        replaced = [name for name, _ in _SANDBOX]
        headers = [pair for pair in headers if pair[0] not in replaced] + _SANDBOX
    return headers


def rewrite(value: bytes, service: Service, gateway: bytes) -> bytes:
    """Addresses of the service's own hosts become the gateway's; others pass as they are."""
    for origin in service.hosts.values():
        for authority in {origin.authority, f"{origin.host}:{origin.port}"}:
            for scheme in ("https", "http"):
                own = f"{scheme}://{authority}{origin.prefix}".encode()
                start = 0
                while (at := value.find(own, start)) >= 0:
                    end = at + len(own)
                    # `https://api.example.com.evil` only begins like ours.
                    if end == len(value) or value[end : end + 1] in b"/?#>\"' ,;":
                        value = value[:at] + gateway + value[end:]
                        start = at + len(gateway)
                    else:
                        start = end
    return value
