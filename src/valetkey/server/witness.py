"""Sends each checkpoint to witnesses outside: files on another disk, and programs that take requests.

Each has a thread and a bounded queue of its own: nothing here holds up a checkpoint, let alone a call. What cannot be
delivered is tried again and told as a degradation.
"""

from __future__ import annotations

import http.client
import os
import ssl
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from valetkey import log
from valetkey.journal.chain import segment_path
from valetkey.journal.records import Checkpoint
from valetkey.journal.witness import line_of
from valetkey.settings import is_url

MOST_WAITING = 10_000
"""Checkpoints kept for a file that cannot be written: nearly three hours of them, some 6 MB. Older ones are left out,
which costs no proof: the next one holds the digest of all before it."""
URL_SECONDS = 10.0
"""A program gets at most one checkpoint in this time, the newest."""
REQUEST_SECONDS = 10.0
"""How long it may take to answer."""
RETRY_SECONDS = (1.0, 60.0)
"""Wait after the first failure, doubled after each further one, and the longest wait."""
LAST_SECONDS = 1.0
"""How long the last checkpoints may take to be delivered when the server stops: it has promised to end soon."""
MOST_ANSWER = 65_536
"""Bytes of an answer that are read, so that the connection ends well."""


class Undelivered(Exception):
    """Why a witness does not have what it was sent; one sentence without its point."""


class Place(Protocol):
    """Where checkpoints go."""

    pace: float
    """Least seconds between two deliveries."""
    newest_only: bool

    @property
    def name(self) -> str:
        """How it is called towards people. Never anything secret of a URL."""

    def deliver(self, lines: list[bytes]) -> None:
        """Bring them there, or raise `Undelivered` or `OSError`."""


class FilePlace:
    """A file that only grows."""

    pace = 0.0
    newest_only = False

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        return str(self._path)

    def deliver(self, lines: list[bytes]) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        descriptor = os.open(self._path, flags, 0o600)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Undelivered("it is not a file")
            block = b"".join(line + b"\n" for line in lines)
            if status.st_size and os.pread(descriptor, 1, status.st_size - 1) != b"\n":
                block = b"\n" + block  # behind a line that a full disk cut off
            while block:
                block = block[os.write(descriptor, block) :]
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)


class UrlPlace:
    """A program that takes each checkpoint by POST. Redirects are not followed."""

    pace = URL_SECONDS
    newest_only = True

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self.name = f"{parts.scheme}://{parts.netloc}"

    def deliver(self, lines: list[bytes]) -> None:
        connection: http.client.HTTPConnection
        if self._secure:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=REQUEST_SECONDS, context=ssl.create_default_context()
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=REQUEST_SECONDS)
        try:
            for line in lines:
                connection.request(
                    "POST", self._target, line, {"Content-Type": "application/json", "User-Agent": "valetkey"}
                )
                answer = connection.getresponse()
                answer.read(MOST_ANSWER)
                if not 200 <= answer.status < 300:
                    raise Undelivered(f"it answered {answer.status}")
        except http.client.HTTPException:
            raise Undelivered("its answer is not HTTP") from None
        finally:
            connection.close()


