"""What the supervisor hears of a control process that dies at any instant."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

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
        await supervisor._listen(reader)
        return supervisor.ports

    assert asyncio.run(hear()) == {"control": 1}
