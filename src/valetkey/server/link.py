"""How control process and workers are joined: frames of MessagePack over a Unix socket."""

from __future__ import annotations

import asyncio
import time
from typing import Generic, TypeVar

import msgspec

LEASE_SECONDS = 2.0
"""A worker that has not heard from the control process for so long refuses every call."""
RENEW_SECONDS = 0.5
"""How often a worker renews its lease."""
MAX_FRAME = 512 * 1024 * 1024
"""A chunk of the snapshot stays far below; anything larger is not from us."""
SNAPSHOT_CHUNK = 5_000
"""Facts in one frame of the snapshot: small enough that neither side stalls on one."""

Message = TypeVar("Message")


def boottime_ns() -> int:
    """Nanoseconds of a clock that runs on while the machine sleeps: leases are counted on it."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Channel(Generic[Message]):
    """One end of a link: sends any message, receives messages of one union of types."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        decoder: msgspec.msgpack.Decoder[Message],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = decoder
        self._encoder = msgspec.msgpack.Encoder()
        self._over = False

    def send(self, message: msgspec.Struct) -> None:
        """Queue a message; it leaves in order. Raises ConnectionError once either side has hung up."""
        if self._over or self._writer.is_closing():
            raise ConnectionError("The other side of the link is gone.")
        body = self._encoder.encode(message)
        self._writer.write(len(body).to_bytes(4, "big") + body)

    async def drain(self) -> None:
        """Wait until the other side keeps up."""
        await self._writer.drain()

    async def receive(self) -> Message | None:
        """The next message, or None when the other side is gone."""
        try:
            size = int.from_bytes(await self._reader.readexactly(4), "big")
            if size <= MAX_FRAME:
                return self._decoder.decode(await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        # A socket whose other end is gone can be written to for a while; nobody would read it.
        self._over = True
        return None

    def close(self) -> None:
        """Hang up. Twice is once."""
        self._over = True
        self._writer.close()
