"""An upstream of event streams: each event says when it was made, so that a caller can tell late ones. A process."""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from typing import cast

import uvloop

EVERY = 0.005
"""Seconds between two events, unless it is said otherwise."""
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Ticker(asyncio.Protocol):
    """One connection: whatever is asked, a stream without an end."""

    def __init__(self, every: float) -> None:
        self._every = every
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
            self._next = asyncio.get_running_loop().call_later(self._every, self._tick)


async def _serve(port: int, every: float = EVERY) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: Ticker(every), "127.0.0.1", port, backlog=4096
    )
    await server.serve_forever()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    uvloop.run(_serve(int(sys.argv[1]), *map(float, sys.argv[2:])))
