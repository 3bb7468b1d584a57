"""What the server does by itself to many: one that always fails keeps none behind it waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import partial
from typing import Any
from unittest import mock

from valetkey.keys.operations import KeyName
from valetkey.keys.sessions import Session
from valetkey.networks.operations import InterfaceChanged
from valetkey.server import noticing
from valetkey.server.desk import Desk
from valetkey.server.interfaces import follow_interfaces
from valetkey.server.noticing import Noticing
from valetkey.server.pinning import AT_ONCE
from valetkey.server.sessions import SessionWatch
from valetkey.server.watched import WatchedTasks
from valetkey.store.engine import StoreError


class FailsFirst(Desk):
    """Knows what there is to do and cannot do the first of it."""

    def __init__(self, *there_is: Any) -> None:
        self.workspace = "wsp_test"
        self._there_is = there_is
        self._first: Any = None
        self.done = asyncio.Queue[Any]()

    async def read(self, query: Any) -> Any:
        return list(self._there_is)

    async def perform(self, operation: Any, request: Any, *_: Any, **__: Any) -> Any:
        self._first = self._first or request
        if request == self._first:
            raise StoreError("busy")
        await self.done.put(request)

    async def note_pins(self, key_ids: Any) -> None:
        await self.perform(None, list(key_ids))


async def done_by(desk: FailsFirst, work: Awaitable[Any]) -> Any:
    """The first that is done while this goes on."""
    working = asyncio.ensure_future(work)
    try:
        return await asyncio.wait_for(desk.done.get(), 5)
    finally:
        working.cancel()
        await asyncio.wait((working,))


def test_a_session_that_cannot_be_ended_keeps_no_other_from_its_end() -> None:
    async def run() -> None:
        gone = [f"process:{2**22 + number}:1:boot" for number in (1, 2)]
        desk = FailsFirst(*gone)
        assert await done_by(desk, SessionWatch(desk).run()) == Session(gone[1])

    asyncio.run(run())


def test_a_network_that_cannot_be_changed_keeps_no_other_from_following() -> None:
    async def run() -> None:
        networks = [InterfaceChanged(f"net_{number}", ("127.0.0.0/8",)) for number in (1, 2)]
        desk = FailsFirst(*networks)
        assert await done_by(desk, follow_interfaces(desk)) == networks[1]

    asyncio.run(run())


def test_a_key_that_cannot_be_abandoned_keeps_no_other_from_it() -> None:
    async def unreceived() -> list[str]:
        return ["key_1", "key_2"]

    async def run() -> None:
        desk = FailsFirst()
        assert await done_by(desk, Noticing(WatchedTasks()).abandon(desk, unreceived)) == KeyName("key_2")

    with mock.patch.object(noticing, "ABANDON_SECONDS", 0.01):
        asyncio.run(run())


def test_pins_that_cannot_be_written_keep_no_others_from_it() -> None:
    ids = [f"key_{number}" for number in range(2 * AT_ONCE)]
    noted: list[str] = []

    async def run() -> None:
        desk, hearing = FailsFirst(), Noticing(WatchedTasks())
        hearing.desk = desk

        async def say() -> None:
            for key_id in ids:
                hearing.pinned(key_id, partial(noted.append, key_id))

        assert await done_by(desk, say()) == ids[AT_ONCE:]
        await asyncio.sleep(0)
        assert noted == ids[AT_ONCE:], "the others are said again"

    asyncio.run(run())
