"""Recovery of a dead writer's segment: nothing acknowledged is lost, the tear is named, the end is sealed."""

from __future__ import annotations

import hashlib
import os
import random
import signal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_world import PUBLIC_KEY, World

from models import chain_model as model
from valetkey.journal import recover
from valetkey.journal.chain import SegmentName, personal_path, segment_path
from valetkey.journal.errors import SegmentLive
from valetkey.journal.read import events
from valetkey.journal.records import Personal
from valetkey.journal.recover import Recovery, recover_segment
from valetkey.journal.verify import verify_journal

LATER = 1_764_000_900.0


class CrashError(Exception):
    """The process dies here."""


def dead_segment(folder: Path) -> tuple[str, bytes, bytes]:
    """A segment whose writer died with one call open: its name, content and what stands beside."""
    world = World(folder)
    writer = world.writer()
    world.call(writer)
    world.refusal(writer)
    writer.append(world.opened(cost_reserved=700), personal=Personal("203.0.113.9"))
    world.call(writer)
    writer.close()
    content = segment_path(world.folder, writer.name).read_bytes()
    return writer.name, content, personal_path(world.folder, writer.name).read_bytes()


def lay(folder: Path, name: str, content: bytes, beside: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    path = segment_path(folder, name)
    path.write_bytes(content)
    personal_path(folder, name).write_bytes(beside)
    return path


def check(path: Path, recovery: Recovery, good_before: bytes) -> list[dict[str, object]]:
    """What holds after every recovery."""
    name = path.stem
    content = path.read_bytes()
    records, rest, good = model.read_segment(name, content)
    assert good
    assert rest == b""
    assert content.startswith(good_before)
    assert records[-1]["kind"] == "sealed"
    assert model.open_calls(records) == []
    assert recovery.problem is None
    assert (recovery.count, recovery.head) == (len(records), content[-65:-1].decode())
    beside = model.personal_fields(personal_path(path.parent, name).read_bytes())
    committed = {record["seq"]: record["personal"] for record in records if "personal" in record}
    assert {number: found[0] for number, found in beside.items() if found is not None} == committed
    again = recover_segment(path, time=LATER)
    assert again.already_sealed
    assert (again.count, again.head, again.interrupted) == (recovery.count, recovery.head, ())
    assert path.read_bytes() == content
    return records


def whole_lines(content: bytes) -> bytes:
    return content[: content.rfind(b"\n") + 1]


def test_a_tear_at_any_byte_is_cut_off_named_and_sealed(tmp_path: Path) -> None:
    name, content, beside = dead_segment(tmp_path)
    last_lines = content[:-1].rfind(b"\n", 0, content[:-1].rfind(b"\n"))  # the last two records, every byte
    cuts = {*range(last_lines - 1, len(content) + 1), *range(0, len(content), 97), 0, 1}
    for cut in sorted(cuts):
        path = lay(tmp_path / "cut", name, content[:cut], beside)
        recovery = recover_segment(path, time=LATER)
        kept = whole_lines(content[:cut])
        records = check(path, recovery, kept)
        torn = content[len(kept) : cut]
        assert recovery.torn_bytes == len(torn)
        named = next(record for record in records if record["kind"] == "recovered")
        if torn:
            assert named["torn_offset"] == len(kept)
            assert named["torn_bytes"] == len(torn)
            assert named["torn_sha256"] == hashlib.sha256(torn).hexdigest()
        else:
            assert "torn_offset" not in named


def test_a_call_found_open_is_closed_as_interrupted_and_charged_its_reservation(tmp_path: Path) -> None:
    name, content, beside = dead_segment(tmp_path)
    path = lay(tmp_path / "dead", name, content, beside)
    before, _, _ = model.read_segment(name, content)
    (call,) = model.open_calls(before)
    recovery = recover_segment(path, time=LATER)
    assert [(opened.call, opened.cost_reserved) for opened in recovery.interrupted] == [(call, 700)]
    closed = [record for record in check(path, recovery, content) if record.get("end") == "interrupted"]
    assert [(record["call"], record["cost"], record["time"]) for record in closed] == [(call, 700, LATER)]


@pytest.mark.parametrize("torn", [0, 3, 150, 500])
def test_recovery_killed_at_any_write_can_be_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: int
) -> None:
    name, content, beside = dead_segment(tmp_path)
    content += b'{"seq":9,"kind":"opened","call":"' + b"x" * torn if torn else b""
    beside += b'9 00112233445566778899aabbccddeeff {"address":"192.0.2.1"}\n10 001'
    folder = tmp_path / "dead"
    path = lay(folder, name, content, beside)
    recover_segment(path, time=LATER)
    added = path.stat().st_size - len(whole_lines(content))

    def dying(written: int, truncations: int) -> None:
        """Die after `written` bytes, or at the truncation of that number."""
        left = [truncations]

        def pwrite(descriptor: int, data: bytes, offset: int) -> int:
            os.pwrite(descriptor, data[:written], offset)
            if written < len(data):
                raise CrashError
            return len(data)

        def truncate(descriptor: int, size: int) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise CrashError
            os.ftruncate(descriptor, size)

        monkeypatch.setattr(recover, "_pwrite", pwrite)
        monkeypatch.setattr(recover, "_truncate", truncate)

    points = [(written, 9) for written in range(0, added, 7)] + [(added, 0), (added, 1), (0, 0)]
    for written, truncations in points:
        lay(folder, name, content, beside)
        dying(written, truncations)
        try:
            recover_segment(path, time=LATER)
        except CrashError:
            # ... and the second run may be killed as well, elsewhere.
            dying(written // 2, truncations)
            try:
                recover_segment(path, time=LATER)
            except CrashError:
                pass
        monkeypatch.undo()
        recovery = recover_segment(path, time=LATER)
        records = check(path, recovery, whole_lines(content))
        if torn:
            assert any("torn_bytes" in record for record in records)
        interrupted = [record["call"] for record in records if record.get("end") == "interrupted"]
        assert len(interrupted) == len(set(interrupted)) == 1


def test_a_chain_broken_in_the_middle_is_reported_and_left_alone(tmp_path: Path) -> None:
    name, content, beside = dead_segment(tmp_path)
    lines = content.splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        changed = line.replace(b'"time":1764', b'"time":1765', 1)
        broken = b"".join([*lines[: number - 1], changed, *lines[number:]])
        path = lay(tmp_path / "broken", name, broken, beside)
        recovery = recover_segment(path, time=LATER)
        assert recovery.problem is not None
        assert (recovery.problem.segment, recovery.problem.seq) == (name, number)
        assert path.read_bytes() == broken
        assert personal_path(path.parent, name).read_bytes() == beside


def test_a_segment_is_not_recovered_while_its_writer_lives(tmp_path: Path) -> None:
    world = World(tmp_path)
    writer = world.writer()
    world.call(writer)
    with pytest.raises(SegmentLive, match="still written"):
        recover_segment(segment_path(world.folder, writer.name), time=LATER)
    writer.close()
    assert recover_segment(segment_path(world.folder, writer.name), time=LATER).count == 5


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_recovery_that_goes_on_from_a_tailer_gives_the_same(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    world = World(tmp_path_factory.mktemp("journal"))
    writer = world.writer()
    tailer = world.tailer()
    waiting = []
    for step in data.draw(st.lists(st.sampled_from(["open", "close", "refuse", "poll"]), max_size=12)):
        if step == "open":
            waiting.append(world.opened())
            writer.append(waiting[-1], personal=Personal("192.0.2.1"))
        elif step == "close" and waiting:
            writer.append(world.closed(waiting.pop(0)))
        elif step == "refuse":
            world.refusal(writer)
        elif step == "poll":
            assert tailer.poll().problems == []
    writer.close()
    path = segment_path(world.folder, writer.name)
    content = path.read_bytes() + b'{"seq":'
    beside = personal_path(world.folder, writer.name).read_bytes()
    position, open_calls = tailer.positions().get(writer.name), tailer.open_calls(writer.name)
    tailer.close()
    path.write_bytes(content)
    resumed = recover_segment(path, time=LATER, resume=position, open_calls=open_calls)
    assert [opened.call for opened in resumed.interrupted] == [opened.call for opened in waiting]
    after = path.read_bytes()
    lay(world.folder, writer.name, content, beside)
    full = recover_segment(path, time=LATER)
    assert full == resumed
    assert path.read_bytes() == after


def write_until_killed(folder: Path, acknowledge: int) -> None:
    """Child process: write calls and acknowledge each on the pipe after its append returned."""
    world = World(folder)
    writer = world.writer()
    waiting = []
    while True:
        opened = world.opened(cost_reserved=3)
        writer.append(opened, personal=Personal("203.0.113.7", "agent"))
        os.write(acknowledge, opened.call.encode())
        waiting.append(opened)
        if len(waiting) > 3:
            writer.append(world.closed(waiting.pop(0)))
        refused = world.refusal(writer)
        os.write(acknowledge, refused.call.encode())


@pytest.mark.real
@pytest.mark.parametrize("seed", range(30))
def test_no_acknowledged_call_is_lost_by_kill_9(tmp_path: Path, seed: int) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # never comes back into the test
        try:
            os.close(reading)
            write_until_killed(tmp_path, writing)
        finally:
            os._exit(1)
    os.close(writing)
    wanted = 36 * random.Random(seed).randint(1, 600)
    acknowledged = b""
    while len(acknowledged) < wanted:
        acknowledged += os.read(reading, min(4096, wanted - len(acknowledged)))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while block := os.read(reading, 65536):
        acknowledged += block
    os.close(reading)
    (path,) = (tmp_path / "journal").glob("*.seg")
    before = whole_lines(path.read_bytes())
    recovery = recover_segment(path, time=LATER)
    records = check(path, recovery, before)
    recorded = {record["call"] for record in records if record["kind"] == "opened"}
    calls = [acknowledged[start : start + 36].decode() for start in range(0, len(acknowledged) - 35, 36)]
    assert set(calls) <= recorded
    assert len(recorded) - len(calls) <= 1
    assert 1 <= len(recovery.interrupted) <= 4
    assert SegmentName.parse(path.stem).writer == "w0"


@pytest.mark.real
def test_a_journal_that_is_being_written_reads_and_proves_at_any_moment(tmp_path: Path) -> None:
    world = World(tmp_path)
    control = world.writer("control")
    child = os.fork()
    if child == 0:  # never comes back into the test
        try:
            write_until_killed(tmp_path, os.open(os.devnull, os.O_WRONLY))
        finally:
            os._exit(1)
    try:
        tailer, checkpoints = world.tailer(), world.checkpointer(control)
        read = 0
        for round_number in range(4):
            # However seldom the writer has its turn: without a new record there is nothing to sign.
            awaited = read + 60
            while read < awaited:
                assert tailer.poll().problems == []
                read = sum(number for number, _ in tailer.heads().values())
            assert checkpoints.make(tailer.heads(), round_number, 0) is not None
            tailer.poll()
            # The worker goes on meanwhile: only what the checkpoint signs is looked at.
            upto = checkpoints.signed
            report = verify_journal(world.folder, [PUBLIC_KEY], upto, upto=upto)
            assert (report.integrity, report.completeness, report.problems) == ("ok", "ok", [])
            newest = events(world.folder, limit=20)
            assert len(newest.items) == 20
            assert all(event.address is not None for event in newest.items)
            older = events(world.folder, limit=20, cursor=newest.next)
            assert not {event.call for event in newest.items} & {event.call for event in older.items}
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    tailer.close()
