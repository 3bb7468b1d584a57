"""What the supervisor hears of a control process that dies at any instant."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from valetkey.server import supervisor as supervising
from valetkey.server.home import Home
from valetkey.server.supervisor import Supervisor
from valetkey.settings import Settings


@pytest.mark.parametrize("end", ["in the middle of a line", "by a reset"])
def test_the_end_of_a_control_process_ends_the_hearing_and_nothing_else(tmp_path: Path, end: str) -> None:
    async def hear() -> dict[str, int]:
        supervisor = Supervisor(Home(tmp_path), Settings())
        reader = asyncio.StreamReader()
        reader.feed_data(b'{"ready": true, "ports": {"control": 1}}\n')
        if end == "by a reset":
            reader.feed_data(b'{"serving": 0}\n')
            asyncio.get_running_loop().call_soon(reader.set_exception, ConnectionResetError())
        else:
            reader.feed_data(b'{"fence": 0, "gen')
            reader.feed_eof()
        assert await supervisor._listen(reader)
        return supervisor.ports

    assert asyncio.run(hear()) == {"control": 1}


@pytest.mark.parametrize(("said", "alive"), [("", True), ('{"ready": true, "ports": {}}\n', False)])
def test_one_that_serves_and_falls_silent_stands_still_and_one_that_begins_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, alive: bool
) -> None:
    monkeypatch.setattr(supervising, "SILENT_SECONDS", 0.05)

    async def hear() -> bool:
        reader = asyncio.StreamReader()
        reader.feed_data(said.encode())
        # Much later than it may be silent.
        asyncio.get_running_loop().call_later(1.0, reader.feed_eof)
        return await Supervisor(Home(tmp_path), Settings())._listen(reader)

    assert asyncio.run(hear()) is alive


def test_after_a_sleep_of_the_whole_machine_it_is_given_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "SILENT_SECONDS", 0.2)

    async def hear() -> bool:
        reader = asyncio.StreamReader()
        reader.feed_data(b'{"ready": true, "ports": {}}\n')
        listening = asyncio.create_task(Supervisor(Home(tmp_path), Settings())._listen(reader))
        await asyncio.sleep(0)
        time.sleep(0.5)
        asyncio.get_running_loop().call_later(0.1, reader.feed_data, b'{"alive": true}\n')
        asyncio.get_running_loop().call_later(0.2, reader.feed_eof)
        return await listening

    assert asyncio.run(hear())
