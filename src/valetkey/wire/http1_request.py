"""A request in HTTP/1.1, and its answer written as that asks (RFC 9112)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Protocol

from valetkey.wire.request import BODYLESS, Fault, HeaderPairs, Request

MAX_DISCARDED = 65_536
"""So much of a body that nobody wants is read and dropped to keep the connection."""

_STATUS_LINES = {status.value: b"HTTP/1.1 %d %b" % (status, status.phrase.encode()) for status in HTTPStatus}
_FIELD = b": ".join


class Line(Protocol):
    """The connection under a request."""

    peer: str
    """The caller's address as text."""
    paused: bool
    """Whether the caller takes no more for now."""

    @property
    def local(self) -> tuple[str, int] | None:
        """Address and port of ours that the caller reached, None where nobody knows."""

    @property
    def date(self) -> bytes:
        """The Date header of now."""

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...

    def read_on(self) -> None: ...

    def ended(self, request: Http1Request) -> None: ...

    def abort(self) -> None: ...


class Http1Request(Request):
    """One request of a connection that carries one at a time."""

    __slots__ = ("_chunked", "_left", "_line", "keep_alive", "modern")

    def __init__(
        self,
        line: Line,
        method: str,
        raw_path: bytes,
        query: bytes,
        headers: HeaderPairs,
        *,
        length: int | None = 0,
        keep_alive: bool = True,
        modern: bool = True,
        expects: bool = False,
        fault: Fault | None = None,
    ) -> None:
        """`length` is None for a body in chunks; `modern`: HTTP/1.1, not 1.0."""
        super().__init__(line.peer, method, raw_path, query, headers, length, expects, fault)
        self._line = line
        self.keep_alive = keep_alive
        self.modern = modern
        self._chunked = False
        self._left: int | None = None

    @property
    def local(self) -> tuple[str, int] | None:
        return self._line.local

    def start(self, status: int, headers: HeaderPairs, length: int | None, body: bytes = b"") -> None:
        if self.started or self.answered:
            return self.abort()  # a second answer would be read as the next call's, one to nobody is none
        fields = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status, *map(_FIELD, headers)]
        for name, _ in headers:
            if name == b"date":
                break
        else:
            fields.append(self._line.date)
        if status in BODYLESS or self.method == "HEAD":
            if length is not None and status not in BODYLESS:
                fields.append(b"content-length: %d" % length)
            self._left = 0
            body = b""
        elif length is not None:
            fields.append(b"content-length: %d" % length)
            self._left = length
        elif self.modern:
            fields.append(b"transfer-encoding: chunked")
            self._chunked = True
        else:
            self.keep_alive = False
        if not self.complete and (
            self._continue or self.length is None or self.length - self.received > MAX_DISCARDED
        ):
            # Cheaper than to read on until the next request; and a caller that was not told to go on may
            # send that in place of its body.
            self.keep_alive = False
        if not self.keep_alive:
            fields.append(b"connection: close")
        elif not self.modern:
            fields.append(b"connection: keep-alive")
        fields.append(b"\r\n")
        head = b"\r\n".join(fields)
        if head.count(b"\n") != len(fields) or head.count(b"\r") != len(fields):
            raise ValueError("a header holds a line break")
        self.started = True
        if self._left is not None and len(body) >= self._left:
            self._line.write(head + body if body else head)
            self._left = 0
            self._end()
        else:
            self._line.write(head)
            if body:
                self.write(body)

    def write(self, piece: bytes) -> None:
        if not piece or self.answered:
            return
        if self._left is not None:
            if len(piece) > self._left:
                return self.abort()
            self._left -= len(piece)
        self._line.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece)

    @property
    def blocked(self) -> bool:
        return self._line.paused

    async def drain(self) -> None:
        await self._line.drain()

    def end(self, piece: bytes = b"") -> None:
        if self.answered:
            return
        if self._chunked:
            last = b"%x\r\n%b\r\n0\r\n\r\n" % (len(piece), piece) if piece else b"0\r\n\r\n"
            self._line.write(last)
        else:
            self.write(piece)
            if self._left:
                return self.abort()
        self._end()

    def abort(self) -> None:
        self._line.abort()

    def _end(self) -> None:
        self.answered = True
        self._watcher = None
        self._drop()
        self._line.ended(self)

    def _say_continue(self) -> None:
        self._line.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _was_read(self, piece: bytes, *, room: bool) -> None:
        if room:
            self._line.read_on()
