"""A change that is made while a worker is away is in force when it is acknowledged, and not a moment before."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from valetkey.gateway.facts import (
    Acknowledged,
    Change,
    Facts,
    Hello,
    Lease,
    PartyFact,
    Ready,
    Renew,
    ToWorker,
    Welcome,
)
from valetkey.server.link import Channel
from valetkey.server.workers import LEASE_NS, LOOK_SECONDS, Settled, Workers

REVOKED = PartyFact("pty_ana", "ana", removed=True)


class Control:
    """The control process's side, with a snapshot of many facts."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "s"
        self.fenced: list[tuple[int, int]] = []
        self.announced: list[str] = []
        self.workers = Workers(
            workspace="wsp_test",
            index_key=b"i" * 32,
            snapshot=self._snapshot,
            enlist=lambda slot, generation: None,
            announce=self._announce,
            fence=self._fence,
            serving=lambda slot: None,
            counters=(1, 2),
        )

    async def _announce(self, slot: int, generation: int, segment: str) -> None:
        self.announced.append(segment)

    async def _snapshot(self) -> AsyncIterator[list[Any]]:
        for first in (0, 3000):
            yield [PartyFact(f"pty_{number}", "n" * 200) for number in range(first, first + 3000)]

    def _fence(self, slot: int, generation: int) -> None:
        self.fenced.append((slot, generation))
        self.workers.died(slot, generation)

    async def change(self) -> asyncio.Task[Settled]:
        """Send one and begin to wait for what becomes of it."""
        async with self.workers.joining:
            sent = self.workers.send([REVOKED])
        task = asyncio.ensure_future(self.workers.settle(sent))
        await turns()
        return task


@asynccontextmanager
async def control(folder: Path) -> AsyncIterator[Control]:
    """One that has just started; a worker lives from before it, perhaps with a lease."""
    made = Control(folder)
    await made.workers.listen(made.path)
    made.workers.alive(0, 1)
    try:
        yield made
    finally:
        await made.workers.close()


@asynccontextmanager
async def worker(control: Control) -> AsyncIterator[Channel[ToWorker]]:
    reader, writer = await asyncio.open_unix_connection(control.path)
    channel: Channel[ToWorker] = Channel(reader, writer, msgspec.msgpack.Decoder(ToWorker))
    channel.send(Hello(0, 1, os.getpid(), f"{1:020d}-w0-1"))
    try:
        yield channel
    finally:
        channel.close()


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0.002)


async def snapshot(channel: Channel[ToWorker]) -> None:
    welcome = await channel.receive()
    assert isinstance(welcome, Welcome)
    pieces = 0
    while isinstance(facts := await channel.receive(), Facts) and not facts.last:
        pieces += 1
    assert pieces == 2


def test_a_worker_that_joins_has_a_change_once_it_says_so(tmp_path: Path) -> None:
    async def run() -> None:
        async with control(tmp_path) as made:
            settling = await made.change()
            async with worker(made) as channel:
                await turns()
                assert not settling.done(), "it has read nothing yet"
                await snapshot(channel)
                await turns()
                assert not settling.done(), "it has read the snapshot, but not said that it is in force"
                change = await channel.receive()
                assert isinstance(change, Change)
                channel.send(Acknowledged(change.sequence, 3))
                assert await asyncio.wait_for(settling, 1) == Settled(1, 0, 3)
            assert made.fenced == []

    asyncio.run(run())


