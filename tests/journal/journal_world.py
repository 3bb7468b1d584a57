"""A small world for tests of the journal: a folder, writers, calls, a signing key."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from valetkey.journal.call_id import RANDOM_BYTES, call_id
from valetkey.journal.chain import SegmentName
from valetkey.journal.checkpoint import Checkpointer
from valetkey.journal.randomness import RandomPool
from valetkey.journal.records import Closed, End, Opened, Personal
from valetkey.journal.segment import SegmentWriter
from valetkey.journal.tail import Tailer

START = 1_764_000_000.0
SIGNING_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC_KEY = SIGNING_KEY.public_key()


class World:
    """A journal being written. Time moves a tenth of a second a call."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "journal"
        self.random = RandomPool()
        self.now = START
        self._generations: Iterator[int] = itertools.count(1)

    def tick(self) -> float:
        self.now = round(self.now + 0.1, 3)
        return self.now

    def writer(self, writer: str = "w0") -> SegmentWriter:
        name = SegmentName(int(self.tick() * 1000), writer, next(self._generations))
        return SegmentWriter(self.folder, name, time=self.now, random=self.random)

    def opened(self, code: str = "VALID", **fields: Any) -> Opened:
        now = self.tick()
        call = call_id(int(now * 1000), self.random.take(RANDOM_BYTES))
        facts: dict[str, Any] = {"service": "weather", "key_id": "key_1", "method": "GET", "path": "/now"}
        return Opened(call, now, code, **(facts | fields))

    def closed(self, opened: Opened, end: End = End.COMPLETE, **fields: Any) -> Closed:
        return Closed(opened.call, self.tick(), end, **fields)

    def call(self, writer: SegmentWriter, address: str = "203.0.113.7", **fields: Any) -> Opened:
        """One call that went well."""
        opened = self.opened(**fields)
        writer.append(opened, personal=Personal(address, "curl/8"))
        writer.append(self.closed(opened, status=200, bytes_out=10, cost=5))
        return opened

    def refusal(self, writer: SegmentWriter, code: str = "EXPIRED", **fields: Any) -> Opened:
        opened = self.opened(code, **fields)
        writer.append(opened, self.closed(opened, End.REFUSED, status=401), personal=Personal("203.0.113.8"))
        return opened

    def checkpointer(self, control: SegmentWriter) -> Checkpointer:
        return Checkpointer(SIGNING_KEY, control, None, 0)

    def tailer(self) -> Tailer:
        return Tailer(self.folder)
