"""What both sides share: bytes that came and wait to be read, and a transport that takes no more for a while."""

from __future__ import annotations

import asyncio
from collections import deque


class Pieces:
    """Bytes of a body that came and wait for their one reader."""

    __slots__ = ("_pieces", "_waiter", "_waiting")

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._waiting = 0
        self._waiter: asyncio.Future[None] | None = None

    def taken(self) -> bytes:
        """All that is here and was not read yet."""
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._drop()
        return body

    def _drop(self) -> None:
        self._pieces.clear()
        self._waiting = 0

    def _add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._waiting += len(piece)

    def _next(self) -> bytes:
        piece = self._pieces.popleft()
        self._waiting -= len(piece)
        return piece

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Paced(asyncio.Protocol):
    """A connection whose writer waits while the other side takes no more."""

    __slots__ = ("_writable", "paused")

    def __init__(self) -> None:
        self.paused = False
        self._writable: asyncio.Future[None] | None = None

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    async def drain(self) -> None:
        """Wait until the other side takes more."""
        while self.paused:
            if self._writable is None or self._writable.done():
                self._writable = asyncio.get_running_loop().create_future()
            await self._writable
