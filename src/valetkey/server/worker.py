"""A gateway worker: joins the control process, takes the snapshot, then opens the port and serves.

One process, one loop. It renews its lease twice a second and refuses everything when it cannot.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import uvloop

from valetkey import log
from valetkey.decision.codes import Code
from valetkey.gateway.app import Gateway
from valetkey.gateway.counters import SharedCounters
from valetkey.gateway.counters_file import CountersUnavailable
from valetkey.gateway.facts import (
    Acknowledged,
    Change,
    Derive,
    Derived,
    Exposed,
    Facts,
    Hello,
    Lease,
    Noted,
    Pinned,
    PinNoted,
    Ready,
    Renew,
    ToWorker,
    Welcome,
)
from valetkey.gateway.index import KeyIndex
from valetkey.gateway.node import Node
from valetkey.journal.chain import SegmentName
from valetkey.journal.errors import JournalFailed
from valetkey.journal.randomness import RandomPool
from valetkey.journal.records import End
from valetkey.journal.segment import SegmentWriter
from valetkey.log import note_failure
from valetkey.server.hardening import begin_child
from valetkey.server.home import Home
from valetkey.server.link import LEASE_SECONDS, RENEW_SECONDS, Channel, boottime_ns
from valetkey.server.settings import settings_from_flags
from valetkey.server.tls import LOOK_SECONDS, every, watched_pair
from valetkey.server.watched import WatchedTasks
from valetkey.services.dialling import OwnListeners
from valetkey.settings import Settings
from valetkey.wire.certificate import CertificateRefused
from valetkey.wire.listener import PROTOCOLS, Listener

SWEEP_SECONDS = 0.25
"""How often timers are looked at: finer than any time-out that a person sets."""
DRAIN_SECONDS = 1.5
"""After SIGTERM calls in hand have so long to end before they are cut."""
GC_THRESHOLDS = (25_000, 20, 50)
"""The defaults make the collector a tenth of a call's cost; calls leave few cycles behind (measured)."""


