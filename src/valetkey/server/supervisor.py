"""The supervisor: starts the control process and the workers, starts dead ones anew, ends the whole tree.

It holds no key and opens no port. The control process tells it over a socket pair which worker to fence; it
answers when that worker is dead.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from valetkey import log
from valetkey.errors import Unavailable
from valetkey.journal.chain import segments_in
from valetkey.server.home import Home
from valetkey.server.settings import settings_to_flags
from valetkey.settings import Settings

STOP_SECONDS = 5.0
"""SIGTERM ends the whole tree within this."""
START_SECONDS = 60.0
"""A control process that is not ready by then will not be."""
ALIVE_SECONDS = 1.0
"""How often a control process says that it goes on."""
SILENT_SECONDS = 10.0
"""One that serves and says nothing for so long, twice, stands still and is killed: its workers refuse long since."""
BEGINNING_SECONDS = START_SECONDS / 2
"""The same for one that does not serve yet: what it does first, such as a migration, may hold it up."""
QUICK_DEATH_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 2.0
_ENDLESS = 2**32 - 2**20
"""Generations beyond are nobody's: a million starts away from what a counter can hold."""


@dataclass(slots=True)
class Child:
    """A process of ours."""

    name: str
    process: asyncio.subprocess.Process
    started: float
    generation: int = 0
    dead: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """One process tree."""

    def __init__(self, home: Home, settings: Settings) -> None:
        self.home = home
        self.settings = settings
        # By standard input, not as an argument: a database URL may carry a password.
        self._settings_line = settings_to_flags(settings).encode() + b"\n"
        self._stopping = asyncio.Event()
        self._control: Child | None = None
        self._control_ready = asyncio.Event()
        self._control_failed: str | None = None
        self._workers: dict[int, Child] = {}
        self._ready_workers: set[int] = set()
        self._all_ready = asyncio.Event()
        # No generation comes twice, not even where the clock was set back since.
        used = [name.generation for name in segments_in(home.journal)] if home.journal.is_dir() else []
        self._generation = max([int(time.time()), *(number for number in used if number < _ENDLESS)])
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._broken = False
        self.ports: dict[str, int] = {}

    async def start(self) -> None:
        """Start everything and return when all workers serve. Raises `Unavailable` when it cannot."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._stopping.set)
        # Whose terminal goes away ends with it; without one it is how a service is told to look at its files.
        hang_up = self._stopping.set if _has_terminal() else self._look_at_certificate
        loop.add_signal_handler(signal.SIGHUP, hang_up)
        self._spawn(self._keep_control())
        await self._wait_for(self._control_ready)
        for slot in range(self.settings.workers):
            self._spawn(self._keep_worker(slot))
        await self._wait_for(self._all_ready)

    async def wait(self) -> None:
        """Serve until told to stop, then end the tree. Raises `Unavailable` when it ends because of a failure."""
        await self._stopping.wait()
        await self.stop()
        if self._broken:
            raise Unavailable("The supervisor failed.", "Look at its messages above, and start it again.")

    async def stop(self) -> None:
        """End workers first, then the control process; kill what does not end in time."""
        self._stopping.set()
        deadline = time.monotonic() + STOP_SECONDS - 1.0
        workers = [child for child in self._workers.values() if not child.dead.is_set()]
        await _end(workers, deadline - 1.0)
        if self._control is not None and not self._control.dead.is_set():
            await _end([self._control], deadline)
        for task in list(self._tasks):
            task.cancel()

    def _look_at_certificate(self) -> None:
        for child in (self._control, *self._workers.values()):
            if child is not None and child.process.returncode is None:
                child.process.send_signal(signal.SIGHUP)

    def _spawn(self, work) -> None:  # type: ignore[no-untyped-def]
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A keeper that is gone would leave a server in which nothing is started anew: rather none at all."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.note_failure(error)
            self._broken = True
            self._stopping.set()

    async def _wait_for(self, event: asyncio.Event) -> None:
        waiters = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._stopping.wait())]
        done, pending = await asyncio.wait(
            waiters, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        for waiter in pending:
            waiter.cancel()
        if self._control_failed is not None:
            await self.stop()
            raise Unavailable(*_sentences(self._control_failed))
        if not done:
            await self.stop()
            raise Unavailable("The server did not become ready in time.", "Look at its messages above.")

    async def _keep_control(self) -> None:
        backoff = 0.0
        while not self._stopping.is_set():
            ours, theirs = socket.socketpair()
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "valetkey.server.control",
                "--home", str(self.home.folder), "--supervisor-fd", str(theirs.fileno()), "--parent", str(os.getpid()),
                pass_fds=[theirs.fileno()], stdin=asyncio.subprocess.PIPE,
            )  # fmt: skip
            theirs.close()
            self._hand_settings(process)
            child = self._control = Child("control", process, time.monotonic())
            if self._writer is not None:
                self._writer.close()
            reader, self._writer = await asyncio.open_connection(sock=ours)
            for slot, worker in self._workers.items():
                if not worker.dead.is_set():
                    self._tell_control({"worker": slot, "generation": worker.generation, "alive": True})
            self._tell_control({"started": True})
            if not await self._listen(reader):
                log.warning("control_silent", "It stood still and is killed.")
                process.kill()
            await process.wait()
            child.dead.set()
            if not self._control_ready.is_set():
                # It never served: what stopped it will stop it again, so say why and end.
                self._control_failed = (
                    self._control_failed or "The control process ended before it was ready."
                )
                self._stopping.set()
                return
            if not self._stopping.is_set():
                if self._control_failed is not None:
                    # Said here and not there, so that a start that fails says it once.
                    log.error("control_failed", " ".join(_sentences(self._control_failed)).strip())
                    self._control_failed = None
                log.warning("control_ended", "It is started anew.", status=process.returncode)
            backoff = _next_backoff(backoff, child)
            await asyncio.sleep(backoff)

    async def _listen(self, reader: asyncio.StreamReader) -> bool:
        """Hear the control process until it is gone, or for False: until it stands still."""
        patience = BEGINNING_SECONDS
        while True:
            try:
                line = await _line(reader, patience)
            except TimeoutError:
                return False
            if not line:
                return True
            message = json.loads(line)
            if "ready" in message:
                patience = SILENT_SECONDS
                self.ports.update(message["ports"])
                self._control_ready.set()
            elif "failed" in message:
                self._control_failed = message["failed"]
            elif "fence" in message:
                self._spawn(self._fence(message["fence"], message["generation"]))
            elif "serving" in message:
                self._ready_workers.add(message["serving"])
                if len(self._ready_workers) >= self.settings.workers:
                    self._all_ready.set()

    async def _keep_worker(self, slot: int) -> None:
        backoff = 0.0
        while not self._stopping.is_set():
            # A name of its own: the next worker takes the next generation while this one is being started.
            generation = self._generation = max(self._generation + 1, int(time.time()))
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "valetkey.server.worker",
                "--home", str(self.home.folder), "--slot", str(slot), "--generation", str(generation),
                "--parent", str(os.getpid()), stdin=asyncio.subprocess.PIPE,
            )  # fmt: skip
            self._hand_settings(process)
            log.debug("worker_started", slot=slot, generation=generation, pid=process.pid)
            child = self._workers[slot] = Child(f"worker {slot}", process, time.monotonic(), generation)
            self._tell_control({"worker": slot, "generation": child.generation, "alive": True})
            await process.wait()
            child.dead.set()
            self._tell_control({"worker": slot, "generation": child.generation, "alive": False})
            if self._stopping.is_set():
                return
            log.warning(
                "worker_ended",
                "It is started anew.",
                slot=slot,
                generation=generation,
                status=process.returncode,
            )
            backoff = _next_backoff(backoff, child)
            await asyncio.sleep(backoff)

    def _hand_settings(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        process.stdin.write(self._settings_line)
        process.stdin.write_eof()

    async def _fence(self, slot: int, generation: int) -> None:
        child = self._workers.get(slot)
        if child is not None and child.generation == generation and not child.dead.is_set():
            log.warning("worker_fenced", "It did not acknowledge in time.", slot=slot, generation=generation)
            child.process.kill()

    def _tell_control(self, message: dict[str, object]) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")


async def _line(reader: asyncio.StreamReader, patience: float) -> bytes:
    """The next whole line, empty when the other side is gone: also if it died with something unread.

    Raises TimeoutError when none comes for `patience` seconds, twice: after a sleep of the whole machine the first
    has run out before the other side had its turn.
    """
    try:
        for _ in range(2):
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    line = await reader.readline()
                    return line if line.endswith(b"\n") else b""
        raise TimeoutError
    except ConnectionError:
        return b""


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _next_backoff(backoff: float, child: Child) -> float:
    """At once after a long life, slower after each quick death; never giving up."""
    if time.monotonic() - child.started > QUICK_DEATH_SECONDS:
        return 0.0
    return min(MAX_BACKOFF_SECONDS, backoff * 2 or 0.1)


async def _end(children: Sequence[Child], deadline: float) -> None:
    for child in children:
        if child.process.returncode is None:
            child.process.terminate()
    waits = [asyncio.ensure_future(child.process.wait()) for child in children]
    if waits:
        await asyncio.wait(waits, timeout=max(0.1, deadline - time.monotonic()))
    for child in children:
        if child.process.returncode is None:
            child.process.kill()
            await child.process.wait()


def _sentences(text: str) -> tuple[str, str]:
    sentence, _, next_step = text.partition("\n")
    return sentence, next_step
