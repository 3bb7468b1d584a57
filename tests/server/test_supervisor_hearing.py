"""What the supervisor hears of a control process that dies at any instant."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize("said", ["", '{"ready": true, "ports": {}}\n'], ids=["that begins", "that serves"])
def test_one_that_falls_silent_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setattr(supervising, "SILENT_SECONDS" if said else "BEGINNING_SECONDS", 0.05)

    async def hear() -> bool:
        reader = asyncio.StreamReader()
        reader.feed_data(said.encode())
        # Much later than it may be silent.
        asyncio.get_running_loop().call_later(5.0, reader.feed_eof)
        return await Supervisor(Home(tmp_path), Settings())._listen(reader)

    assert asyncio.run(hear()) is False


STANDS_STILL = """
import os, sys, time
os.write(int(sys.argv[1]), sys.argv[2].encode())
time.sleep(60)
"""


@pytest.mark.real
def test_one_that_stands_still_is_killed_and_another_started_also_before_it_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SILENT_SECONDS", "BEGINNING_SECONDS"):
        monkeypatch.setattr(supervising, name, 0.5)
    start = asyncio.create_subprocess_exec
    started: list[asyncio.subprocess.Process] = []

    async def start_stand_in(*arguments: str, **options: Any) -> asyncio.subprocess.Process:
        """The first says that it serves, those after it nothing."""
        supervisor = arguments[arguments.index("--supervisor-fd") + 1]
        said = "" if started else '{"ready": true, "ports": {}}\n'
        started.append(await start(sys.executable, "-c", STANDS_STILL, supervisor, said, **options))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_stand_in)

    async def keep() -> list[int | None]:
        supervisor = Supervisor(Home(tmp_path), Settings())
        keeping = asyncio.create_task(supervisor._keep_control())
        async with asyncio.timeout(30):
            while len(started) < 3:
                await asyncio.sleep(0.01)
        await supervisor.stop()
        await keeping
        return [process.returncode for process in started[:2]]

    assert asyncio.run(keep()) == [-signal.SIGKILL, -signal.SIGKILL]


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
