"""The only reader of one call's events: hands body pieces on and notices at once when the caller is gone.

Callbacks instead of a task: a bodyless call costs no task of its own. Two readers at once would make the
listener report a living caller as gone (measured), so nothing else may call `receive`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

MAX_WAITING = 4
"""Pieces of a body that may wait for the upstream before the caller is made to wait."""


class BodyTooLarge(Exception):
    """The caller sent more than the service accepts."""


def _nothing(*_: object) -> None:
    """Stands in for whoever need not be told any more."""


class Pump:
    """Reads the events of one call."""

    __slots__ = (
        "_ceiling", "_event", "_gone", "_progress", "_stopped", "_waiter", "_waiting", "complete", "disconnected",
        "receive", "received",
    )  # fmt: skip

    def __init__(
        self,
        receive: Callable[[], Any],
        gone: Callable[[], None],
        progress: Callable[[bool], None],
        ceiling: int,
    ) -> None:
        """`gone` is called when the caller is, `progress(whole)` with each piece of the body."""
        self.receive = receive
        self._gone = gone
        self._progress = progress
        self._ceiling = ceiling
        self._waiting: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._event: Any = None
        self._stopped = False
        self.complete = False
        """Whether the whole body has been received."""
        self.disconnected = False
        self.received = 0

    def start(self) -> None:
        """Begin to read."""
        self._next()

    def _next(self) -> None:
        if self._stopped:
            return
        self._event = self.receive()
        self._event.add_done_callback(self._happened)

    def stop(self) -> None:
        """Read no more: the listener can then close a connection whose body never came whole.

        On a connection that is kept, the event that the caller is gone may not come for hours; without this it
        would hold this call's objects until then.
        """
        self._stopped = True
        event, self._event = self._event, None
        if event is not None:
            event.remove_done_callback(self._happened)
            event.cancel()
        self._gone = self._progress = _nothing

    def _happened(self, future: Any) -> None:
        if self._stopped:
            return
        try:
            event = future.result()
        except BaseException:  # the listener gave the connection up
            event = {"type": "http.disconnect"}
        if event["type"] == "http.disconnect":
            self.disconnected = True
            self._wake()
            self._gone()
            return
        body = event.get("body", b"")
        if body:
            self.received += len(body)
            self._waiting.append(body)
        if not event.get("more_body", False):
            self.complete = True
        self._progress(self.complete)
        self._wake()
        # After the body the next event can only be that the caller is gone.
        if self.complete or len(self._waiting) < MAX_WAITING:
            self._next()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    @property
    def too_large(self) -> bool:
        """Whether more came than the service accepts."""
        return self.received > self._ceiling

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body, piece by piece. Raises `BodyTooLarge`; ends early only by cancellation."""
        while True:
            while self._waiting:
                if self.too_large:
                    raise BodyTooLarge
                full = len(self._waiting) >= MAX_WAITING
                piece = self._waiting.popleft()
                if full and not self.complete:
                    self._next()
                yield piece
            if self.complete:
                return
            if self.disconnected:
                # Never end the body as if it were whole: the handler is being cancelled.
                await asyncio.get_running_loop().create_future()
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    async def whole(self) -> bytes:
        """The whole body at once."""
        return b"".join([piece async for piece in self.pieces()])
