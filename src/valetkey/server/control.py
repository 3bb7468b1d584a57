"""The control process: sole writer of the database, the only one that unseals; API, record, workers' facts."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import uvloop

from valetkey import log
from valetkey.access.operation import Frame
from valetkey.errors import ValetkeyError
from valetkey.gateway.counters_file import CountersUnavailable
from valetkey.gateway.counters_keeping import KeptCounters
from valetkey.journal.chain import segments_in
from valetkey.journal.errors import JournalFailed
from valetkey.log import note_failure
from valetkey.server.counting import Counting
from valetkey.server.desk import Desk
from valetkey.server.facts import FactLoader, pieces_of
from valetkey.server.hardening import begin_child, go_first
from valetkey.server.home import Home, disk_refusal
from valetkey.server.interfaces import catch_up_interfaces, follow_interfaces
from valetkey.server.listener import Listener
from valetkey.server.noticing import Noticing
from valetkey.server.opening import finish_rewrapping, open_home
from valetkey.server.pinning import take_up_pins
from valetkey.server.record import Recorder
from valetkey.server.sessions import SessionWatch, end_gone_sessions
from valetkey.server.settings import settings_from_flags
from valetkey.server.supervisor import ALIVE_SECONDS
from valetkey.server.tls import LOOK_SECONDS, every, say, watched_pair
from valetkey.server.tls_port import TlsPort
from valetkey.server.watched import WatchedTasks
from valetkey.server.workers import Workers
from valetkey.settings import Settings
from valetkey.store.engine import StoreError
from valetkey.vault.keyring import INDEX
from valetkey.wire.certificate import WatchedPair

PROTOCOLS = ("http/1.1",)
REJOIN_SECONDS = 1.0
"""How long the doors stay closed for workers that served already."""
LATCH_SECONDS = 1.0
"""How often it is looked which keys and agreements have ended since."""
DROP_SECONDS = 60.0
"""How often it is looked which derived keys have long been dead."""
FORGET_SECONDS = 21_600
"""How often personal fields past their time are erased."""
GO_ON_SECONDS = 60.0
"""How often it is looked for erasures that were asked for and could not be carried out."""


class ControlProcess:
    """One control process's life."""

    def __init__(self, home: Home, settings: Settings, supervisor: int) -> None:
        self._home = home
        self._settings = settings
        self._supervisor = supervisor
        self._stopping = asyncio.Event()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._tell: asyncio.StreamWriter | None = None
        # Reading the journal on must not make a revoke wait.
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="recorder")
        self._tasks = WatchedTasks()
        self._certificate: WatchedPair | None = None
        self._tls_port: TlsPort | None = None
        self._noticing = Noticing(self._tasks)

    async def run(self) -> None:
        """Serve until SIGTERM."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._look_at_certificate(at_once=True))
        reader, self._tell = await asyncio.open_connection(sock=socket.socket(fileno=self._supervisor))
        self._tasks.start(every(ALIVE_SECONDS, lambda: self._say({"alive": True})))
        try:
            await self._serve(reader)
        except (ValetkeyError, JournalFailed, CountersUnavailable, OSError) as error:
            said = _said(error, self._home)
            if said is None:
                raise
            self._say({"failed": said})
            await self._tell.drain()
            raise SystemExit(1) from None

    async def _serve(self, reader: asyncio.StreamReader) -> None:
        opened = open_home(self._home, self._settings)
        finish_rewrapping(self._home, self._settings, opened)
        self._certificate = watched_pair(self._settings, note=say)
        self._counters = KeptCounters.open(self._home.counters, None, 0)
        frame = Frame(opened.store, opened.keyring, time.time, os.urandom, opened.workspace)
        loader = FactLoader(
            opened.workspace,
            opened.keyring,
            newest=lambda connection: self._recorder.newest_in(connection).time,
        )
        with opened.store.read() as connection:
            signing_key = opened.keyring.signing_key(connection)
            index_key = opened.keyring.key(connection, INDEX)
        generation = int(time.time())
        self._recorder = Recorder(
            self._home,
            opened.store,
            opened.workspace,
            signing_key,
            generation,
            self._reader,
            witnesses=self._settings.witness,
        )

        self._workers = Workers(
            workspace=opened.workspace,
            index_key=index_key,
            snapshot=lambda: pieces_of(opened.store, loader, self._writer),
            enlist=self._enlist,
            announce=self._recorder.announce,
            fence=lambda slot, generation: self._say({"fence": slot, "generation": generation}),
            serving=lambda slot: self._say({"serving": slot}),
            exposed=self._noticing.exposed,
            pinned=self._noticing.pinned,
            derive=self._noticing.derive,
            counters=self._counters.identity,
        )
        await self._begin(reader)
        await self._recorder.recover(None, self._live_segments())
        counting = Counting(
            path=self._home.counters,
            store=opened.store,
            workspace=opened.workspace,
            wall=time.time,
            recorder=self._recorder,
            workers=self._workers,
            counters=self._counters,
            writer=self._writer,
        )
        await counting.begin()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._writer, catch_up_interfaces, frame)
        await loop.run_in_executor(self._writer, take_up_pins, frame, self._counters)
        await loop.run_in_executor(self._writer, end_gone_sessions, frame)
        await self._workers.listen(self._home.worker_socket)
        # Before the doors, whose making takes a while: what workers have open ends with their leases.
        await self._workers.rejoined(REJOIN_SECONDS)
        desk = Desk(
            home=self._home,
            settings=self._settings,
            frame=frame,
            loader=loader,
            workers=self._workers,
            recorder=self._recorder,
            counters=self._counters,
            counting=counting,
            writer=self._writer,
        )
        self._noticing.desk = desk
        listeners = await self._open_doors(desk)
        for work in (
            self._recorder.run(),
            self._hear(reader),
            self._latch(desk, counting),
            self._noticing.abandon(desk, self._recorder.unreceived),
            self._workers.watch(),
            self._forget(desk),
            follow_interfaces(desk),
            SessionWatch(desk).run(),
            every(LOOK_SECONDS, self._look_at_certificate),
        ):
            self._tasks.start(work)
        for listener in listeners:
            self._tasks.start(listener.served())
        self._say({"ready": True, "ports": {"control": self._settings.control_port}})
        await self._stopping.wait()
        self._tasks.stop()
        for listener in listeners:
            await listener.stop(0.3)
        if self._tls_port is not None:
            await self._tls_port.stop(0.1)
        await self._recorder.recover(None, self._live_segments())
        await self._recorder.close()
        try:
            await counting.mark()
        except StoreError as error:
            note_failure(error)
        opened.store.close()
        log.current().flush()
        os._exit(0)

    async def _open_doors(self, desk: Desk) -> list[Listener]:
        from valetkey.api.app import build_api

        local = await self._open_socket(build_api(desk, local=True), self._home.control_socket)
        remote_api = build_api(desk, local=False)
        address, port = self._settings.listen, self._settings.control_port
        if self._certificate is None:
            remote = Listener(remote_api, address=address, port=port)
            await remote.start()
        else:
            remote = await self._open_socket(remote_api, self._home.remote_socket)
            tls = self._certificate.pair.context(PROTOCOLS)
            self._tls_port = TlsPort(self._home.remote_socket, address=address, port=port, tls=tls)
            await self._tls_port.start()
        return [local, remote]

    async def _open_socket(self, api: Any, path: Path) -> Listener:
        path.unlink(missing_ok=True)
        listener = Listener(api, socket=path)
        await listener.start()
        for _ in range(500):
            if path.exists():
                break
            await asyncio.sleep(0.01)
        path.chmod(0o600)
        return listener

    def _look_at_certificate(self, *, at_once: bool = False) -> None:
        if (
            self._certificate is not None
            and self._certificate.look(at_once=at_once)
            and self._tls_port is not None
        ):
            self._tls_port.renew(self._certificate.pair.context(PROTOCOLS))

    def _enlist(self, slot: int, generation: int) -> None:
        if self._counters.next_generation(slot) <= generation:
            self._counters.enlist(slot, generation)

    def _live_segments(self) -> set[str]:
        live = {(f"w{worker.slot}", worker.generation) for worker in self._workers.known.values()}
        return {
            str(name) for name in segments_in(self._home.journal) if (name.writer, name.generation) in live
        }

    async def _begin(self, reader: asyncio.StreamReader) -> None:
        """Hear which workers live already: another control process may have been here before us."""
        while line := await reader.readline():
            message = json.loads(line)
            if "started" in message:
                return
            self._note(message, before_us=True)

    async def _latch(self, desk: Desk, counting: Counting) -> None:
        dropped_at = -DROP_SECONDS
        while True:
            await asyncio.sleep(LATCH_SECONDS)
            log.current().settle()
            try:
                if counting.taken_away:
                    await self._begin_anew(counting)
                await desk.housekeeping.latch_ended()
                await desk.housekeeping.tell_clock()
                await counting.lift_held()
                if time.monotonic() - dropped_at > DROP_SECONDS:
                    dropped_at = time.monotonic()
                    await desk.housekeeping.drop_dead()
            except StoreError as error:
                note_failure(error)

    async def _begin_anew(self, counting: Counting) -> None:
        """The counters were taken away. Nobody may go on in what is lost: a new start fills new ones."""
        log.error(
            "counters_gone",
            "All workers are started anew, with counters that the journal fills.",
            file=str(self._home.counters),
        )
        async with self._workers.joining:  # for good: nobody joins this process any more
            await counting.give_up()
            await self._workers.fence_all()
            log.current().flush()
            os._exit(1)

    async def _forget(self, desk: Desk) -> None:
        looked_at = -float(FORGET_SECONDS)
        while True:
            try:
                await desk.eraser.go_on()
                if time.monotonic() - looked_at > FORGET_SECONDS:
                    looked_at = time.monotonic()
                    await desk.erase_older(self._settings.personal_days)
            except (ValetkeyError, StoreError, OSError) as error:
                note_failure(error)
            await asyncio.sleep(GO_ON_SECONDS)

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            message = json.loads(line)
            self._note(message)
            if message.get("alive") is False:
                # Beside: the worker that takes its place must not wait for it.
                self._tasks.start(self._recover(message["worker"]), may_end=True)

    async def _recover(self, slot: int) -> None:
        await self._recorder.recover(slot, self._live_segments())

    def _note(self, message: dict[str, Any], *, before_us: bool = False) -> None:
        slot, generation = message["worker"], message["generation"]
        if message["alive"]:
            self._workers.alive(slot, generation, before_us=before_us)
        else:
            # With this one store none of its open calls counts any more.
            self._counters.retire(slot)
            self._workers.died(slot, generation)

    def _say(self, message: dict[str, Any]) -> None:
        if self._tell is not None:
            self._tell.write(json.dumps(message).encode() + b"\n")


def _said(error: Exception, home: Home) -> str | None:
    """What the operator is told of an error that ended the start: a sentence and, behind a line's end, a step.

    None for one that nobody foresaw: of those only kind and place are told.
    """
    if isinstance(error, ValetkeyError):
        return f"{error.sentence}\n{error.next_step}"
    if isinstance(error, OSError):
        step = disk_refusal(error)
        return None if step is None else f"The disk of {home.folder} fails ({error.strerror}).\n{step}"
    # One line: its own words hold the step already.
    return str(error)


def main() -> None:
    """Entry point of the control process; started by the supervisor only."""
    parser = argparse.ArgumentParser(prog="valetkey-control", allow_abbrev=False)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--supervisor-fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    given = parser.parse_args()
    begin_child(given.parent)
    go_first()
    settings = settings_from_flags(sys.stdin.readline())
    log.configure("control", style=settings.log_format, level=settings.log_level)
    uvloop.run(ControlProcess(Home(given.home), settings, given.supervisor_fd).run())


if __name__ == "__main__":
    main()
