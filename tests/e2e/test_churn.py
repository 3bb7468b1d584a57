"""Callers of every kind of manners come and go by the thousand: nothing is left over, and the record is whole.

A small version runs with the other tests; the long one (`script/test --long`) has fifty times as many callers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from long_results import Results
from process_tree import resident_bytes
from running_server import RunningServer, ValetKey, eventually
from valetkey.demo.standin import OpenAIStandIn

pytestmark = pytest.mark.real

ENDLESS = json.dumps(
    {"model": "standin-endless", "messages": [{"role": "user", "content": "x"}], "stream": True}
)
WHOLE = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x" * 3000}]})
AT_ONCE = 40
SERVICE = "openai"


@dataclass
class Visit:
    """One caller's connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    key: ValetKey
    draw: random.Random
    reset: bool = False
    seen: Counter[str] = field(default_factory=Counter)

    def send(
        self, method: str, path: str, body: str = "", *, promise: int | None = None, more: str = ""
    ) -> None:
        length = len(body) if promise is None else promise
        head = f"{method} /{SERVICE}{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self.key.value}\r\n"
        framing = f"Content-Type: application/json\r\nContent-Length: {length}\r\n" if length else ""
        self.writer.write((head + framing + more + "\r\n" + body).encode())

    async def answer(self, *, head: bool = False) -> int:
        """Read one whole answer; its status."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(lines.split()[1])
        self.seen[str(status)] += 1
        if "transfer-encoding: chunked" in lines:
            while size := int((await self.reader.readline()).strip(), 16):
                await self.reader.readexactly(size + 2)
            await self.reader.readline()
        elif not head and "content-length: " in lines:
            await self.reader.readexactly(int(lines.split("content-length: ")[1].split("\r\n")[0]))
        return status


Manners = Callable[[Visit], Awaitable[None]]


async def kept(visit: Visit) -> None:
    for _ in range(visit.draw.randrange(1, 5)):
        visit.send("GET", "/v1/models")
        assert await visit.answer() == 200


async def ahead(visit: Visit) -> None:
    for number in range(5):
        visit.send("HEAD" if number == 2 else "GET", "/v1/models")
    for number in range(5):
        assert await visit.answer(head=number == 2) == 200


async def asks(visit: Visit) -> None:
    visit.send("POST", "/v1/chat/completions", WHOLE)
    assert await visit.answer() == 200


async def in_chunks(visit: Visit) -> None:
    visit.send(
        "POST",
        "/v1/chat/completions",
        more="Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n",
    )
    for start in range(0, len(WHOLE), 700):
        piece = WHOLE[start : start + 700]
        visit.writer.write(f"{len(piece):x}\r\n{piece}\r\n".encode())
        await asyncio.sleep(0)
    visit.writer.write(b"0\r\n\r\n")
    assert await visit.answer() == 200


async def leaves_at_once(visit: Visit) -> None:
    visit.send("GET", "/v1/models")


async def leaves_before_the_answer(visit: Visit) -> None:
    visit.send("GET", "/v1/models", more="x-standin-delay: 0.2\r\n")
    await asyncio.sleep(visit.draw.random() * 0.1)


async def leaves_a_stream(visit: Visit) -> None:
    visit.send("POST", "/v1/chat/completions", ENDLESS)
    await visit.reader.readuntil(b"data: ")
    await asyncio.sleep(visit.draw.random() * 0.1)


async def reads_no_stream(visit: Visit) -> None:
    visit.send("GET", f"/v1/files/file-{visit.draw.randrange(8_000_000)}/content")
    await asyncio.sleep(visit.draw.random() * 0.1)


async def breaks_off_its_body(visit: Visit) -> None:
    visit.send("POST", "/v1/chat/completions", "x" * 100, promise=visit.draw.choice([200, 200_000]))
    await asyncio.sleep(visit.draw.random() * 0.05)


async def breaks_its_chunks(visit: Visit) -> None:
    visit.send("POST", "/v1/files", more="Transfer-Encoding: chunked\r\n")
    visit.writer.write(b"5\r\nhello\r\nzz\r\n")
    with contextlib.suppress(ConnectionError):
        await visit.reader.read()


async def talks_nonsense(visit: Visit) -> None:
    visit.writer.write(
        visit.draw.choice([b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nX y\r\n\r\n"])
    )
    with contextlib.suppress(ConnectionError):
        await visit.reader.read()


async def is_refused(visit: Visit) -> None:
    visit.send("GET", "/v1/%2e%2e/models")
    assert await visit.answer() == 400
    visit.send("POST", "/v1/denied", "x" * 2000)
    assert await visit.answer() == 403
    await kept(visit)


MANNERS: list[Manners] = [
    kept, ahead, asks, in_chunks, leaves_at_once, leaves_before_the_answer, leaves_a_stream, reads_no_stream,
    breaks_off_its_body, breaks_its_chunks, talks_nonsense, is_refused,
]  # fmt: skip


@contextlib.asynccontextmanager
async def visit(server: RunningServer, key: ValetKey, draw: random.Random) -> AsyncIterator[Visit]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.gateway_port, limit=1 << 20)
    made = Visit(reader, writer, key, draw)
    try:
        yield made
    finally:
        if draw.random() < 0.3:
            end = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):  # it was closed from the other side
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def churn(server: RunningServer, keys: list[ValetKey], callers: int, seed: int) -> Counter[str]:
    """`callers` callers, `AT_ONCE` at a time; what they saw."""
    draw = random.Random(seed)
    seen: Counter[str] = Counter()
    left = iter(range(callers))

    async def one_after_the_other() -> None:
        for number in left:
            manners = MANNERS[number % len(MANNERS)]
            try:
                async with asyncio.timeout(30), visit(server, draw.choice(keys), draw) as made:
                    await manners(made)
                seen.update(made.seen)
                seen[manners.__name__] += 1
            except Exception as error:
                raise AssertionError(
                    f"seed {seed}, caller {number}, {manners.__name__}: {error!r}"
                ) from error

    await asyncio.gather(*[one_after_the_other() for _ in range(AT_ONCE)])
    return seen


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.parametrize(
    "callers", [600, pytest.param(30_000, marks=[pytest.mark.long, pytest.mark.timeout(1800)])]
)
def test_nothing_is_left_over_of_callers_with_any_manners(
    callers: int, openai_api: OpenAIStandIn, results: Results
) -> None:
    with RunningServer(workers=2) as server:
        server.open_service(openai_api.real_key, SERVICE, preset="openai", base_url=openai_api.url)
        keys = [server.issue(SERVICE, endpoints=["* /**"], deny_endpoints=["* /v1/denied"]) for _ in range(8)]
        asyncio.run(churn(server, keys, 4 * len(MANNERS), seed=0))  # everything has been met once
        workers = server.worker_pids()
        eventually(lambda: openai_api.open_streams == 0, 20)
        files, memory = map(open_files, workers), map(resident_bytes, workers)
        before = dict(zip(workers, zip(files, memory, strict=True), strict=True))
        seen = asyncio.run(churn(server, keys, callers, seed=callers))
        assert seen["200"] > callers // 3 and seen["403"] > callers // 20

        assert server.worker_pids() == workers, "no worker died"
        eventually(lambda: openai_api.open_streams == 0, 20)
        # What is idle upstream is closed after 15 s; each worker keeps at most what was open at once.
        eventually(lambda: all(open_files(pid) <= before[pid][0] + 10 for pid in workers), 40)
        grown = max(resident_bytes(pid) - before[pid][1] for pid in workers)
        assert grown < 30_000_000 + callers * 200, f"{grown:,} bytes"
        for key in keys:
            eventually(lambda key=key: not [e for e in server.events(key, limit=200) if e["end"] is None], 20)  # type: ignore[misc]
        report = server.manage("POST", "/audit/verify")
        assert (report["integrity"], report["problems"]) == ("ok", [])
        results.note(
            f"{callers:,} callers of {len(MANNERS)} manners, 2 workers: every opened call closed, integrity ok, "
            f"no descriptor and no task left, no worker died, memory grown by at most {grown / 1e6:.1f} MB",
        )
