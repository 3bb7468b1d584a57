"""One connection to an upstream: HTTP/1.1 over llhttp, one call at a time, each sent at most once.

No redirects, no repetition, no headers of its own: the bytes it is given are the bytes that leave.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from valetkey.wire.flow import Paced, Pieces
from valetkey.wire.request import HeaderPairs

MAX_HEAD_BYTES = 262_144
"""Status line and headers of an answer together."""
MAX_FIELDS = 512
MAX_FIELD_BYTES = 65_000
"""Name and value of one header; common clients read lines of up to 65,536 bytes."""
MAX_UNPARSED = 262_144
"""Bytes of which the parser may make nothing: a field, a trailer, the extension of a chunk."""
MAX_INTERIM = 32
"""Interim answers (1xx) to one call."""
MAX_STATUS = 999
"""Statuses have three digits (RFC 9110, section 15)."""
MAX_WAITING_BYTES = 65_536
"""Bytes of an answer that may wait in memory before the upstream is made to wait."""

Body: TypeAlias = bytes | AsyncIterator[bytes] | None
_VERSIONS = frozenset(("1.1", "1.0"))
_FRAMING_LENGTHS = frozenset(map(len, ("content-length", "content-encoding", "transfer-encoding")))


class AnswerBroken(ConnectionError):
    """The upstream broke off, or what it says cannot be read in one way only. Says why, never what came."""


class Answer(Pieces):
    """What the upstream says to one call. The connection goes back to its pool when the answer is whole."""

    __slots__ = (
        "_connection", "broken", "coding", "headers", "length", "status", "whole",
    )  # fmt: skip

    def __init__(self, connection: UpstreamConnection) -> None:
        super().__init__()
        self._connection: UpstreamConnection | None = connection
        self.status = 0
        """0 until the head is there."""
        self.headers: HeaderPairs = []
        """As they came, names in the case they came in: a key in a name must be found there."""
        self.length: int | None = None
        """Content-Length, where there is one."""
        self.coding: bytes | None = None
        """Content-Encoding, where there is one."""
        self.whole = False
        self.broken: str | None = None

    async def head(self) -> None:
        """Wait until status and headers are there. Raises `AnswerBroken`."""
        while not self.status:
            if self.broken is not None:
                raise AnswerBroken(self.broken)
            await self._wait()

    async def read(self) -> bytes:
        """The next piece of the body, empty after the last. Raises `AnswerBroken`."""
        while not self._pieces:
            if self.whole:
                return b""
            if self.broken is not None:
                raise AnswerBroken(self.broken)
            await self._wait()
        piece = self._next()
        if self._connection is not None and self._waiting < MAX_WAITING_BYTES:
            self._connection.resume()
        return piece

    def unread(self, piece: bytes) -> None:
        """Put a piece back to the front."""
        if piece:
            self._pieces.appendleft(piece)
            self._waiting += len(piece)

    def close(self) -> None:
        """Hand nothing more on in either direction; what has come is dropped."""
        self._drop()
        if self._connection is not None:
            self._connection.abort()

    # -- told by the connection

    def began(self, status: int, headers: HeaderPairs, length: int | None, coding: bytes | None) -> None:
        """The head is there."""
        self.status, self.headers, self.length, self.coding = status, headers, length, coding
        self._wake()

    def came(self, piece: bytes) -> bool:
        """A piece of the body is there; return whether enough waits."""
        self._add(piece)
        self._wake()
        return self._waiting >= MAX_WAITING_BYTES

    def ended(self, broken: str | None = None) -> None:
        """Nothing more comes."""
        self._connection = None
        self.broken = broken
        self.whole = broken is None
        self._wake()


class UpstreamConnection(Paced):
    """A connection, kept from call to call."""

    __slots__ = (
        "_answer", "_head_bytes", "_headers", "_in_head", "_interim", "_keep", "_moved", "_parser", "_reading",
        "_sending", "_skips_body", "_spoiled", "_transport", "_unparsed", "_until_end", "released",
    )  # fmt: skip

    def __init__(self, released: Callable[[UpstreamConnection], None]) -> None:
        """`released` is told when an answer is whole and the connection is free for another call."""
        super().__init__()
        self.released = released
        self._parser: Any = HttpResponseParser(self)
        # As browsers and other clients read; everything that could move a message's border stays strict.
        self._parser.set_dangerous_leniencies(
            lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._transport: Any = None
        self._answer: Answer | None = None
        self._headers: HeaderPairs = []
        self._head_bytes = 0
        self._in_head = False
        self._interim = 0
        self._moved = False
        self._unparsed = 0
        self._keep = False
        self._skips_body = False
        self._until_end = False
        self._spoiled = False
        self._reading = True
        self._sending: asyncio.Task[None] | None = None

    @property
    def usable(self) -> bool:
        """Whether another call may be sent on it."""
        return self._transport is not None and not self._spoiled and not self._transport.is_closing()

    def ask(self, method: str, head: bytes, body: Body, *, chunked: bool) -> Answer:
        """Send one call. `head` is everything up to the body; `chunked`: frame the body's pieces."""
        answer = self._answer = Answer(self)
        self._interim = 0
        self._skips_body = method == "HEAD"
        if body is None or isinstance(body, bytes):
            self._transport.write(head + body if body else head)
        else:
            self._transport.write(head)
            self._sending = asyncio.get_running_loop().create_task(self._send(body, chunked=chunked))
            # Its failure shows as a broken connection; nobody awaits it.
            self._sending.add_done_callback(lambda task: task.cancelled() or task.exception())
        return answer

    async def _send(self, pieces: AsyncIterator[bytes], *, chunked: bool) -> None:
        """As it comes, no faster than the upstream takes it."""
        try:
            async for piece in pieces:
                if self._spoiled:
                    return
                self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                if self.paused:
                    await self.drain()
            if chunked and not self._spoiled:
                self._transport.write(b"0\r\n\r\n")
        except BaseException:
            # The body cannot be sent whole: the upstream must see it broken, not ended.
            self.abort("the caller's body ended early")
            raise

    def abort(self, why: str = "it was given up") -> None:
        """End it at once, in both directions."""
        self._spoiled = True
        if self._transport is not None:
            self._transport.abort()
        self._end(why)

    def close(self) -> None:
        """End it: no call is open on it."""
        self._spoiled = True
        if self._transport is not None:
            self._transport.close()

    def resume(self) -> None:
        """There is room for more of the answer."""
        if not self._reading and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    def _end(self, broken: str | None) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.ended(broken)
        sending, self._sending = self._sending, None
        if sending is not None and not sending.done():
            # It answered before it had the whole body: what follows on this connection would be that body.
            self._spoiled = True
            sending.cancel()
            if self._transport is not None:
                self._transport.abort()

    # -- the transport's side

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._spoiled = True
        whole = exc is None and self._until_end and self._answer is not None and self._answer.status != 0
        self.resume_writing()
        self._end(None if whole else "it closed the connection")
        self._parser = None

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            # What comes unasked would be read as the answer to the next call.
            return self.abort()
        self._moved = False
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self.abort("it changed the protocol")
        except HttpParserError:
            self.abort("its answer cannot be read in one way only")
        # Fields, trailers and extensions of chunks that are not whole yet wait inside the parser, uncounted.
        self._unparsed = 0 if self._moved else self._unparsed + len(data)
        if self._unparsed > MAX_UNPARSED:
            self.abort("its answer's head is too large")

    # -- the parser's side

    def on_message_begin(self) -> None:
        self._moved = True
        self._headers, self._head_bytes, self._in_head = [], 0, True
        if self._answer is None:
            self._spoiled = True  # a second answer to one call

    def on_header(self, name: bytes, value: bytes) -> None:
        self._moved = True
        size = len(name) + len(value)
        self._head_bytes += size
        if size > MAX_FIELD_BYTES or self._head_bytes > MAX_HEAD_BYTES or len(self._headers) >= MAX_FIELDS:
            raise AnswerBroken("its answer's head is too large")
        if self._in_head:  # trailers are dropped
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        parser, answer = self._parser, self._answer
        self._in_head = False
        status = parser.get_status_code()
        if (
            answer is None
            or status < 100
            or status > MAX_STATUS
            or parser.get_http_version() not in _VERSIONS
        ):
            raise AnswerBroken("its answer is none")
        if status < 200:
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise AnswerBroken("it does not come to an end")
            return  # an interim answer, and another one follows
        length: int | None = None
        coding: bytes | None = None
        chunked = False
        for name, value in self._headers:
            if len(name) not in _FRAMING_LENGTHS:
                continue
            name = name.lower()
            if name == b"content-length":
                length = int(value)
            elif name == b"content-encoding":
                if coding is not None:
                    raise AnswerBroken("it has two codings")
                coding = value
            elif name == b"transfer-encoding":
                if chunked or value.strip().lower() != b"chunked":
                    raise AnswerBroken("its transfer coding is not known")
                chunked = True
        # An upstream that answers HEAD with a body all the same would answer the next call with it.
        self._keep = parser.should_keep_alive() and not self._skips_body
        self._until_end = length is None and not chunked
        answer.began(status, self._headers, length, coding)
        if self._skips_body:
            self._whole()

    def on_body(self, body: bytes) -> None:
        self._moved = True
        answer = self._answer
        if answer is not None and answer.came(body) and self._reading:
            self._reading = False
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self._answer is not None and self._answer.status:
            self._whole()

    def _whole(self) -> None:
        self._end(None)
        if self._keep and not self._spoiled:
            self.resume()
            self.released(self)
        else:
            self.close()
