"""A journal with its control process, as a server keeps it: starts, ticks, erases, proves, is killed."""

from __future__ import annotations

from pathlib import Path

from journal_world import PUBLIC_KEY, SIGNING_KEY, World

from models import chain_model as model
from valetkey.journal.admission import read_admission
from valetkey.journal.chain import SegmentName, personal_path, segment_path, segments_in
from valetkey.journal.checkpoint import Checkpointer, last_checkpoint
from valetkey.journal.errors import SegmentLive
from valetkey.journal.notes import Notary
from valetkey.journal.personal import erase_personal
from valetkey.journal.records import Opened
from valetkey.journal.recover import finish_erasures, recover_segment
from valetkey.journal.segment import SegmentWriter
from valetkey.journal.tail import Entry, Tailer
from valetkey.journal.verdict import Report
from valetkey.journal.verify import verify_journal


class Served:
    """A journal that is being served."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder)
        self.folder = self.world.folder
        self.read: list[Entry] = []
        self.problems: list[tuple[str, str]] = []
        self.start()

    @property
    def now_ms(self) -> int:
        return int(self.world.tick() * 1000)

    def start(self) -> None:
        self.admission = read_admission(self.folder, [PUBLIC_KEY])
        finish_erasures(self.folder, [PUBLIC_KEY])
        self.tailer = Tailer(self.folder, admit=self.admission)
        last = (
            last_checkpoint(self.folder, PUBLIC_KEY, admit=self.admission) if self.folder.exists() else None
        )
        self.control = self.world.writer("control")
        self.notary = Notary(SIGNING_KEY, self.control)
        self.admission.announce(self.notary.started_itself(self.now_ms))
        self.checkpoints = Checkpointer(SIGNING_KEY, self.control, last, 0)
        self.recover()
        self.tick()

    def worker(self, writer: str = "w0", *, named: bool = False) -> SegmentWriter:
        """The supervisor says that it lives; then it makes its segment."""
        before = self.now_ms
        made = self.world.writer(writer)
        name = SegmentName.parse(made.name)
        segment = made.name if named else None
        started = self.notary.started(writer, name.generation, before, self.now_ms, segment=segment)
        self.admission.announce(started)
        return made

    def poll(self) -> list[Entry]:
        batch = self.tailer.poll()
        self.read += batch.entries
        self.problems += [(problem.segment, problem.what) for problem in batch.problems]
        return batch.entries

    def tick(self) -> None:
        self.poll()
        self.checkpoints.make(self.tailer.heads(), self.now_ms, 0)
        self.poll()

    def recover(self) -> None:
        self.poll()
        for name in segments_in(self.folder):
            if self.admission(name) and str(name) != self.control.name:
                try:
                    recover_segment(segment_path(self.folder, name), time=self.world.tick())
                except SegmentLive:
                    continue
        self.poll()

    def erase(self, *, older_than: float | None = None, party: str | None = None) -> int:
        return erase_personal(
            self.folder,
            older_than=older_than,
            party=party,
            note=lambda erasure: self.notary.erased(erasure, self.now_ms),
        )

    def verify(self) -> Report:
        """As a running server proves: up to a checkpoint made now."""
        self.tick()
        heads = dict(self.checkpoints.signed)
        return verify_journal(self.folder, [PUBLIC_KEY], heads, upto=heads)

    def verify_at_rest(self) -> Report:
        return verify_journal(self.folder, [PUBLIC_KEY], {})

    def kill(self) -> None:
        self.control.close()
        self.tailer.close()

    def stop(self) -> None:
        self.recover()
        self.tick()
        self.control.seal(self.world.tick())
        self.tick()
        self.kill()

    def calls(self) -> list[str | None]:
        """Paths of all calls that were read, and so charged."""
        return [entry.record.path for entry in self.read if isinstance(entry.record, Opened)]

    def forge(self, like: SegmentWriter, writer: str, generation: int, start_ms: int | None = None) -> str:
        """What someone with the folder but without the key can do: a segment that is right in itself."""
        start = start_ms if start_ms is not None else int(self.world.tick() * 1000)
        name = f"{start:020d}-{writer}-{generation}"
        content = segment_path(self.folder, like.name).read_bytes().replace(b'"/now"', b'"/forged"')
        payloads = [line[:-65] for line in content.split(b"\n")[:-1]]
        segment_path(self.folder, name).write_bytes(model.segment_bytes(name, payloads))
        personal_path(self.folder, name).write_bytes(personal_path(self.folder, like.name).read_bytes())
        return name