class Deliverer:
    """Brings checkpoints to one place, from a thread of its own."""

    def __init__(self, place: Place, durable: Callable[[Checkpoint], None]) -> None:
        """`durable` returns when what a checkpoint signs is on the disk."""
        self._place = place
        self._durable = durable
        self._waiting: deque[Checkpoint] = deque(maxlen=1 if place.newest_only else MOST_WAITING)
        self._ready = threading.Condition()
        self._closing = False
        self._failed: tuple[float, str] | None = None
        self._left_out = 0
        self._thread = threading.Thread(target=self._run, name=f"witness {place.name}", daemon=True)
        self._thread.start()

    def offer(self, checkpoint: Checkpoint) -> None:
        """Take a checkpoint; returns at once."""
        with self._ready:
            if len(self._waiting) == self._waiting.maxlen and not self._place.newest_only:
                self._left_out += 1
            self._waiting.append(checkpoint)
            self._ready.notify()

    @property
    def trouble(self) -> str | None:
        """Why the witness lacks checkpoints, in one sentence; None while it has them."""
        with self._ready:
            if self._failed is None:
                return None
            since, why = self._failed
            clock = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(since))
            said = f"The witness {self._place.name} gets no checkpoints since {clock}: {why}."
            if self._left_out:
                said += f" {self._left_out} of them were left out; the next one vouches for them."
            return said

    def close(self) -> None:
        """Deliver what waits now, try nothing again, and end."""
        with self._ready:
            self._closing = True
            self._ready.notify()

    def join(self, seconds: float) -> None:
        """Wait for the end, at most so long."""
        self._thread.join(seconds)

    def _run(self) -> None:
        wait = RETRY_SECONDS[0]
        while True:
            with self._ready:
                while not self._waiting:
                    if self._closing:
                        return
                    self._ready.wait()
                taken = list(self._waiting)
                self._waiting.clear()
            try:
                for checkpoint in taken:
                    self._durable(checkpoint)
                self._place.deliver([line_of(checkpoint) for checkpoint in taken])
            except (Undelivered, OSError) as error:
                self._fail(_why(error), taken)
                pause, wait = wait, min(wait * 2, RETRY_SECONDS[1])
            except Exception as error:  # a fault of ours must not end the thread unseen
                log.note_failure(error)
                self._fail("there was an internal error, which stands in the log", taken)
                pause, wait = RETRY_SECONDS[1], RETRY_SECONDS[1]
            else:
                with self._ready:
                    failed, self._failed, self._left_out = self._failed, None, 0
                if failed is not None:
                    log.info("witness_recovered", witness=self._place.name)
                pause, wait = self._place.pace, RETRY_SECONDS[0]
            with self._ready:
                failing = self._failed is not None
                self._ready.wait_for(lambda: self._closing, pause)
                if self._closing and failing:
                    return

    def _fail(self, why: str, taken: Iterable[Checkpoint]) -> None:
        with self._ready:
            begins = self._failed is None
            since = self._failed[0] if self._failed is not None else time.time()
            self._failed = (since, why)
            for checkpoint in reversed([*taken]):
                if len(self._waiting) == self._waiting.maxlen:
                    if not self._place.newest_only:
                        self._left_out += 1
                else:
                    self._waiting.appendleft(checkpoint)
        if begins:  # once, not at each try
            log.warning("witness_undelivered", f"It gets no checkpoints: {why}.", witness=self._place.name)


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"its TLS cannot be trusted ({error.reason or 'handshake failed'})"
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, OSError):
        return (error.strerror or str(error) or type(error).__name__).lower()
    return str(error)


class Witnesses:
    """All that are configured."""

    def __init__(self, places: Iterable[str], journal: Path) -> None:
        """`places` as `Settings.witness` has them."""
        self._deliverers = [
            Deliverer(UrlPlace(place) if is_url(place) else FilePlace(Path(place)), self._durable)
            for place in places
        ]
        self._journal = journal

    def offer(self, checkpoint: Checkpoint) -> None:
        """Send it everywhere; returns at once."""
        for deliverer in self._deliverers:
            deliverer.offer(checkpoint)

    @property
    def troubles(self) -> list[str]:
        """One sentence for each witness that lacks checkpoints."""
        return [said for deliverer in self._deliverers if (said := deliverer.trouble) is not None]

    def close(self) -> None:
        """End, having tried for a moment to deliver the last one."""
        for deliverer in self._deliverers:
            deliverer.close()
        deadline = time.monotonic() + LAST_SECONDS
        for deliverer in self._deliverers:
            deliverer.join(max(0.0, deadline - time.monotonic()))

    def _durable(self, checkpoint: Checkpoint) -> None:
        """Bring what is signed to the disk: a witness must not hold what a loss of power takes from the journal."""
        for segment in checkpoint.segments:
            try:
                descriptor = os.open(segment_path(self._journal, segment), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
