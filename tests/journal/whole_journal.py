"""A small ended journal as a server leaves it, with every kind of record: two runs, a worker that was killed in the
middle of a record, an erasure by age and one by party. Every byte of it can be damaged and restored.
"""

from __future__ import annotations

import os
from pathlib import Path

from journal_world import PUBLIC_KEY
from served_journal import Served

from valetkey.journal.call_id import RANDOM_BYTES, call_id
from valetkey.journal.chain import segment_path
from valetkey.journal.records import Audit, Flood, Personal
from valetkey.journal.verdict import Report
from valetkey.journal.verify import verify_journal

Heads = dict[str, tuple[int, str]]


def whole_journal(folder: Path, calls: int = 1) -> tuple[Served, Heads]:
    """Write it; also the heads that the store would keep. `calls`: more of them make it longer."""
    served = Served(folder)
    world = served.world
    first, second = served.worker("w0", named=True), served.worker("w1")
    served.control.append(Audit(world.tick(), "key:issue", "owner", entry="aud_1", subject="key_1"))
    for _ in range(calls):
        world.call(first, holder="prt_a")
        world.call(first, holder="prt_b")
        world.refusal(second)
    served.tick()
    now = world.tick()
    flood = Flood(call_id(int(now * 1000), world.random.take(RANDOM_BYTES)), now, "MALFORMED", 7, now - 1)
    second.append(flood, personal=Personal("2001:db8::"))
    served.erase(party="prt_a")
    first.append(world.opened(), personal=Personal("203.0.113.9"))
    torn, name = b'{"seq":9,"kind":"opened","call":"019', first.name
    first.close()
    with segment_path(served.folder, name).open("ab") as file:
        file.write(torn)
    second.seal(world.tick())
    second.close()
    served.recover()
    served.stop()
    served.start()
    third = served.worker("w0", named=True)
    for _ in range(calls):
        world.call(third, holder="prt_b")
    served.erase(older_than=now - 1)
    third.seal(world.tick())
    third.close()
    served.stop()
    return served, dict(served.checkpoints.signed | served.tailer.heads())


class Whole:
    """The journal with what its files held."""

    def __init__(self, folder: Path, calls: int = 1) -> None:
        served, self.heads = whole_journal(folder, calls)
        self.folder = served.folder
        self.files = {path.name: path.read_bytes() for path in sorted(self.folder.iterdir())}

    @property
    def segments(self) -> list[str]:
        return [name for name in self.files if name.endswith(".seg")]

    @property
    def beside(self) -> list[str]:
        return [name for name in self.files if name.endswith(".personal") and self.files[name]]

    def lines(self, file: str) -> list[bytes]:
        return self.files[file].splitlines(keepends=True)

    def with_file(self, file: str, content: bytes | None, stored: bool = True) -> Report:
        """What the proof says of the journal with one file changed or gone (None)."""
        return self.with_files({file: content}, stored)

    def with_files(self, files: dict[str, bytes | None], stored: bool = True) -> Report:
        try:
            for file, content in files.items():
                if content is None:
                    os.unlink(self.folder / file)
                else:
                    (self.folder / file).write_bytes(content)
            return self.verify(stored)
        finally:
            for file in files:
                if file in self.files:
                    (self.folder / file).write_bytes(self.files[file])
                else:
                    os.unlink(self.folder / file)

    def with_byte(self, file: str, at: int, byte: int) -> Report:
        """What the proof says with one byte changed."""
        descriptor = os.open(self.folder / file, os.O_WRONLY)
        try:
            os.pwrite(descriptor, bytes([byte]), at)
            return self.verify()
        finally:
            os.pwrite(descriptor, self.files[file][at : at + 1], at)
            os.close(descriptor)

    def with_cut(self, file: str, size: int) -> Report:
        """What the proof says with the rest of a file cut off."""
        try:
            os.truncate(self.folder / file, size)
            return self.verify()
        finally:
            with (self.folder / file).open("ab") as restored:
                restored.write(self.files[file][size:])

    def verify(self, stored: bool = True) -> Report:
        return verify_journal(self.folder, [PUBLIC_KEY], self.heads if stored else {})
