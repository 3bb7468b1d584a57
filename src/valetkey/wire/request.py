"""One request of a caller, from its head on, and the answer to it (HTTP/1.1, RFC 9112)."""

from __future__ import annotations

import asyncio
from enum import Enum
from http import HTTPStatus
from typing import Protocol

from valetkey.wire.flow import Pieces

HeaderPairs = list[tuple[bytes, bytes]]
WholeAnswer = tuple[int, HeaderPairs, bytes]
"""Status, headers and body."""

MAX_WAITING_BYTES = 262_144
"""So much of a body may wait in memory before its sender is made to wait."""

MAX_DISCARDED = 65_536
"""So much of a body that nobody wants is read and dropped to keep the connection."""


class Fault(Enum):
    """Why a request's head could not be read. Nothing else is known of it then."""

    FORM = "The request is not valid HTTP/1.1, or could be read in two ways."
    TARGET = "The target holds an octet that has to be percent-encoded."
    METHOD = "The method is none that HTTP knows; this port speaks plain HTTP/1.1."
    PLAIN = "This port speaks TLS, and the request came in plain text."
    SIZE = "The request's head, or one field of it, is larger than 32 KB."


_STATUS_LINES = {status.value: b"HTTP/1.1 %d %b" % (status, status.phrase.encode()) for status in HTTPStatus}
_FIELD = b": ".join
_BODYLESS = frozenset((204, 304))


class CallerGone(ConnectionError):
    """The caller's connection ended before the call did."""


class Watcher(Protocol):
    """Who carries a call and has to know what its caller does meanwhile."""

    def caller_gone(self) -> None:
        """The connection has ended; nothing can be said on it any more."""

    def body_came(self, whole: bool) -> None:
        """A piece of the body is here; `whole`: it was the last."""


class Line(Protocol):
    """The connection under a request."""

    peer: str
    """The caller's address as text."""

    @property
    def local(self) -> tuple[str, int] | None:
        """Address and port of ours that the caller reached, None where nobody knows."""

    paused: bool
    """Whether the caller takes no more for now."""

    @property
    def date(self) -> bytes:
        """The Date header of now."""

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...

    def read_on(self) -> None: ...

    def ended(self, request: Request) -> None: ...

    def abort(self) -> None: ...


class Request(Pieces):
    """What was asked, and the only way to answer it."""

    __slots__ = (
        "_chunked", "_continue", "_left", "_line", "_watcher",
        "answered", "complete", "fault", "headers", "keep_alive", "length", "method", "modern", "query", "raw_path",
        "received", "started",
    )  # fmt: skip

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
        """`headers` have lower-case names; `length` is None for a body in chunks; `modern`: HTTP/1.1."""
        super().__init__()
        self.fault = fault
        self._line = line
        self.method = method
        self.raw_path = raw_path
        self.query = query
        self.headers = headers
        self.length = length
        self.keep_alive = keep_alive
        self.modern = modern
        self._continue = expects
        self._watcher: Watcher | None = None
        self.received = 0
        """Bytes of the body so far."""
        self.complete = length == 0
        """Whether the whole body has been received."""
        self.started = False
        """Whether the answer's head has been handed on."""
        self.answered = False
        self._chunked = False
        self._left: int | None = None

    @property
    def peer(self) -> str:
        """The address the connection comes from."""
        return self._line.peer

    @property
    def local(self) -> tuple[str, int] | None:
        """Address and port of ours that the connection goes to, None where nobody knows."""
        return self._line.local

    def joined(self, name: bytes) -> bytes:
        """All values of a header in one, with a comma between them; empty where there is none."""
        found: bytes | None = None
        for field, value in self.headers:
            if field == name:
                found = value if found is None else found + b"," + value
        return found or b""

    def watch(self, watcher: Watcher) -> None:
        """Tell `watcher` from now on what the caller does."""
        self._watcher = watcher

    # -- the body

    async def read(self) -> bytes:
        """The next piece of the body, empty after the last. Raises `CallerGone`; never ends a broken body."""
        while not self._pieces:
            if self.complete:
                return b""
            if self.answered:
                raise CallerGone
            if self._continue:
                self._continue = False
                if not self.started:
                    self._line.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await self._wait()
        was_backlogged = self.backlogged
        piece = self._next()
        if was_backlogged and not self.backlogged:
            self._line.read_on()
        return piece

    async def read_whole(self, most: int, seconds: float) -> bytes | None:
        """The whole body; None when it is longer than `most`, or not here in time. Raises `CallerGone`."""
        pieces: list[bytes] = []
        try:
            async with asyncio.timeout(seconds):
                while self.received <= most:
                    piece = await self.read()
                    if not piece:
                        return b"".join(pieces)
                    pieces.append(piece)
        except TimeoutError:
            pass
        return None

    @property
    def backlogged(self) -> bool:
        """Whether more of the body waits here than should."""
        return self._waiting >= MAX_WAITING_BYTES

    # -- the answer

    def answer(self, answer: WholeAnswer) -> None:
        """Hand a whole answer on."""
        status, headers, body = answer
        self.start(status, headers, len(body), body)

    def start(self, status: int, headers: HeaderPairs, length: int | None, body: bytes = b"") -> None:
        """Hand the head on, with the first bytes. `length` of the whole body, None where nobody knows it.

        Raises ValueError for a header that would be two.
        """
        if self.started or self.answered:
            return self.abort()  # a second answer would be read as the next call's, one to nobody is none
        fields = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status, *map(_FIELD, headers)]
        for name, _ in headers:
            if name == b"date":
                break
        else:
            fields.append(self._line.date)
        if status in _BODYLESS or self.method == "HEAD":
            if length is not None and status not in _BODYLESS:
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
        """Hand a piece of the body on."""
        if not piece or self.answered:
            return
        if self._left is not None:
            if len(piece) > self._left:
                return self.abort()
            self._left -= len(piece)
        self._line.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece)

    @property
    def blocked(self) -> bool:
        """Whether the caller takes no more for now: `drain` before the next piece."""
        return self._line.paused

    async def drain(self) -> None:
        """Wait until the caller takes more."""
        await self._line.drain()

    def end(self, piece: bytes = b"") -> None:
        """Hand the last piece on; a body that is shorter than was said ends visibly broken."""
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
        """Reset the connection with all that waits on it, in this moment."""
        self._line.abort()

    def _end(self) -> None:
        self.answered = True
        self._watcher = None
        self._drop()
        self._line.ended(self)

    # -- told by the connection

    def came(self, piece: bytes) -> None:
        """A piece of the body is here."""
        if self.answered:
            return  # nobody reads it any more
        self.received += len(piece)
        self._add(piece)
        if self._watcher is not None:
            self._watcher.body_came(False)
        self._wake()

    def came_whole(self) -> None:
        """The body is complete."""
        self.complete = True
        if self._watcher is not None:
            self._watcher.body_came(True)
        self._wake()

    def lost(self) -> None:
        """The connection has ended."""
        watcher, self._watcher = self._watcher, None
        self.answered = True
        self._wake()
        if watcher is not None:
            watcher.caller_gone()
