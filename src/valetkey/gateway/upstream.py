"""The way to one service's upstream: the judged bytes, one attempt, checked addresses only, no proxies."""

from __future__ import annotations

import re
from collections.abc import Iterable

from aiohttp import ClientError
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EofStream
from multidict import CIMultiDictProxy

from valetkey.gateway.connections import (
    MAX_FIELD_BYTES,
    READ_CHUNK,
    Body,
    Connection,
    ConnectionPool,
    UpstreamAnswer,
    UpstreamFailed,
)
from valetkey.services.dialling import OwnListeners
from valetkey.services.origin import Origin
from valetkey.services.service import Service

__all__ = ["Upstream", "UpstreamAnswer", "UpstreamFailed"]

MAX_STATUS = 999
"""Statuses have three digits (RFC 9110, section 15); the listener ends the process for any other."""
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_WITH_BODY = frozenset(("POST", "PUT", "PATCH"))


class Upstream:
    """One service's upstream."""

    def __init__(self, service: Service, own: OwnListeners, *, connect_timeout: float) -> None:
        self._pool = ConnectionPool(service, own, connect_timeout=connect_timeout)

    async def send(
        self,
        method: str,
        origin: Origin,
        target: bytes,
        headers: Iterable[tuple[str, str]],
        body: Body = None,
        length: int | None = 0,
    ) -> UpstreamAnswer:
        """Send one call once and return when the answer's head is there. Raises `UpstreamFailed`.

        `target` is the judged path and query without the origin's prefix; `length` the bytes of the body, None
        for one that is sent in chunks. Errors of libraries are dropped: they may carry what was sent.
        """
        head = _head(method, origin, target, headers, length)
        connection = await self._pool.take(origin)
        failure: UpstreamFailed
        try:
            return await self._exchange(connection, method, head, body, chunked=length is None)
        except (ClientError, HttpProcessingError, EofStream, OSError) as error:
            failure = UpstreamFailed(type(error).__name__, sent=True)
            connection.abort()
        except BaseException:
            connection.abort()
            raise
        raise failure

    async def _exchange(
        self, connection: Connection, method: str, head: bytes, body: Body, *, chunked: bool
    ) -> UpstreamAnswer:
        protocol = connection.protocol
        protocol.set_response_params(
            skip_payload=method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            read_bufsize=READ_CHUNK,
            max_line_size=MAX_FIELD_BYTES,
            max_field_size=MAX_FIELD_BYTES,
        )
        if protocol.transport is None:
            raise UpstreamFailed("the connection closed", sent=False)
        if body is None or isinstance(body, bytes):
            protocol.transport.write(head + body if body else head)
        else:
            protocol.transport.write(head)
            connection.send(body, chunked=chunked)
        while True:
            message, content = await protocol.read()
            if message.code == 101:
                raise UpstreamFailed("it changed the protocol", sent=True)
            if message.code >= 200:
                break
            if message.code < 100:
                raise UpstreamFailed("its status is none", sent=True)
        if message.code > MAX_STATUS or not framing_is_plain(message.headers, message.raw_headers):
            raise UpstreamFailed("its answer cannot be read in one way only", sent=True)
        content.on_eof(connection.ended)
        return UpstreamAnswer(connection, message, content)

    def close(self) -> None:
        """Close all connections, those in use when their call ends."""
        self._pool.close()


def framing_is_plain(headers: CIMultiDictProxy[str], raw: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether body and headers can be read in one way: chunked or not, one coding, no control characters."""
    transfer = headers.get("Transfer-Encoding")
    if transfer is not None and transfer.strip().lower() != "chunked":
        return False
    for name in ("Content-Encoding", "Transfer-Encoding"):
        if name in headers and len(headers.getall(name)) > 1:
            return False
    return _CONTROL.search(b"".join([value for _, value in raw])) is None


def _head(
    method: str, origin: Origin, target: bytes, headers: Iterable[tuple[str, str]], length: int | None
) -> bytes:
    """Request line and headers. Raises `UpstreamFailed` for a header that would be two."""
    lines = [f"{name}: {value}\r\n" for name, value in headers]
    lines.append(f"host: {origin.authority}\r\n")
    if length is None:
        lines.append("transfer-encoding: chunked\r\n")
    elif length or method in _WITH_BODY:
        lines.append(f"content-length: {length}\r\n")
    fields = "".join(lines)
    if fields.count("\n") != len(lines) or fields.count("\r") != len(lines):
        raise UpstreamFailed("a header holds a line break", sent=False)
    return b"%b %b%b HTTP/1.1\r\n%b\r\n" % (method.encode(), origin.prefix.encode(), target, fields.encode())