class WorkerProcess:
    """One worker's life."""

    def __init__(self, home: Home, settings: Settings, slot: int, generation: int) -> None:
        self._home = home
        self._settings = settings
        self._slot = slot
        self._generation = generation
        self._segment = SegmentName(int(time.time() * 1000), f"w{slot}", generation)
        self._stopping = asyncio.Event()
        self._channel: Channel[ToWorker] | None = None
        self._node: Node | None = None
        self._number = 0
        self._asked: dict[int, asyncio.Future[tuple[int, bytes]]] = {}
        """Derivations that the control process has not answered yet."""
        self._gateway: Gateway | None = None
        self._counted_in = (0, 0)
        """Which file the control process counts in."""
        self._decoder: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)

    async def run(self) -> None:
        """Serve until SIGTERM."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        certificate = watched_pair(self._settings)
        await self._join()
        node, gateway = self._node, self._gateway
        assert node is not None and gateway is not None
        listener = Listener(
            gateway.handle,
            address=self._settings.listen,
            port=self._settings.gateway_port,
            note=note_failure,
            tls=None if certificate is None else certificate.pair.context(PROTOCOLS),
        )

        def look_at_certificate(*, at_once: bool = False) -> None:
            if certificate is not None and certificate.look(at_once=at_once):
                listener.renew(certificate.pair.context(PROTOCOLS))

        loop.add_signal_handler(signal.SIGHUP, lambda: look_at_certificate(at_once=True))
        await listener.start()
        tasks = WatchedTasks()
        for work in (
            self._listen(), self._renew(), self._sweep(node, gateway), every(LOOK_SECONDS, look_at_certificate)
        ):  # fmt: skip
            tasks.start(work)
        tasks.start(self._sync(node), may_end=True)
        self._tell_ready()
        await self._stopping.wait()
        listener.retire()
        await self._drain(node)
        gateway.floods.close()
        tasks.stop()
        await listener.stop(0.5)
        node.turn.flush()
        if not node.journal.failed:
            node.journal.seal(time.time())
            node.journal.close()
        log.current().flush()
        os._exit(0)  # nothing may linger

    async def _join(self) -> None:
        """Connect, take the snapshot, build the node."""
        index = await self._connect()
        # Only the control process makes the file: in a new one nothing that was used would count.
        counters = SharedCounters.open(self._home.counters, self._slot, self._generation, make=False)
        if counters.identity != self._counted_in:
            raise CountersUnavailable("The counters are another file than the control process counts in.")
        journal = SegmentWriter(
            self._home.journal,
            self._segment,
            time=time.time(),
            random=RandomPool(),
            durable=self._settings.fsync_interval_ms == 0,
        )
        node = self._node = Node(index=index, counters=counters, journal=journal, settings=self._settings)
        own = OwnListeners(
            frozenset((self._settings.gateway_port, self._settings.control_port)),
            frozenset((self._settings.listen,)),
        )
        self._gateway = Gateway(node, own=own, ask_control=self._ask)
        node.loaded = True
        # The collector would otherwise walk all keys again and again: 100 ms pauses, measured.
        gc.set_threshold(*GC_THRESHOLDS)
        gc.collect()
        gc.freeze()
        self._say(Renew(boottime_ns()))

    async def _connect(self) -> KeyIndex:
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._home.worker_socket)
            except (ConnectionError, FileNotFoundError):
                if self._stopping.is_set():
                    if self._node is None:
                        os._exit(0)
                    # What is open is being drained beside; there is nobody to join any more.
                    await asyncio.Event().wait()
                await asyncio.sleep(0.05)
                continue
            channel: Channel[ToWorker] = Channel(reader, writer, self._decoder)
            with suppress(ConnectionError):
                channel.send(Hello(self._slot, self._generation, os.getpid(), str(self._segment)))
            welcome = await channel.receive()
            if not isinstance(welcome, Welcome):
                channel.close()
                await asyncio.sleep(0.05)
                continue
            self._counted_in = welcome.counters
            index = KeyIndex()
            index.index_key = welcome.index_key
            while isinstance(facts := await channel.receive(), Facts):
                index.apply(facts.facts)
                if facts.last:
                    self._channel = channel
                    return index
            channel.close()

    async def _listen(self) -> None:
        """Take changes; when the control process is gone, wait for the next one and begin anew with it."""
        node = self._node
        assert node is not None
        cut_on_joining = 0
        while True:
            channel = self._channel
            assert channel is not None
            while (message := await channel.receive()) is not None:
                if isinstance(message, Change):
                    node.turn.flush()  # what was decided before the change is recorded before it
                    touched = node.index.apply(message.facts)
                    node.follow_limits()
                    node.look_around()  # an accepted clock counts at once
                    cut = 0 if message.let_finish else node.cut_dead(touched, time.time())
                    self._say(Acknowledged(message.sequence, cut + cut_on_joining))
                    cut_on_joining = 0
                elif isinstance(message, Noted):
                    node.exposed.noted(message.key_id)
                elif isinstance(message, PinNoted):
                    node.pinned.noted(message.key_id, message.number)
                elif isinstance(message, Derived):
                    asked = self._asked.get(message.number)
                    if asked is not None and not asked.done():
                        asked.set_result((message.status, message.body))
                elif isinstance(message, Lease):
                    node.lease_until = max(node.lease_until, message.asked + int(LEASE_SECONDS * 1e9))
            channel.close()
            self._channel = None
            for asked in self._asked.values():
                if not asked.done():
                    asked.set_exception(ConnectionError())
            index = await self._connect()
            if node.counters.identity != self._counted_in:
                os._exit(1)  # a new worker counts where all do
            # What changed while we were apart is judged before the lease is asked for.
            node.turn.flush()
            node.index = index
            node.follow_limits()
            cut_on_joining = node.cut_dead(list(node.open), time.time())
            gc.collect()
            gc.freeze()
            self._tell_ready()

    async def _ask(self, key_id: str, call: str, body: bytes) -> tuple[int, bytes]:
        """Have a key derived. Raises ConnectionError when the control process is gone."""
        if self._channel is None:
            raise ConnectionError("There is no control process to ask.")
        self._number += 1
        number = self._number
        self._channel.send(Derive(number, key_id, call, body))
        asked: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._asked[number] = asked
        try:
            return await asked
        finally:
            del self._asked[number]

    def _say(self, *messages: msgspec.Struct) -> None:
        """To the control process; where it is gone, the next one learns all of it when we join."""
        if self._channel is not None:
            with suppress(ConnectionError):
                for message in messages:
                    self._channel.send(message)

    def _tell_ready(self) -> None:
        log.debug("worker_ready", generation=self._generation)
        self._say(Ready(), Renew(boottime_ns()))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            unsaid = self._node.exposed.unsaid if self._node is not None else ()
            pins = self._node.pinned.to_say() if self._node is not None else {}
            self._say(Renew(boottime_ns()), *map(Exposed, unsaid), *((Pinned(pins),) if pins else ()))

    async def _sweep(self, node: Node, gateway: Gateway) -> None:
        floods_at = time.monotonic()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            if node.boottime() >= node.lease_until and node.open:
                node.cut_all(End.INTERRUPTED, Code.NOT_READY)
            if node.replaced:
                os._exit(1)
            if node.journal.failed:
                # Nothing can be recorded, so nothing is answered; a new worker may find the disk mended.
                node.cut_all(End.INTERRUPTED, Code.NOT_READY)
                log.error("journal_failed", "The worker ends.", reason=node.journal.reason)
                os._exit(1)
            node.look_around()
            node.cut_late(time.monotonic())
            node.cut_expired(time.time())
            if time.monotonic() - floods_at > 1.0:
                floods_at = time.monotonic()
                log.current().settle()
                gateway.floods.sweep(node.clock.now())
                gateway.drop_unused()

    async def _sync(self, node: Node) -> None:
        interval = self._settings.fsync_interval_ms / 1000
        if not interval:
            return
        synced = 0
        while True:
            await asyncio.sleep(interval)
            if node.journal.count != synced and not node.journal.failed:
                synced = node.journal.count
                try:
                    await asyncio.to_thread(node.journal.sync)
                except JournalFailed:
                    return

    async def _drain(self, node: Node) -> None:
        """Refuse what is new, let what is open end, cut what does not."""
        node.draining = True
        deadline = time.monotonic() + DRAIN_SECONDS
        while node.open and time.monotonic() < deadline:  # noqa: ASYNC110 - calls end by themselves
            await asyncio.sleep(0.02)
        node.cut_all(End.INTERRUPTED, Code.NOT_READY)
        for _ in range(50):
            if not node.open:
                break
            await asyncio.sleep(0.01)


def main() -> None:
    """Entry point of a worker process; started by the supervisor only."""
    parser = argparse.ArgumentParser(prog="valetkey-worker", allow_abbrev=False)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--slot", type=int, required=True)
    parser.add_argument("--generation", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    given = parser.parse_args()
    begin_child(given.parent)
    settings = settings_from_flags(sys.stdin.readline())
    log.configure(f"worker-{given.slot}", style=settings.log_format, level=settings.log_level)
    process = WorkerProcess(Home(given.home), settings, given.slot, given.generation)
    try:
        uvloop.run(process.run())
    except (JournalFailed, CertificateRefused, CountersUnavailable) as error:
        log.error("worker_failed", str(error))
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
