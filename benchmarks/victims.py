"""Callers whose key is about to be revoked: each holds a stream open and calls in a loop, noting times."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import suppress

from benchmarks.processes import BenchmarkFailed

_EVENT = re.compile(rb"data: ([0-9.]+)\n")
REFUSALS_BEFORE_REST = 3
"""A caller that has been refused so often goes on more slowly."""


class Stream:
    """One open event stream."""

    def __init__(self, port: int, path: str, key: str) -> None:
        self._port = port
        self._request = request(path, key)
        self.flowing = asyncio.Event()
        self.events: list[tuple[float, float]] = []
        """When each event was made, and when it arrived (wall clock)."""

    async def open(self) -> None:
        """Ask for it; it is open when its first event is here. Raises `BenchmarkFailed`."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(self._request)
        head = b""
        while b"data: " not in head:
            more = await self._reader.read(65536)
            head += more
            if not more or not head.startswith(b"HTTP/1.1 200"):
                raise BenchmarkFailed(f"The stream was answered {head[:400]!r}.")
        self.flowing.set()

    async def listen(self) -> None:
        """Note events until the stream ends."""
        with suppress(OSError):
            while data := await self._reader.read(65536):
                now = time.time()
                self.events += [(float(made), now) for made in _EVENT.findall(data)]
        self._writer.close()


def request(path: str, key: str) -> bytes:
    """A GET as these callers send it."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        "Accept: text/event-stream\r\n\r\n"
    ).encode()


class Victim:
    """One key's caller."""

    def __init__(self, port: int, service: str, key: str) -> None:
        self._port = port
        self._service = service
        self._key = key
        self.flowing = asyncio.Event()
        self.stopped = asyncio.Event()
        self.events: list[tuple[float, float]] = []
        """When each event was made, and when it arrived (wall clock)."""
        self.accepted: list[float] = []
        """When each call was sent that was answered by the service."""
        self.refused: list[float] = []
        self.stream_ended: float | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Open the stream and begin to call."""
        self._tasks = [asyncio.create_task(self._stream()), asyncio.create_task(self._call())]

    async def stop(self) -> None:
        """Call no more; what is under way is waited for a moment."""
        self.stopped.set()
        _, pending = await asyncio.wait(self._tasks, timeout=2)
        for task in pending:
            task.cancel()

    async def _stream(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(request(f"/{self._service}:stream/v1/events", self._key))
        with suppress(OSError):
            while not self.stopped.is_set():
                data = await reader.read(65536)
                now = time.time()
                if not data:
                    break
                found = _EVENT.findall(data)
                self.events += [(float(made), now) for made in found]
                if len(self.events) >= 2:
                    self.flowing.set()
                elif data.startswith(b"HTTP/1.1") and not data.startswith(b"HTTP/1.1 200"):
                    raise BenchmarkFailed(f"The stream was answered {data[:400]!r}.")
        self.stream_ended = time.time()
        writer.close()

    async def _call(self) -> None:
        asked = request(f"/{self._service}/v1/models", self._key)
        reader = writer = None
        while not self.stopped.is_set():
            sent = time.time()
            try:
                if reader is None or writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                    sent = time.time()
                writer.write(asked)
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
                await reader.readexactly(length)
            except (OSError, asyncio.IncompleteReadError):
                reader = writer = None
                continue
            if head.startswith(b"HTTP/1.1 200"):
                self.accepted.append(sent)
            else:
                self.refused.append(sent)
            await asyncio.sleep(0.002 if len(self.refused) < REFUSALS_BEFORE_REST else 0.02)
        if writer is not None:
            writer.close()
