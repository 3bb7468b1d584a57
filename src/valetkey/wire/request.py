"""One request of a caller, from its head on, and the answer to it, whatever version of HTTP it came in."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from enum import Enum
from typing import Protocol

from valetkey.wire.flow import Pieces

HeaderPairs = list[tuple[bytes, bytes]]
WholeAnswer = tuple[int, HeaderPairs, bytes]
"""Status, headers and body."""

MAX_WAITING_BYTES = 262_144
"""So much of a body may wait in memory before its sender is made to wait."""
BODYLESS = frozenset((204, 304))
"""Statuses whose answers have no body."""


class Fault(Enum):
    """Why a request's head could not be read. Nothing else is known of it then."""

    FORM = "The request is not valid HTTP, or could be read in two ways."
    TARGET = "The target holds an octet that has to be percent-encoded."
    METHOD = "The method is none that HTTP knows, or this is TLS at a port that speaks plain text."
    PLAIN = "This port speaks TLS, and the request came in plain text."
    SIZE = "The request's head, or one field of it, is larger than 32 KB."


class CallerGone(ConnectionError):
    """The caller's connection ended before the call did."""


class Watcher(Protocol):
    """Who carries a call and has to know what its caller does meanwhile."""

    def caller_gone(self) -> None:
        """The connection has ended; nothing can be said on it any more."""

    def body_came(self, whole: bool) -> None:
        """A piece of the body is here; `whole`: it was the last."""


class Request(Pieces):
    """What was asked, and the only way to answer it."""

    __slots__ = (
        "_continue", "_watcher",
        "answered", "complete", "fault", "headers", "length", "method", "peer", "query", "raw_path", "received",
        "started",
    )  # fmt: skip

    def __init__(
        self,
        peer: str,
        method: str,
        raw_path: bytes,
        query: bytes,
        headers: HeaderPairs,
        length: int | None,
        expects: bool,
        fault: Fault | None,
    ) -> None:
        """`headers` have lower-case names; `length` is None for a body of unknown length."""
        super().__init__()
        self.peer = peer
        """The address the connection comes from."""
        self.fault = fault
        self.method = method
        self.raw_path = raw_path
        self.query = query
        self.headers = headers
        self.length = length
        self._continue = expects
        self._watcher: Watcher | None = None
        self.received = 0
        """Bytes of the body so far."""
        self.complete = length == 0
        """Whether the whole body has been received."""
        self.started = False
        """Whether the answer's head has been handed on."""
        self.answered = False

    @property
    @abstractmethod
    def local(self) -> tuple[str, int] | None:
        """Address and port of ours that the connection goes to, None where nobody knows."""

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
                    self._say_continue()
            await self._wait()
        was_backlogged = self.backlogged
        piece = self._next()
        self._was_read(piece, room=was_backlogged and not self.backlogged)
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

    @abstractmethod
    def start(self, status: int, headers: HeaderPairs, length: int | None, body: bytes = b"") -> None:
        """Hand the head on, with the first bytes. `length` of the whole body, None where nobody knows it.

        Raises ValueError for a header that would be two.
        """

    @abstractmethod
    def write(self, piece: bytes) -> None:
        """Hand a piece of the body on."""

    @property
    @abstractmethod
    def blocked(self) -> bool:
        """Whether the caller takes no more for now: `drain` before the next piece."""

    @abstractmethod
    async def drain(self) -> None:
        """Wait until the caller takes more."""

    @abstractmethod
    def end(self, piece: bytes = b"") -> None:
        """Hand the last piece on; a body that is shorter than was said ends visibly broken."""

    @abstractmethod
    def abort(self) -> None:
        """End the answer visibly broken, with all that waits to be sent of it, in this moment."""

    @abstractmethod
    def _say_continue(self) -> None:
        """Tell the caller that its body is wanted (RFC 9110, section 10.1.1)."""

    @abstractmethod
    def _was_read(self, piece: bytes, *, room: bool) -> None:
        """`piece` of the body was read; `room`: there is room for more again."""

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
