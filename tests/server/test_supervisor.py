"""A supervisor that cannot do its work ends, so that whoever started it learns of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from valetkey.errors import Unavailable
from valetkey.server.home import Home
from valetkey.server.supervisor import Supervisor
from valetkey.settings import Settings


def test_a_keeper_that_fails_ends_the_server_with_a_failure(tmp_path: Path) -> None:
    async def fails() -> None:
        raise RuntimeError("no such thing was thought of")

    async def run() -> None:
        supervisor = Supervisor(Home(tmp_path), Settings())
        supervisor._spawn(fails())
        await asyncio.wait_for(supervisor.wait(), 5)

    with pytest.raises(Unavailable, match="failed"):
        asyncio.run(run())
