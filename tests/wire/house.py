"""A listener that keeps what it was asked, and callers that knock at it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any
from unittest import mock

import uvloop

from valetkey.wire import bounds, conversation, entrance, http1, http2, http2_request, http2_sending
from valetkey.wire import listener as listening
from valetkey.wire.listener import Listener
from valetkey.wire.request import Fault, Request

Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_knocked: list[asyncio.StreamWriter] = []


class House:
    """A listener that keeps what it was asked and answers with `then`; heads with a fault are told which."""

    def __init__(self, then: Callable[[Request], Any] | None = None) -> None:
        self.asked: list[Request] = []
        self.faults: list[Fault] = []
        self.errors: list[BaseException] = []
        self._then = then or (lambda request: request.answer((200, [], b"hi")))
        self._tasks: list[asyncio.Task[Any]] = []

    def handle(self, request: Request) -> None:
        if request.fault is not None:
            self.faults.append(request.fault)
            return request.answer((400, [], request.fault.value.encode()))
        self.asked.append(request)
        after = self._then(request)
        if asyncio.iscoroutine(after):
            task = asyncio.get_running_loop().create_task(after)
            # A caller that is gone ends its handler, as it should.
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            self._tasks.append(task)


@asynccontextmanager
async def open_house(house: House, tls: ssl.SSLContext | None = None) -> Any:
    listener = Listener(house.handle, address="127.0.0.1", port=0, note=house.errors.append, tls=tls)
    await listener.start()
    try:
        yield listener
    finally:
        await listener.stop(0)
        while _knocked:
            _knocked.pop().close()
        await asyncio.sleep(0)


def run(house: House, visit: Callable[[Listener], Awaitable[Any]], tls: ssl.SSLContext | None = None) -> Any:
    async def main() -> Any:
        async with asyncio.timeout(20), open_house(house, tls) as listener:
            return await visit(listener)

    return uvloop.run(main())


async def knock(listener: Listener, tls: ssl.SSLContext | None = None) -> Peer:
    """A connection; with `tls` one that trusts what that trusts, and is for ``localhost``."""
    named = None if tls is None else "localhost"
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=tls, server_hostname=named)
    _knocked.append(writer)
    return reader, writer


async def all_of(reader: asyncio.StreamReader) -> bytes:
    """Everything until the end, and RESET where it ended in one."""
    taken = []
    try:
        while piece := await reader.read(65536):
            taken.append(piece)
    except ConnectionResetError:
        taken.append(b"RESET")
    return b"".join(taken)


async def send_cut(writer: asyncio.StreamWriter, octets: bytes, size: int) -> None:
    """Send in pieces of `size`, each on its way before the next."""
    for at in range(0, len(octets), size):
        writer.write(octets[at : at + size])
        await writer.drain()


def said(octets: bytes, house: House | None = None) -> bytes:
    """What is answered to these octets, when nothing more is sent."""

    async def visit(listener: Listener) -> bytes:
        reader, writer = await knock(listener)
        writer.write(octets)
        return await all_of(reader)

    with patched(KEEPALIVE_SECONDS=0.0, HEAD_SECONDS=0.3, SWEEP_SECONDS=0.05):
        return run(house or House(), visit)  # type: ignore[no-any-return]


@contextmanager
def patched(**values: float) -> Iterator[None]:
    """Other bounds than the real ones, wherever they are used."""
    with ExitStack() as stack:
        for module in (bounds, conversation, entrance, http1, http2, http2_request, http2_sending, listening):
            here = {name: value for name, value in values.items() if hasattr(module, name)}
            if here:
                stack.enter_context(mock.patch.multiple(module, **here))
        yield
