"""An upstream of event streams: each event says when it was made, so that a caller can tell late ones. A process."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import cast

import uvloop

EVERY = 0.005
"""Seconds between two events."""
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Ticker(asyncio.Protocol):
    """One connection: whatever is asked, a stream without an end."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._next: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._next is None and self._transport is not None and b"\r\n\r\n" in data:
            self._transport.write(_HEAD)
            self._tick()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._next is not None:
            self._next.cancel()
        self._transport = None

    def _tick(self) -> None:
        if self._transport is not None:
            event = b"data: %.6f\n\n" % time.time()
            self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))
            self._next = asyncio.get_running_loop().call_later(EVERY, self._tick)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Ticker, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
