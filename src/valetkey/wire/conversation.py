"""A caller's connection, whatever version of HTTP it speaks: what came and waits, how it is slowed, how it is reset."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from contextlib import suppress
from typing import Any, Generic, TypeVar

from valetkey import syscalls
from valetkey.wire.bounds import HEAD_SECONDS, MAX_DROPPED, WAITING_BYTES
from valetkey.wire.flow import Paced
from valetkey.wire.listening import Listening
from valetkey.wire.request import Request

Asked = TypeVar("Asked", bound=Request)


class Conversation(Paced, Generic[Asked]):
    """One connection."""

    __slots__ = (
        "_deaf", "_dropped", "_held", "_listener", "_local", "_loop", "_plain", "_queue", "_reading", "_transport",
        "deadline", "peer",
    )  # fmt: skip

    def __init__(self, listener: Listening, *, plain: bool = False) -> None:
        """`plain`: it came without TLS to a port that speaks it, so whatever it asks is refused."""
        super().__init__()
        self._listener = listener
        self._plain = plain
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._queue: deque[Asked] = deque()
        """Requests that nobody has been handed yet."""
        self._reading = True
        self._deaf = False
        self._held = b""
        """What came and is not parsed yet."""
        self._dropped = 0
        self._local: tuple[str, int] | None = None
        self.peer = ""
        self.deadline = self._loop.time() + HEAD_SECONDS
        """When the sweep closes it, in the loop's time: only while no call is open on it."""

    @property
    def date(self) -> bytes:
        """The Date header of now."""
        return self._listener.date

    @property
    def local(self) -> tuple[str, int] | None:
        """Address and port of ours that the caller reached."""
        if self._local is None and self._transport is not None:
            name = self._transport.get_extra_info("sockname")
            self._local = name[:2] if isinstance(name, tuple) else None
        return self._local

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(high=WAITING_BYTES)
        peer = transport.get_extra_info("peername")
        self._listener.enter(self)
        if isinstance(peer, tuple):
            self.peer = peer[0]
        else:
            self.abort()  # it was gone before it was accepted, so nobody knows who it was

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            self._dropped += len(data)
            if self._dropped > MAX_DROPPED:
                self.abort()
            return
        self._held = self._held + data if self._held else data
        self._go_on()

    @abstractmethod
    def _go_on(self) -> None:
        """Hand requests over and read on, as far as this turn of the loop goes."""

    def _take_more(self, wanted: bool) -> None:
        """Take more from the kernel, or leave it there. A caller that leaves is noticed while we take more."""
        if wanted != self._reading and self._transport is not None and not self._transport.is_closing():
            self._reading = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def abort(self) -> None:
        """Reset the connection in this moment, with what waits in its buffers.

        Closing would let what the kernel has accepted, up to some MB, reach a caller that reads later, even
        after the process is dead (measured, docs/results/cutting.md).
        """
        self._deaf = True
        self._held = b""
        self._queue.clear()
        transport = self._transport
        if transport is None:
            return
        with suppress(OSError, AttributeError):  # it is closed already
            syscalls.reset(transport.get_extra_info("socket").fileno())
        transport.abort()

    @abstractmethod
    def let_go(self) -> None:
        """Take nothing new; end when what is open has ended."""

    @abstractmethod
    def close_if_idle(self, now: float) -> None:
        """End what has waited too long, in the loop's time."""
