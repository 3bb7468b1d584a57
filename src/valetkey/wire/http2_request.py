"""A request in HTTP/2, and its answer: one stream of a connection that carries many (RFC 9113)."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from valetkey.wire.bounds import WAITING_BYTES
from valetkey.wire.http2_head import Head
from valetkey.wire.request import BODYLESS, Fault, HeaderPairs, Request

_NOWHERE = Head("", b"", b"", [], None, False)
"""Of a request that could not be read."""


class Carrier(Protocol):
    """The connection under it."""

    peer: str
    """The caller's address as text."""

    @property
    def local(self) -> tuple[str, int] | None:
        """Address and port of ours that the caller reached, None where nobody knows."""

    @property
    def date(self) -> bytes:
        """The Date header of now, as a line of HTTP/1.1."""

    def send_head(self, request: Http2Request, fields: HeaderPairs, *, last: bool) -> None: ...

    def pump(self, request: Http2Request) -> None: ...

    def credit(self, request: Http2Request, size: int) -> None: ...

    def ended(self, request: Http2Request) -> None: ...

    def cut(self, request: Http2Request) -> None: ...


class Http2Request(Request):
    """One stream."""

    __slots__ = (
        "_at", "_carrier", "_left", "_pieces_out", "_room",
        "ending", "moved", "stream", "uncredited", "unsent",
    )  # fmt: skip

    def __init__(self, carrier: Carrier, stream: int, head: Head | None, fault: Fault | None) -> None:
        """`head` is None where `fault` says why it could not be read."""
        head = head or _NOWHERE
        super().__init__(
            carrier.peer,
            head.method,
            head.raw_path,
            head.query,
            head.headers,
            head.length,
            head.expects,
            fault,
        )
        self._carrier = carrier
        self.stream = stream
        self._left: int | None = None
        """Bytes that the answer still owes, None where nobody said how many."""
        self._pieces_out: deque[bytes] = deque()
        self._at = 0
        """So much of the first piece has gone out."""
        self._room: asyncio.Future[None] | None = None
        self.unsent = 0
        """Bytes of the answer that wait for the caller's windows, or for their turn."""
        self.ending = False
        """Whether nothing follows behind what waits."""
        self.moved = 0.0
        """When something of the answer last went out, or began to wait (the loop's time)."""
        self.uncredited = 0
        """Bytes that came and whose room in the windows was not given back."""

    @property
    def local(self) -> tuple[str, int] | None:
        return self._carrier.local

    def start(self, status: int, headers: HeaderPairs, length: int | None, body: bytes = b"") -> None:
        if self.started or self.answered:
            return self.abort()  # a second answer would be read as this one's, one to nobody is none
        fields = [(b":status", b"%d" % status)]
        date = self._carrier.date
        for name, value in headers:
            if b"\n" in name or b"\r" in name or b"\n" in value or b"\r" in value or b"\0" in value:
                raise ValueError("a header holds a line break")
            fields.append((name.lower(), value.strip(b" \t")))
            if name == b"date":
                date = b""
        if date:
            fields.append((b"date", date.partition(b": ")[2]))
        if length is not None and status not in BODYLESS:
            fields.append((b"content-length", b"%d" % length))
        bodyless = status in BODYLESS or self.method == "HEAD"
        self._left = 0 if bodyless else length
        self.started = True
        last = bodyless or length == 0
        self._carrier.send_head(self, fields, last=last)
        if last:
            self._end()
        elif body:
            self.end(body) if len(body) == length else self.write(body)

    def write(self, piece: bytes) -> None:
        if self._add_out(piece):
            self._carrier.pump(self)

    def _add_out(self, piece: bytes) -> bool:
        """Whether there is something to send now."""
        if not piece or self.answered:
            return False
        if self._left is not None:
            if len(piece) > self._left:
                self.abort()
                return False
            self._left -= len(piece)
        self._pieces_out.append(piece)
        self.unsent += len(piece)
        return True

    @property
    def blocked(self) -> bool:
        return self.unsent >= WAITING_BYTES

    async def drain(self) -> None:
        while self.blocked:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def end(self, piece: bytes = b"") -> None:
        if self.answered:
            return
        self._add_out(piece)
        if self._left:
            return self.abort()
        if not self.answered:
            self.ending = True
            self._carrier.pump(self)
            self._end()

    def abort(self) -> None:
        self._carrier.cut(self)

    def _end(self) -> None:
        self.answered = True
        self._watcher = None
        self._drop()
        self._carrier.ended(self)

    def _say_continue(self) -> None:
        self._carrier.send_head(self, [(b":status", b"100")], last=False)

    def _was_read(self, piece: bytes, *, room: bool) -> None:
        self._carrier.credit(self, len(piece))

    # -- told by the connection

    def next_out(self, most: int) -> bytes:
        """At most so many of the bytes that wait, which wait no longer."""
        first = self._pieces_out[0]
        piece = first[self._at : self._at + most] if self._at or len(first) > most else first
        self._at += len(piece)
        if self._at == len(first):
            self._pieces_out.popleft()
            self._at = 0
        self.unsent -= len(piece)
        self._make_room()
        return piece

    def drop_out(self) -> None:
        """Nothing more of the answer goes out, nor is any taken."""
        self.answered = True
        self._pieces_out.clear()
        self._at = self.unsent = 0
        self.ending = False
        self._make_room()

    def _make_room(self) -> None:
        if self._room is not None and not self._room.done() and not self.blocked:
            self._room.set_result(None)
