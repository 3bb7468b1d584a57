"""Answers on their way out of a connection in HTTP/2: as far as the caller's windows and its transport let them."""

from __future__ import annotations

import asyncio
from typing import Protocol

from valetkey.wire.bounds import STALL_MS
from valetkey.wire.http2_floods import MAX_FRAME_BYTES, FrameMeter
from valetkey.wire.http2_frames import Frames
from valetkey.wire.http2_request import Http2Request


class Outlet(Protocol):
    """The connection."""

    paused: bool
    """Whether its transport takes no more for now."""

    def flush(self) -> None: ...

    def ended(self, request: Http2Request) -> None: ...


class Sending:
    """The answers of one connection that have bytes waiting."""

    __slots__ = ("_frames", "_loop", "_meter", "_outlet", "_waiting")

    def __init__(self, frames: Frames, meter: FrameMeter, outlet: Outlet) -> None:
        self._frames = frames
        self._meter = meter
        self._outlet = outlet
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, Http2Request] = {}

    def pump(self, request: Http2Request) -> None:
        """Send what waits of one answer, as far as it goes."""
        if not request.unsent and not request.ending:
            return
        if request.stream not in self._waiting:
            self._waiting[request.stream] = request
            request.moved = self._loop.time()
        while not self._outlet.paused and self._send(request):
            pass

    def pump_all(self) -> None:
        """The same of all, a frame of each in turn."""
        waiting = list(self._waiting.values())
        while waiting:
            waiting = [request for request in waiting if not self._outlet.paused and self._send(request)]

    def drop(self, stream: int) -> None:
        """Nothing waits there any more."""
        self._waiting.pop(stream, None)

    def release(self) -> None:
        """The connection has ended: nothing is sent any more."""
        self._waiting.clear()
        del self._outlet

    def stalled(self, now: float) -> list[Http2Request]:
        """Answers that the caller takes nothing of."""
        return [request for request in self._waiting.values() if request.moved + STALL_MS / 1000 < now]

    def _send(self, request: Http2Request) -> bool:
        """Send a frame; whether another could follow."""
        stream = request.stream
        if stream not in self._waiting:
            return False
        piece = b""
        cut_short = False
        if request.unsent:
            most = min(self._frames.local_flow_control_window(stream), MAX_FRAME_BYTES)
            if most <= 0:
                return False
            piece = request.next_out(most)
            cut_short = len(piece) == most < MAX_FRAME_BYTES
        last = request.ending and not request.unsent
        self._frames.send_data(stream, piece, end_stream=last)
        self._meter.sent(len(piece), cut_short=cut_short)
        self._outlet.flush()
        request.moved = self._loop.time()
        if request.unsent:
            return True
        self.drop(stream)
        if last:
            request.ending = False
            self._outlet.ended(request)
        return False
