"""A small ended journal that verifies fully, to be damaged in every way and restored."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from journal_world import PUBLIC_KEY, World

from models import chain_model as model
from valetkey.journal.chain import segment_path, segments_in
from valetkey.journal.records import Audit
from valetkey.journal.verdict import Report
from valetkey.journal.verify import verify_journal


def proven_journal(folder: Path) -> tuple[World, dict[str, tuple[int, str]]]:
    """A small ended journal that verifies fully, and the heads the store would keep."""
    world = World(folder)
    control, first, second = world.writer("control"), world.writer("w0"), world.writer("w1")
    checkpoints, tailer = world.checkpointer(control), world.tailer()

    def checkpoint() -> None:
        tailer.poll()
        checkpoints.make(tailer.heads(), int(world.now * 1000), 0)

    control.append(Audit(world.tick(), "key:issue", "owner", subject="key_1"))
    world.call(first)
    world.refusal(second)
    checkpoint()
    world.call(second, holder="prt_1")
    world.call(first)
    control.append(Audit(world.tick(), "key:revoke", "owner", subject="key_1"))
    checkpoint()
    world.refusal(first, code="REVOKED")
    for writer in (first, second, control):
        writer.seal(world.tick())
    checkpoint()
    heads = {writer.name: (writer.count, writer.head) for writer in (first, second, control)}
    for writer in (first, second, control):
        writer.close()
    tailer.close()
    return world, heads


class Proven:
    """A proven journal that can be damaged and restored."""

    def __init__(self, folder: Path) -> None:
        world, self.heads = proven_journal(folder)
        self.folder = world.folder
        self.names = [str(name) for name in segments_in(self.folder)]
        self.files = {path.name: path.read_bytes() for path in sorted(self.folder.iterdir())}

    def restore(self) -> None:
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        for name, content in self.files.items():
            (self.folder / name).write_bytes(content)

    def verify(self, stored: bool = True) -> Report:
        return verify_journal(self.folder, [PUBLIC_KEY], self.heads if stored else {})

    def segments(self) -> Iterator[tuple[str, Path, list[bytes]]]:
        for name in self.names:
            path = segment_path(self.folder, name)
            yield name, path, self.files[path.name].splitlines(keepends=True)


def named(report: Report) -> set[tuple[str, int | None, str]]:
    return {(problem.segment, problem.seq, problem.what) for problem in report.problems}


def rechained(name: str, lines: list[bytes]) -> bytes:
    """What a forger without the signing key writes: a chain that is right in itself."""
    return model.segment_bytes(name, [line[:-66] for line in lines])
