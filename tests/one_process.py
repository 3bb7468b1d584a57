"""The server's two halves in one process without sockets: what the control process and one worker do with the disk."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

from gateway_world import MadeUpLine, MadeUpUpstream
from valetkey.access.operation import Frame
from valetkey.gateway.app import Gateway
from valetkey.gateway.counters_keeping import KeptCounters
from valetkey.gateway.facts import Fact
from valetkey.gateway.index import KeyIndex
from valetkey.gateway.node import Node
from valetkey.journal.chain import SegmentName, segments_in
from valetkey.journal.randomness import RandomPool
from valetkey.journal.segment import SegmentWriter
from valetkey.server.counting import Counting
from valetkey.server.desk import Desk
from valetkey.server.facts import FactLoader
from valetkey.server.home import Home
from valetkey.server.opening import finish_rewrapping, open_home
from valetkey.server.record import Recorder
from valetkey.server.settings import load_settings
from valetkey.server.workers import Workers
from valetkey.services.dialling import OwnListeners
from valetkey.vault.keyring import INDEX
from valetkey.wire.http1_request import Http1Request

ENDLESS = 1 << 62
"""Nanoseconds: a lease that no test outlives."""


class OneProcess:
    """Starts as the server does: opens the home, recovers, lifts counters, begins segments."""

    def __init__(self, home: Home) -> None:
        self.loop = asyncio.new_event_loop()
        settings = load_settings(home)
        self.opened = opened = open_home(home, settings)
        finish_rewrapping(home, settings, opened)
        self.home = home
        used = [name.generation for name in segments_in(home.journal)]
        self.generation = max([int(time.time()), *used]) + 1
        self.counters = KeptCounters.open(home.counters, None, 0)
        self.frame = Frame(opened.store, opened.keyring, time.time, os.urandom, opened.workspace)
        self.loader = FactLoader(opened.workspace, opened.keyring)
        with opened.store.read() as connection:
            signing_key = opened.keyring.signing_key(connection)
            self.index_key = opened.keyring.key(connection, INDEX)
        self._thread = ThreadPoolExecutor(1)
        self.recorder = Recorder(
            home, opened.store, opened.workspace, signing_key, self.generation, self._thread
        )
        workers = Workers(
            workspace=opened.workspace,
            index_key=self.index_key,
            snapshot=self._snapshot,
            enlist=lambda slot, generation: None,
            announce=self.recorder.announce,
            fence=lambda slot, generation: None,
            serving=lambda slot: None,
            counters=self.counters.identity,
        )
        self.run(self.recorder.recover(None, set()))
        counting = Counting(
            path=home.counters,
            store=opened.store,
            workspace=opened.workspace,
            wall=time.time,
            recorder=self.recorder,
            workers=workers,
            counters=self.counters,
            writer=self._thread,
        )
        self.counting = counting
        self.run(counting.begin())
        self.desk = Desk(
            home=home,
            settings=settings,
            frame=self.frame,
            loader=self.loader,
            workers=workers,
            recorder=self.recorder,
            counters=self.counters,
            counting=counting,
            writer=self._thread,
        )
        self._work(settings)

    def _work(self, settings: Any) -> None:
        """What a worker does when it joins."""
        name = SegmentName(int(time.time() * 1000), "w0", self.generation)
        self.counters.enlist(0, self.generation)
        self.run(self.recorder.announce(0, self.generation, str(name)))
        self._spent = KeptCounters.open(self.home.counters, 0, self.generation)
        self.segment = SegmentWriter(self.home.journal, name, time=time.time(), random=RandomPool())
        self.node = Node(
            index=self._index(),
            counters=self._spent,
            journal=self.segment,
            settings=settings,
            boottime=lambda: 0,
        )
        self.node.loaded, self.node.lease_until = True, ENDLESS
        with mock.patch("valetkey.gateway.runtime.Upstream", MadeUpUpstream):
            own = OwnListeners(frozenset((8200, 8300)), frozenset(("127.0.0.1",)))
            self.gateway = Gateway(self.node, own=own)

    async def _snapshot(self) -> AsyncGenerator[list[Fact]]:
        raise AssertionError("no worker joins here")
        yield []

    def _index(self) -> KeyIndex:
        index = KeyIndex()
        index.index_key = self.index_key
        with self.opened.store.read() as connection:
            index.apply(list(self.loader.all(connection)))
        return index

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def perform(self, operation: Any, request: Any) -> Any:
        """One management action, in force when this returns."""
        outcome = self.run(self.desk.perform(operation, request, self.desk.local_owner()))
        self.node.index = self._index()
        return outcome.answer

    def call(self, key: str, path: str) -> tuple[int, str]:
        """Status and code of one call through the gateway, from its first byte to the last of the answer."""
        line = MadeUpLine()
        self.run(self._begin(line, key, path, wait=True))
        answered = line.answered()
        return answered.status, answered.code

    def leave_open(self, key: str, path: str) -> None:
        """A call whose upstream has not answered yet."""

        async def never(*_: Any, **__: Any) -> None:
            await asyncio.Event().wait()

        with mock.patch.object(MadeUpUpstream, "send", never):
            self.run(self._begin(MadeUpLine(), key, path, wait=False))

    async def _begin(self, line: MadeUpLine, key: str, path: str, *, wait: bool) -> None:
        headers = [
            (b"host", b"localhost:8300"),
            (b"authorization", f"Bearer {key}".encode()),
            (b"user-agent", b"tests/1.0"),
        ]
        with mock.patch("valetkey.gateway.runtime.Upstream", MadeUpUpstream):
            self.gateway.handle(Http1Request(line, "GET", path.encode(), b"", headers, length=0))
            if wait:
                await line.over.wait()
            else:
                for _ in range(20):
                    await asyncio.sleep(0)

    def close(self) -> None:
        """End as the server does."""
        self.node.turn.flush()
        self.segment.seal(time.time())
        self.segment.close()
        self.run(self.recorder.recover(None, set()))
        self.run(self.recorder.close())
        self.opened.store.close()

    def drop(self) -> None:
        """End as after `kill -9`: nothing more is written or run, and what was held is free."""
        self.segment.close()
        self.recorder._segment.close()
        self.opened.store.close()
