"""What the fields of a request in HTTP/2 mean (RFC 9113, section 8), or why they mean nothing. Pure.

As strict as the reading of HTTP/1.1, and with the same result, so that nothing behind it knows the version: the
authority becomes the one Host, crumbs of cookies become one field, and nothing that would frame a message in
HTTP/1.1 comes through.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from valetkey.wire.bounds import MAX_FIELDS, MAX_HEAD_BYTES
from valetkey.wire.request import Fault, HeaderPairs

MAX_LENGTH_DIGITS = 19
"""Of a Content-Length: what 64 bits hold, as in HTTP/1.1."""

_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path"))
# What llhttp knows in HTTP/1.1: others are told the same in both versions.
METHODS = frozenset(
    b"""ACL BIND CHECKOUT CONNECT COPY DELETE GET HEAD LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL MOVE
    NOTIFY OPTIONS PATCH POST PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SOURCE SUBSCRIBE TRACE UNBIND
    UNLINK UNLOCK UNSUBSCRIBE""".split()
)
# They speak of a connection in HTTP/1.1 and frame its messages (RFC 9113, section 8.2.2).
_OF_CONNECTIONS = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"http2-settings")
)
_name = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
_breaks = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]|\A[ \t]|[ \t]\Z").search
_beyond_target = re.compile(rb"[^\x21-\x7e]").search


class Head(msgspec.Struct, frozen=True):
    """A request that can be read in one way only."""

    method: str
    raw_path: bytes
    query: bytes
    headers: HeaderPairs
    """Lower-case names, in order, the Host first."""
    length: int | None
    """Bytes of the body, None where nobody said."""
    expects: bool
    """Whether the caller waits to be told that its body is wanted."""


def read_head(fields: Iterable[tuple[bytes, bytes]], *, ended: bool) -> Head | Fault:
    """The request that `fields` make; `ended`: no body follows."""
    pseudo: dict[bytes, bytes] = {}
    headers: HeaderPairs = []
    hosts: list[bytes] = []
    crumbs: list[bytes] = []
    length: int | None = None
    expects = False
    size = 0
    for name, value in fields:
        size += len(name) + len(value) + 4
        if _breaks(value) and name != b":path":  # which has a code of its own for what it must not hold
            return Fault.FORM
        if name[:1] == b":":
            if headers or name not in _PSEUDO or name in pseudo:
                return Fault.FORM
            pseudo[name] = value
            continue
        if not _name(name) or name in _OF_CONNECTIONS or (name == b"te" and value.lower() != b"trailers"):
            return Fault.FORM
        if name == b"content-length":
            if length is not None or not value.isdigit() or len(value) > MAX_LENGTH_DIGITS:
                return Fault.FORM
            length = int(value)
        elif name == b"expect":
            if value.lower() != b"100-continue":
                return Fault.FORM
            expects = True
        elif name == b"host":
            hosts.append(value)
        elif name == b"cookie":
            crumbs.append(value)
            if len(crumbs) > 1:
                continue
        headers.append((name, value))
    if size > MAX_HEAD_BYTES or len(headers) > MAX_FIELDS:
        return Fault.SIZE
    method = pseudo.get(b":method")
    if method is None or (ended and length):
        return Fault.FORM
    if len(crumbs) > 1:
        headers = _one_cookie(headers, crumbs)
    target = _target(pseudo, method)
    if isinstance(target, Fault):
        return target
    authority = pseudo.get(b":authority")
    if authority is not None:
        if hosts and [host.lower() for host in hosts] != [authority.lower()]:
            return Fault.FORM
        headers = [(b"host", authority), *(pair for pair in headers if pair[0] != b"host")]
    raw_path, _, query = target.partition(b"?")
    return Head(method.decode(), raw_path, query, headers, 0 if ended else length, expects and not ended)


def trailers_are_sound(fields: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether what stands behind a body may stand there. It is dropped either way."""
    return all(_name(name) and name not in _OF_CONNECTIONS and not _breaks(value) for name, value in fields)


def _target(pseudo: dict[bytes, bytes], method: bytes) -> bytes | Fault:
    scheme, path = pseudo.get(b":scheme"), pseudo.get(b":path")
    if method not in METHODS:
        return Fault.METHOD
    if method == b"CONNECT":
        # As in HTTP/1.1 the authority is its target; whoever judges it refuses the method.
        if scheme is not None or path is not None:
            return Fault.FORM
        return pseudo.get(b":authority") or Fault.FORM
    if scheme is None or path is None or scheme.lower() not in (b"http", b"https"):
        return Fault.FORM
    if _beyond_target(path):
        return Fault.TARGET
    if b"#" in path or (path[:1] != b"/" and path != b"*"):
        return Fault.FORM
    return path


def _one_cookie(headers: HeaderPairs, crumbs: list[bytes]) -> HeaderPairs:
    """The crumbs as the one field they were (RFC 9113, section 8.2.3)."""
    whole = b"; ".join(crumbs)
    return [(name, whole if name == b"cookie" else value) for name, value in headers]
