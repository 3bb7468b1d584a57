"""What a head in HTTP/1.1 says of its body and its target, beyond what llhttp makes sure of. Pure."""

from __future__ import annotations

from valetkey.wire.request import HeaderPairs


class Ambiguous(Exception):
    """A request that could be read in two ways, beyond what llhttp refuses."""


class Framing:
    """How a request's body comes, and for whom the request is."""

    __slots__ = ("expects", "hosts", "length")

    def __init__(self, headers: HeaderPairs, *, modern: bool) -> None:
        """`modern`: HTTP/1.1, not 1.0. Raises `Ambiguous`."""
        self.length: int | None = 0
        """Bytes of the body, None for one in chunks."""
        self.expects = False
        """Whether the caller waits to be told that its body is wanted."""
        self.hosts: list[bytes] = []
        for name, value in headers:
            if name == b"content-length":
                self.length = int(value)
            elif name == b"transfer-encoding":
                if not modern or value.lower() != b"chunked":
                    raise Ambiguous
                self.length = None
            elif name == b"expect":
                if value.lower() != b"100-continue":
                    raise Ambiguous
                self.expects = modern
            elif name == b"host":
                self.hosts.append(value)


def origin_form(target: bytes, hosts: list[bytes], *, connect: bool) -> bytes:
    """Path and query of a target. Raises `Ambiguous` for what could be meant for somebody else.

    The authority of an absolute form must be the Host header's (RFC 9112, section 3.2.2, lets it win), and a
    fragment is no part of a request.
    """
    if b"#" in target:
        raise Ambiguous
    if target == b"*" or connect:
        return target
    scheme, mark, rest = target.partition(b"://")
    if not mark or scheme.lower() not in (b"http", b"https"):
        raise Ambiguous
    cut = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
    authority, path = rest[:cut], rest[cut:]
    if [authority.lower()] != [host.lower() for host in hosts]:
        raise Ambiguous
    return path if path.startswith(b"/") else b"/" + path
