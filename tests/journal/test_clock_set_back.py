"""A clock set back between two starts: later segments have earlier names, and the journal is whole all the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from journal_world import PUBLIC_KEY
from served_journal import Served

from valetkey.journal.admission import read_admission
from valetkey.journal.chain import segment_path, segments_in
from valetkey.journal.checkpoint import last_checkpoint
from valetkey.journal.proof import check_proof
from valetkey.journal.prover import prove_record
from valetkey.journal.read import events
from valetkey.journal.records import Checkpoint, Opened
from valetkey.journal.tail import Tailer
from valetkey.journal.verify import verify_journal
from valetkey.journal.witness import WitnessFile, line_of

HOUR = 3600.0


@pytest.fixture
def served(tmp_path: Path) -> Served:
    """A journal whose clock was three hours ahead, and then was set right."""
    served = Served(tmp_path)
    live(served)
    restart(served, -3 * HOUR)
    return served


def live(served: Served) -> Opened:
    """A worker's whole life, with one call."""
    worker = served.worker(named=True)
    call = served.world.call(worker)
    served.tick()
    worker.seal(served.world.tick())
    worker.close()
    return call


def restart(served: Served, moved: float = 0.0) -> None:
    served.stop()
    served.world.now += moved
    served.start()


def signed(served: Served) -> list[Checkpoint]:
    return [entry.record for entry in served.read if isinstance(entry.record, Checkpoint)]


def test_it_is_proven_while_it_is_written_and_at_rest(served: Served, tmp_path: Path) -> None:
    controls = [name for name in segments_in(served.folder) if name.control]
    assert str(controls[0]) == served.control.name, "the later segment has the earlier name"
    for moved in (0.0, -HOUR, 0.0, 5 * HOUR, 0.0):
        live(served)
        report = served.verify()
        assert (report.integrity, report.completeness, report.problems) == ("ok", "ok", [])
        restart(served, moved)
    served.stop()
    report = served.verify_at_rest()
    assert (report.integrity, report.completeness, report.problems) == ("ok", "ok", [])

    numbers = {one.number: one for one in signed(served)}
    assert sorted(numbers) == [*range(1, report.checkpoints + 1)], "no number is given twice"
    last = last_checkpoint(served.folder, PUBLIC_KEY)
    assert last is not None and last.number == report.checkpoints

    held = tmp_path / "witness"
    held.write_bytes(b"".join(line_of(numbers[number]) + b"\n" for number in sorted(numbers)))
    witness = WitnessFile(held)
    seen = verify_journal(served.folder, [PUBLIC_KEY], {}, witness=witness)
    witness.close()
    assert (seen.integrity, seen.completeness, seen.problems) == ("ok", "ok", [])


def test_what_is_taken_out_of_it_is_missed(served: Served) -> None:
    live(served)
    restart(served)
    served.stop()
    assert served.verify_at_rest().problems == []
    for name in [name for name in segments_in(served.folder) if name.control]:
        if str(name) == served.control.name:
            continue  # the end that is cut off: what only heads outside show
        path = segment_path(served.folder, name)
        content = path.read_bytes()
        path.unlink()
        report = served.verify_at_rest()
        assert (report.integrity, report.completeness) == ("broken", "broken")
        path.write_bytes(content)


def test_every_reader_finds_what_was_written_on_both_sides(served: Served) -> None:
    calls = [live(served)]
    restart(served)
    calls.append(live(served))
    served.tick()
    admission = read_admission(served.folder, [PUBLIC_KEY])
    assert all(admission(name) for name in segments_in(served.folder))
    opened = {entry.record.call: entry.record for entry in served.read if isinstance(entry.record, Opened)}
    ahead, *right = sorted(opened.values(), key=lambda record: -record.time)
    assert [one.call for one in right] == [one.call for one in reversed(calls)]
    for one in (ahead, *right):
        proof = prove_record(served.folder, PUBLIC_KEY, one.call, admit=admission)
        assert check_proof(proof, PUBLIC_KEY).verdict == "ok"

    # Newest first by what the records say, each once, also page by page.
    whole = [event.call for event in events(served.folder).items]
    assert whole == [one.call for one in (ahead, *right)]
    paged: list[str] = []
    cursor = None
    while True:
        page = events(served.folder, limit=1, cursor=cursor)
        paged += [event.call for event in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert paged == whole


def test_the_checkpoint_behind_the_last_seal_is_read(served: Served) -> None:
    tailer = Tailer(served.folder)
    tailer.poll()
    live(served)
    served.recover()
    served.tick()
    served.control.seal(served.world.tick())
    tailer.poll()  # sees the seal before the checkpoint is there
    last = served.checkpoints.make(served.tailer.heads(), served.now_ms, 0)
    assert last in [entry.record for entry in tailer.poll().entries]
    tailer.close()
    served.kill()
