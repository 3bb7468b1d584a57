"""The link between control process and workers: who is gone is told from who is slow."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
import uvloop

from valetkey.gateway.facts import Lease, Renew, ToWorker
from valetkey.server.link import Channel


async def joined(path: Path) -> tuple[Channel[ToWorker], Channel[ToWorker]]:
    """Both ends of a link."""
    ours: asyncio.Future[Channel[ToWorker]] = asyncio.get_running_loop().create_future()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ours.set_result(Channel(reader, writer, msgspec.msgpack.Decoder(ToWorker)))

    await asyncio.start_unix_server(accept, path)
    reader, writer = await asyncio.open_unix_connection(path)
    return await ours, Channel(reader, writer, msgspec.msgpack.Decoder(ToWorker))


def test_nothing_can_be_sent_to_a_side_that_has_hung_up(tmp_path: Path) -> None:
    async def run() -> None:
        here, there = await joined(tmp_path / "s")
        here.send(Lease(5))
        assert await there.receive() == Lease(5)
        here.close()
        assert await there.receive() is None
        for channel in (here, there):
            with pytest.raises(ConnectionError):
                channel.send(Renew(1))
            channel.close()

    uvloop.run(run())


def test_a_side_that_hung_up_with_much_unread_is_an_end_and_no_error(tmp_path: Path) -> None:
    async def run() -> None:
        here, there = await joined(tmp_path / "s")
        for number in range(100_000):
            here.send(Lease(number))
        there.close()

        async def send_on() -> None:
            while True:
                here.send(Lease(0))
                await asyncio.sleep(0)

        with pytest.raises(ConnectionError):
            await send_on()

    uvloop.run(run())