def test_a_worker_that_served_joins_and_says_nothing_is_fenced_at_the_end_of_its_lease(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        async with control(tmp_path) as made:
            made.workers.alive(0, 1, before_us=True)
            made.workers.known[0].lease_until -= int(1.7e9)
            settling = await made.change()
            async with worker(made) as channel:
                await snapshot(channel)
                assert await asyncio.wait_for(settling, 2) == Settled(0, 1, 0)
            assert made.fenced == [(0, 1)]

    asyncio.run(run())


def test_a_worker_that_joins_anew_and_says_nothing_is_fenced_at_the_end_of_its_lease(tmp_path: Path) -> None:
    async def run() -> None:
        async with control(tmp_path) as made:
            async with worker(made) as channel:
                await snapshot(channel)
                channel.send(Ready())
                channel.send(Renew(1))
                await turns()
            async with worker(made) as channel:
                await snapshot(channel)
                lapse(made)
                assert await asyncio.wait_for(await made.change(), 2) == Settled(0, 1, 0)
            assert made.fenced == [(0, 1)]

    asyncio.run(run())


def test_a_start_that_takes_longer_than_a_lease_goes_on_and_has_a_change_before_its_first_lease(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        async with control(tmp_path) as made:
            lapse(made)
            assert await asyncio.wait_for(await made.change(), 2) == Settled(0, 0, 0), "it has yet to join"
            async with worker(made) as channel:
                await snapshot(channel)
                lapse(made)
                assert await asyncio.wait_for(await made.change(), 2) == Settled(0, 0, 0)
                assert made.fenced == []
                channel.send(Renew(1))
                said = [await channel.receive() for _ in range(3)]
            assert [type(message) for message in said] == [Change, Change, Lease]
            assert isinstance(said[1], Change) and said[1].facts == [REVOKED]

    asyncio.run(run())


def test_a_change_after_the_joining_is_acknowledged_by_itself(tmp_path: Path) -> None:
    async def run() -> None:
        async with control(tmp_path) as made, worker(made) as channel:
            await snapshot(channel)
            first = await channel.receive()
            assert isinstance(first, Change) and first.facts == []
            channel.send(Acknowledged(first.sequence, 0))
            settling = await made.change()
            change = await channel.receive()
            assert isinstance(change, Change) and change.facts == [REVOKED]
            assert not settling.done()
            channel.send(Acknowledged(change.sequence, 1))
            assert await asyncio.wait_for(settling, 1) == Settled(1, 0, 1)

    asyncio.run(run())


@asynccontextmanager
async def watched(control: Control) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Somebody looks for workers that stand still; what is given waits until they have been looked at often enough."""
    watching = asyncio.ensure_future(control.workers.watch())

    async def looks() -> None:
        await asyncio.sleep(4 * LOOK_SECONDS)

    try:
        yield looks
    finally:
        watching.cancel()


def lapse(control: Control) -> None:
    control.workers.known[0].lease_until -= 2 * LEASE_NS


def test_a_worker_that_serves_and_renews_no_more_is_fenced_without_any_change(tmp_path: Path) -> None:
    async def run() -> None:
        async with control(tmp_path) as made, worker(made) as channel, watched(made) as looks:
            await snapshot(channel)
            channel.send(Ready())
            channel.send(Renew(1))
            await looks()
            assert made.fenced == []
            lapse(made)
            await looks()
            assert made.fenced == [(0, 1)]

    asyncio.run(run())


def test_a_worker_that_is_started_or_takes_its_snapshot_is_given_time(tmp_path: Path) -> None:
    async def run() -> None:
        async with control(tmp_path) as made, watched(made) as looks:
            lapse(made)
            await looks()
            async with worker(made) as channel:
                await snapshot(channel)
                lapse(made)
                await looks()
                assert made.fenced == []

    asyncio.run(run())


def test_a_worker_that_served_before_us_and_does_not_join_is_fenced(tmp_path: Path) -> None:
    async def run() -> None:
        async with control(tmp_path) as made, watched(made) as looks:
            made.workers.alive(0, 1, before_us=True)
            await looks()
            assert made.fenced == []
            lapse(made)
            await looks()
            assert made.fenced == [(0, 1)]

    asyncio.run(run())


def test_what_a_worker_said_while_we_stood_still_counts(tmp_path: Path) -> None:
    async def run() -> None:
        async with control(tmp_path) as made, worker(made) as channel, watched(made) as looks:
            await snapshot(channel)
            channel.send(Ready())
            await looks()
            lapse(made)  # as it looks to whoever was stopped for a while
            channel.send(Renew(2))
            time.sleep(2 * LOOK_SECONDS)
            await looks()
            assert made.fenced == []

    asyncio.run(run())


def test_who_served_before_us_is_waited_for_and_nobody_else(tmp_path: Path) -> None:
    async def run() -> None:
        async with control(tmp_path) as made:
            await asyncio.wait_for(made.workers.rejoined(60), 1)  # it is being started, and takes its time
            made.workers.alive(0, 1, before_us=True)
            await asyncio.wait_for(made.workers.rejoined(0.01), 1)  # it stands still
            waiting = asyncio.ensure_future(made.workers.rejoined(60))
            async with worker(made) as channel:
                await snapshot(channel)
                await turns()
                assert not waiting.done()
                channel.send(Ready())
                await asyncio.wait_for(waiting, 1)

    asyncio.run(run())
