"""Callers with bad manners, many at once, each for a bounded time: slow, silent, greedy, endless."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

Manner = Callable[["Crowd", int], Awaitable[None]]


@dataclass
class Crowd:
    """Everything that bad callers have in common."""

    port: int
    service: str
    key: str
    """Of somebody who may call: for those who misuse a right that they have."""
    until: float
    """When they go home (seconds of the monotonic clock)."""
    longest: dict[str, float] = field(default_factory=dict)
    """For how long the server bore with a connection, at most, by manner."""
    seen: Counter[str] = field(default_factory=Counter)

    async def visit(self, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        source = (f"127.{20 + number % 100}.{number // 100 % 250}.7", 0)
        return await asyncio.open_connection("127.0.0.1", self.port, local_addr=source)

    def head(self, *more: str, line: str = "GET /SERVICE/a HTTP/1.1", key: str = "vk_prv_nobody") -> bytes:
        lines = [
            line.replace("SERVICE", self.service),
            "Host: 127.0.0.1",
            f"Authorization: Bearer {key}",
            *more,
        ]
        return "\r\n".join([*lines, "", ""]).encode()


async def drip(crowd: Crowd, number: int, name: str, begin: bytes, drop: bytes, pause: float) -> None:
    """Say `begin`, then `drop` over and over, until the server hangs up; then come again."""
    while time.monotonic() < crowd.until:
        reader, writer = await crowd.visit(number)
        came = time.monotonic()
        writer.write(begin)
        with suppress(ConnectionError):
            ended = asyncio.create_task(reader.read(-1))
            while not ended.done() and time.monotonic() < crowd.until + 20:
                writer.write(drop)
                await asyncio.wait((ended,), timeout=pause)
            ended.cancel()
        crowd.longest[name] = max(crowd.longest.get(name, 0.0), time.monotonic() - came)
        crowd.seen[name] += 1
        writer.close()
        await asyncio.sleep(pause)


async def silent(crowd: Crowd, number: int) -> None:
    await drip(crowd, number, "silent", b"", b"", 1.0)


async def slow_head(crowd: Crowd, number: int) -> None:
    await drip(crowd, number, "slow head", b"GET / HTTP/1.1\r\nX: ", b"x", 0.5)


async def slow_fields(crowd: Crowd, number: int) -> None:
    await drip(crowd, number, "slow fields", b"GET / HTTP/1.1\r\n", b"X: y\r\n", 0.7)


async def slow_lines(crowd: Crowd, number: int) -> None:
    await drip(crowd, number, "slow empty lines", b"", b"\r\n", 0.7)


async def slow_second(crowd: Crowd, number: int) -> None:
    """A whole request first, so that the connection counts as one that is kept."""
    await drip(crowd, number, "slow second head", crowd.head() + b"GET /", b"x", 0.5)


async def slow_body(crowd: Crowd, number: int) -> None:
    begin = crowd.head("Content-Length: 100000", line="POST /SERVICE/a HTTP/1.1", key=crowd.key)
    await drip(crowd, number, "slow body", begin, b"x", 0.5)


async def slow_chunks(crowd: Crowd, number: int) -> None:
    begin = crowd.head("Transfer-Encoding: chunked", line="POST /SERVICE/a HTTP/1.1", key=crowd.key)
    await drip(crowd, number, "slow chunks", begin, b"1\r\nx\r\n", 0.5)


async def slow_refused(crowd: Crowd, number: int) -> None:
    begin = crowd.head("Content-Length: 900000", line="POST /SERVICE/a HTTP/1.1")
    await drip(crowd, number, "slow body of a refused call", begin, b"x", 0.5)


async def comes_and_goes(crowd: Crowd, number: int) -> None:
    while time.monotonic() < crowd.until:
        for _ in range(10):
            _, writer = await crowd.visit(number)
            end = writer.get_extra_info("socket")
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.close()
            crowd.seen["connections"] += 1
        await asyncio.sleep(0.02)


async def asks(crowd: Crowd, number: int, name: str, ask: Callable[[], bytes], pause: float) -> None:
    """One request after the other on kept connections, answered or not."""
    while time.monotonic() < crowd.until:
        reader, writer = await crowd.visit(number)
        with suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            while time.monotonic() < crowd.until:
                writer.write(ask())
                async with asyncio.timeout(20):
                    said = await reader.readuntil(b"\r\n\r\n")
                    length = said.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                    await reader.readexactly(int(length or 0))
                crowd.seen[name] += 1
                await asyncio.sleep(pause)
        writer.close()


async def unknown_keys(crowd: Crowd, number: int) -> None:
    draw = random.Random(number)
    await asks(
        crowd, number, "unknown key", lambda: crowd.head(key=f"vk_prv_{draw.getrandbits(200):x}"), 0.005
    )


async def no_form(crowd: Crowd, number: int) -> None:
    await asks(crowd, number, "no form", lambda: b"GET /\x01 HTTP/9\r\n\r\n", 0.01)


async def header_flood(crowd: Crowd, number: int) -> None:
    await asks(
        crowd, number, "header flood", lambda: crowd.head(*(f"X-{n}: {'y' * 200}" for n in range(300))), 0.02
    )


async def far_ahead(crowd: Crowd, number: int) -> None:
    """Thousands of requests at once, of which no answer is read."""
    while time.monotonic() < crowd.until:
        _, writer = await crowd.visit(number)
        writer.write(crowd.head() * 5000)
        crowd.seen["far ahead"] += 1
        await asyncio.sleep(2)
        writer.close()


async def endless(crowd: Crowd, number: int) -> None:
    """A body without end, of somebody who may not call."""
    while time.monotonic() < crowd.until:
        _, writer = await crowd.visit(number)
        writer.write(crowd.head("Transfer-Encoding: chunked", line="POST /SERVICE/a HTTP/1.1"))
        with suppress(ConnectionError):
            for _ in range(200):
                writer.write(b"4000\r\n" + b"x" * 16384 + b"\r\n")
                await writer.drain()
        crowd.seen["endless body"] += 1
        writer.close()
        await asyncio.sleep(0.1)


PATIENT: tuple[Manner, ...] = (
    silent, slow_head, slow_fields, slow_lines, slow_second, slow_body, slow_chunks, slow_refused
)  # fmt: skip
BUSY: tuple[Manner, ...] = (comes_and_goes, unknown_keys, no_form, header_flood, far_ahead, endless)


async def crowd_in(crowd: Crowd, patient: int, busy: int) -> None:
    """So many callers of each manner, until they go home."""
    numbers = iter(range(1_000_000))
    tasks = [manner(crowd, next(numbers)) for manner in PATIENT for _ in range(patient)]
    tasks += [manner(crowd, next(numbers)) for manner in BUSY for _ in range(busy)]
    await asyncio.gather(*tasks)
