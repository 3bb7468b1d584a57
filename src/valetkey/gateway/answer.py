"""An upstream's answer on its way to the caller: headers sieved, addresses rewritten, secrets scrubbed."""

from __future__ import annotations

from collections.abc import Iterable

from valetkey.gateway.refusal import HeaderPairs
from valetkey.gateway.scrub import Needles, scrub_headers
from valetkey.services.placement import HOP_BY_HOP
from valetkey.services.service import Service

# Framing is the listener's; the rest would speak for the gateway's own origin.
_DROPPED = frozenset(name.encode() for name in HOP_BY_HOP) | {
    b"content-length",
    b"alt-svc",
    b"strict-transport-security",
    b"public-key-pins",
    b"clear-site-data",
}
_REWRITTEN = frozenset((b"location", b"content-location", b"link"))
_ACTIVE = (b"text/html", b"image/svg+xml", b"application/xhtml+xml", b"text/xml", b"application/xml")


def sieve(
    raw: Iterable[tuple[bytes, bytes]], service: Service, gateway: bytes, needles: Needles
) -> HeaderPairs:
    """The headers that go on to the caller, in order, lower-case names.

    `gateway` is the address of this service at the gateway (``http://host:8300/openai``).
    """
    named: set[bytes] = set()
    headers: HeaderPairs = []
    active = False
    for name, value in raw:
        lower = name.lower()
        if lower in _DROPPED:
            if lower == b"connection":
                named.update(part.strip().lower() for part in value.split(b","))
            continue
        if lower == b"set-cookie" and (not service.cookies or value.lstrip().lower().startswith(b"valetkey")):
            continue
        if lower in _REWRITTEN:
            value = rewrite(value, service, gateway)
        elif lower == b"content-type":
            active = value.lower().startswith(_ACTIVE)
        headers.append((lower, value))
    if named:
        headers = [pair for pair in headers if pair[0] not in named]
    headers = scrub_headers(headers, needles)
    if active:
        headers = [p for p in headers if p[0] not in (b"content-security-policy", b"x-content-type-options")]
        headers += [(b"content-security-policy", b"sandbox"), (b"x-content-type-options", b"nosniff")]
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
