"""The target of a request line in HTTP/1.1. Pure."""

from __future__ import annotations


class Ambiguous(Exception):
    """A request that could be read in two ways, beyond what llhttp refuses."""


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
