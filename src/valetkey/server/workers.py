"""The control process's side of the link: who serves, who has acknowledged what, who must be fenced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path

import msgspec

from valetkey import log
from valetkey.gateway.facts import (
    Acknowledged,
    Change,
    Derive,
    Derived,
    Exposed,
    Fact,
    Facts,
    FromWorker,
    Hello,
    Lease,
    Noted,
    Pinned,
    PinNoted,
    Ready,
    Renew,
    Welcome,
)
from valetkey.server.link import LEASE_SECONDS, Channel, boottime_ns

LEASE_NS = int(LEASE_SECONDS * 1e9)
FENCE_SECONDS = 0.5
"""How long killing a worker may take beyond its lease."""
LOOK_SECONDS = 0.125
"""How often it is looked who has let its lease run out: seen twice, in time for `FENCE_SECONDS`."""


class Settled(msgspec.Struct, frozen=True):
    """What became of a change: workers that acknowledged, workers that were fenced, exchanges that were cut."""

    acknowledged: int
    fenced: int
    cut: int


class Worker:
    """A worker process that may be serving."""

    def __init__(self, slot: int, generation: int) -> None:
        self.slot = slot
        self.generation = generation
        self.pid: int | None = None
        self.channel: Channel[FromWorker] | None = None
        self.ready = False
        self.before_us = False
        """Whether it served before this control process was there: then it joins at once, or stands still."""
        self.leased = False
        """Whether it was ever given a lease by this control process."""
        self.overdue = 0
        """How often in a row its lease was found to have run out."""
        # Until it is known otherwise a worker may hold a lease: one granted by the control process before us.
        self.lease_until = boottime_ns() + LEASE_NS
        self.serves = asyncio.Event()
        self.dead = asyncio.Event()
        self.waiting: dict[int, asyncio.Future[int]] = {}

    def may_serve(self) -> bool:
        """Whether it may have admitted a call: nobody does before the first lease. A start may take longer than one."""
        return self.leased or self.before_us


class Workers:
    """All workers that may be serving."""

    def __init__(
        self,
        *,
        workspace: str,
        index_key: bytes,
        snapshot: Callable[[], AsyncGenerator[list[Fact]]],
        enlist: Callable[[int, int], None],
        announce: Callable[[int, int, str], Awaitable[None]],
        fence: Callable[[int, int], None],
        serving: Callable[[int], None],
        counters: tuple[int, int],
        exposed: Callable[[str, Callable[[], None]], None] = lambda key_id, noted: None,
        pinned: Callable[[str, Callable[[], None]], None] = lambda key_id, noted: None,
        derive: Callable[[str, str, bytes, Callable[[int, bytes], None]], None] = lambda *asked: None,
    ) -> None:
        """`exposed` is told of a key that came in plain text, `pinned` of one that its first call pinned; both call
        `noted` when that is written down."""
        self._workspace = workspace
        self._index_key = index_key
        self._snapshot = snapshot
        self._enlist = enlist
        self._announce = announce
        self._fence = fence
        self._serving = serving
        self._exposed = exposed
        self._pinned = pinned
        self._derive = derive
        self._counters = counters
        self._decoder: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
        self._sequence = 0
        self._server: asyncio.Server | None = None
        self.joining = asyncio.Lock()
        """Held while a worker takes its snapshot and while a change is made: no change falls between."""
        self.known: dict[int, Worker] = {}

    async def listen(self, path: Path) -> None:
        """Accept workers on a Unix socket."""
        path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._joined, path)
        path.chmod(0o600)

    async def close(self) -> None:
        """Hang up."""
        if self._server is not None:
            self._server.close()

    def alive(self, slot: int, generation: int, *, before_us: bool = False) -> None:
        """The supervisor started this worker, or it was running before us."""
        self.known[slot] = Worker(slot, generation)
        self.known[slot].before_us = before_us

    async def rejoined(self, seconds: float) -> None:
        """Wait until those who served before us do again, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(w.serves.wait() for w in self.known.values() if w.before_us))

    async def watch(self) -> None:
        """Have a worker that stands still fenced, also when no change waits for it: its callers do."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for worker in list(self.known.values()):
                # One that takes its snapshot anew may take long, and serves nobody meanwhile.
                joins = worker.channel is not None and not worker.ready
                lapsed = worker.may_serve() and not joins and worker.lease_until < boottime_ns()
                worker.overdue = worker.overdue + 1 if lapsed else 0
                # Once may be because we stood still ourselves, and have not read yet what it said.
                if worker.overdue == 2:
                    self._fence(worker.slot, worker.generation)

    def died(self, slot: int, generation: int) -> None:
        """The supervisor saw this worker end."""
        worker = self.known.get(slot)
        if worker is not None and worker.generation == generation:
            worker.dead.set()
            for future in worker.waiting.values():
                if not future.done():
                    future.cancel()
            del self.known[slot]

    def send(
        self, facts: list[Fact], *, let_finish: bool = False
    ) -> list[tuple[Worker, asyncio.Future[int]]]:
        """Send a change to all; call it with `joining` held."""
        self._sequence += 1
        change = Change(self._sequence, facts, let_finish)
        sent = []
        for worker in self.known.values():
            future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            worker.waiting[self._sequence] = future
            if worker.channel is not None:
                with suppress(ConnectionError):  # it joins anew and learns of it then, or is fenced
                    worker.channel.send(change)
            sent.append((worker, future))
        return sent

    async def settle(self, sent: list[tuple[Worker, asyncio.Future[int]]]) -> Settled:
        """Wait for acknowledgements; who does not answer within its lease is killed, if it may have served by then."""
        each = await asyncio.gather(*(self._settled(worker, future) for worker, future in sent))
        settled = Settled(
            sum(one.acknowledged for one in each),
            sum(one.fenced for one in each),
            sum(one.cut for one in each),
        )
        log.debug("change_settled", **msgspec.structs.asdict(settled))
        return settled

    async def _settled(self, worker: Worker, future: asyncio.Future[int]) -> Settled:
        # Asked now: a lease that it is given from here on comes to it behind the change.
        may_serve = worker.may_serve()
        patience = max(0.0, (worker.lease_until - boottime_ns()) / 1e9)
        gone = asyncio.ensure_future(worker.dead.wait())
        try:
            await asyncio.wait((future, gone), timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if future.done() and not future.cancelled():
                return Settled(1, 0, future.result())
            if not worker.dead.is_set():
                if not may_serve:
                    return Settled(0, 0, 0)
                self._fence(worker.slot, worker.generation)
                await asyncio.wait((gone,), timeout=FENCE_SECONDS)
            return Settled(0, 1, 0)
        finally:
            gone.cancel()

    async def fence_all(self) -> None:
        """Have every worker killed; returns when all are dead. Call it with `joining` held."""
        living = list(self.known.values())
        for worker in living:
            self._fence(worker.slot, worker.generation)
        await asyncio.gather(*(worker.dead.wait() for worker in living))

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        channel: Channel[FromWorker] = Channel(reader, writer, self._decoder)
        try:
            hello = await channel.receive()
            if not isinstance(hello, Hello):
                return
            worker = self.known.get(hello.slot)
            if worker is None or worker.generation != hello.generation:
                return
            async with self.joining:
                self._enlist(hello.slot, hello.generation)
                await self._announce(hello.slot, hello.generation, hello.segment)
                worker.pid, worker.channel, worker.ready = hello.pid, channel, False
                channel.send(Welcome(self._workspace, self._index_key, self._counters))
                async with aclosing(self._snapshot()) as pieces:
                    # Not waiting until the other side keeps up: one that stands still must not hold up all others.
                    async for facts in pieces:
                        channel.send(Facts(facts))
                channel.send(Facts([], last=True))
                # What was sent while it was away is in the snapshot: in force once the worker says so.
                channel.send(Change(self._sequence, []))
            await channel.drain()
            await self._serve(worker, channel)
        except (ConnectionError, msgspec.DecodeError, ValueError):
            pass
        finally:
            channel.close()

    async def _serve(self, worker: Worker, channel: Channel[FromWorker]) -> None:
        while (message := await channel.receive()) is not None:
            if isinstance(message, Renew):
                # The worker counts from when it asked, which was earlier: this is never too short.
                worker.lease_until, worker.leased = boottime_ns() + LEASE_NS, True
                channel.send(Lease(message.asked))
            elif isinstance(message, Acknowledged):
                # Changes are applied in order, so one acknowledgement speaks for all before it.
                for sequence in [number for number in worker.waiting if number <= message.sequence]:
                    future = worker.waiting.pop(sequence)
                    if not future.done():
                        future.set_result(message.cut)
            elif isinstance(message, Exposed):
                self._exposed(message.key_id, partial(_tell, channel, Noted(message.key_id)))
            elif isinstance(message, Pinned):
                for key_id, number in message.pins.items():
                    self._pinned(key_id, partial(_tell, channel, PinNoted(key_id, number)))
            elif isinstance(message, Derive):
                answer = partial(_tell_derived, channel, message.number)
                self._derive(message.key_id, message.call, message.body, answer)
            elif isinstance(message, Ready):
                worker.ready = True
                worker.serves.set()
                self._serving(worker.slot)
        if worker.channel is channel:
            worker.channel = None


def _tell_derived(channel: Channel[FromWorker], number: int, status: int, body: bytes) -> None:
    _tell(channel, Derived(number, status, body))


def _tell(channel: Channel[FromWorker], message: msgspec.Struct) -> None:
    """A worker that is gone needs no answer."""
    with suppress(ConnectionError):
        channel.send(message)
