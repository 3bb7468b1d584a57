"""Only announced segments are read, signed, charged and shown; every other one is named a stranger."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_world import PUBLIC_KEY, SIGNING_KEY
from proven_journal import named
from served_journal import Served

from models import chain_model as model
from valetkey.journal import admission as admission_module
from valetkey.journal import notes, tail
from valetkey.journal.admission import Admission, announced, read_admission, says_nothing
from valetkey.journal.chain import SegmentName, personal_path, segment_path, segments_in
from valetkey.journal.follow import Follower
from valetkey.journal.notes import Notary, signed
from valetkey.journal.read import events
from valetkey.journal.records import Audit, Started
from valetkey.journal.tail import Position, Tailer
from valetkey.journal.verdict import What


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path)


def test_a_forged_segment_is_neither_read_nor_signed_nor_shown(served: Served) -> None:
    worker = served.worker()
    for _ in range(3):
        served.world.call(worker)
    served.tick()
    forged = served.forge(worker, "w7", 1)
    served.tick()
    assert served.calls() == ["/now"] * 3
    assert served.problems == [(forged, "stranger")]
    assert forged not in served.checkpoints.signed
    assert {event.path for event in events(served.folder, admit=served.admission).items} == {"/now"}
    report = served.verify()
    assert report.integrity == "broken"
    assert named(report) == {(forged, None, What.STRANGER)}
    served.tick()
    assert len(served.problems) == 1
    worker.close()
    served.stop()
    assert named(served.verify_at_rest()) == {(forged, None, What.STRANGER)}
    served.start()
    assert served.problems[1:] == [(forged, "stranger")]
    assert served.calls().count("/forged") == 0
    assert (forged, None, What.STRANGER) in named(served.verify())


@pytest.mark.parametrize("named_segment", [True, False])
def test_a_second_segment_of_the_same_start_is_a_stranger(served: Served, named_segment: bool) -> None:
    worker = served.worker("w0", named=named_segment)
    served.world.call(worker)
    served.tick()
    own = SegmentName.parse(worker.name)
    forged = {
        served.forge(worker, "w0", own.generation),
        served.forge(worker, "w0", own.generation, own.start_ms - 1),
    }
    assert {segment for segment, _, _ in named(served.verify())} == forged
    worker.close()
    served.kill()
    served.start()
    served.tick()
    assert "/forged" not in served.calls()
    assert {segment for segment, _ in served.problems} == forged
    assert {segment for segment, _, _ in named(served.verify())} == forged


def test_a_named_segment_wins_even_when_a_forged_one_was_there_first(served: Served) -> None:
    worker = served.worker()
    served.world.call(worker)
    before = served.now_ms
    own = served.world.writer("w1")
    generation = SegmentName.parse(own.name).generation
    forged = served.forge(worker, "w1", generation, before)
    served.tick()
    served.admission.announce(
        served.notary.started("w1", generation, before, served.now_ms, segment=own.name)
    )
    served.world.call(own, path="/own")
    served.tick()
    assert served.calls() == ["/now", "/own"]
    assert {segment for segment, _, _ in named(served.verify())} == {forged}


def test_a_segment_that_begins_before_its_worker_is_a_stranger(served: Served) -> None:
    worker = served.worker()
    served.world.call(worker)
    before = served.now_ms
    forged = served.forge(worker, "w3", 99, before - 1)
    served.admission.announce(served.notary.started("w3", 99, before, served.now_ms))
    assert named(served.verify()) == {(forged, None, What.STRANGER)}


def test_a_worker_that_is_announced_after_its_segment_was_made_is_read_and_never_a_stranger(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "_SETTLED_NS", -(10**18))  # the folder does not change any more
    worker = served.world.writer("w0")
    served.tailer.close()
    served.tailer = Tailer(served.folder, served.tailer.positions(), admit=served.admission)
    served.tick()
    assert (served.problems, served.verify().problems) == ([], [])
    generation = SegmentName.parse(worker.name).generation
    served.admission.announce(served.notary.started("w0", generation, 0, served.now_ms))
    served.world.call(worker)
    assert served.verify().problems == []
    assert served.calls() == ["/now"]


def test_a_forged_control_segment_announces_nothing(served: Served) -> None:
    worker = served.worker()
    served.world.call(worker)
    served.tick()
    forged_worker = served.forge(worker, "w7", 1)
    name = SegmentName(served.now_ms, "control", 7)
    lines = segment_path(served.folder, served.control.name).read_bytes().split(b"\n")
    ours = next(line[:-65] for line in lines if b'"kind":"started"' in line)
    theirs = [
        b'{"seq":1,"kind":"segment","name":"%b","writer":"control","generation":7,"format":1}'
        % str(name).encode(),
        ours,
        ours.replace(b'"seq":2', b'"seq":3').replace(b'"writer":"control"', b'"writer":"w7"'),
        b'{"seq":4,"kind":"audit","time":9e9,"action":"key:issue","actor":"forger"}',
    ]
    segment_path(served.folder, name).write_bytes(model.segment_bytes(str(name), theirs))
    served.tick()
    assert not any(isinstance(entry.record, Audit) for entry in served.read)
    strangers = {(str(name), What.STRANGER), (forged_worker, What.STRANGER)}
    assert strangers <= {(segment, what) for segment, _, what in named(served.verify())}
    admission = read_admission(served.folder, [PUBLIC_KEY])
    assert not admission(name)
    assert not admission(SegmentName.parse(forged_worker))


def test_announcements_behind_a_dead_control_process_are_not_believed(served: Served) -> None:
    worker = served.worker()
    served.world.call(worker)
    served.tick()
    served.kill()
    path = segment_path(served.folder, served.control.name)
    payloads = [line[:-65] for line in path.read_bytes().split(b"\n")[:-1]]
    started = next(payload for payload in payloads if b'"writer":"w0"' in payload)
    number = int(started[7 : started.index(b",")])
    payloads.append(
        started.replace(b'"seq":%d' % number, b'"seq":%d' % (len(payloads) + 1)).replace(b'"w0"', b'"w7"')
    )
    path.write_bytes(model.segment_bytes(path.stem, payloads))
    generation = SegmentName.parse(worker.name).generation
    forged = served.forge(worker, "w7", generation)
    for _ in range(2):
        served.start()
        served.tick()
        assert "/forged" not in served.calls()
        assert (forged, None, What.STRANGER) in named(served.verify())
        served.kill()


def test_an_invented_position_makes_no_segment_of_ours(served: Served) -> None:
    worker = served.worker()
    served.world.call(worker)
    served.tick()
    forged = served.forge(worker, "w7", 1)
    size = segment_path(served.folder, forged).stat().st_size
    tailer = Tailer(served.folder, {forged: Position(size, 4, "ab" * 32, True)}, admit=served.admission)
    assert (forged, "stranger") in {(found.segment, found.what) for found in tailer.poll().problems}
    assert forged not in tailer.heads()
    tailer.close()


def test_following_passes_strangers_by(served: Served) -> None:
    worker = served.worker()
    follower = Follower(served.folder, admit=served.admission)
    served.world.call(worker)
    forged = served.forge(worker, "w7", 1)
    assert [event.path for event in follower.poll()] == ["/now"]
    assert [problem.segment for problem in follower.problems] == [forged]
    follower.close()


def test_writers_killed_before_they_were_announced_leave_nothing_that_is_missed(served: Served) -> None:
    """At every byte of a control segment's first two records, and of a worker's first one."""
    served.kill()
    path = segment_path(served.folder, served.control.name)
    content = path.read_bytes()
    second = len(b"".join(content.splitlines(keepends=True)[:2]))
    worker = served.world.writer("w0")
    worker.close()
    beside = segment_path(served.folder, worker.name)
    first = beside.read_bytes()
    for end in {*range(0, second, 7), second - 1}:
        path.write_bytes(content[:end])
        beside.write_bytes(first[:end])
        served.problems.clear()
        served.start()
        assert served.problems == []
        report = served.verify()
        assert (report.integrity, report.completeness, report.problems) == ("ok", "ok", [])
        served.kill()
        served.start()
        served.stop()
        at_rest = served.verify_at_rest()
        assert (at_rest.integrity, at_rest.completeness, at_rest.problems) == ("ok", "ok", [])
        for name in segments_in(served.folder):
            if str(name) not in (path.stem, worker.name):
                segment_path(served.folder, name).unlink()
                personal_path(served.folder, name).unlink()


def test_calls_of_a_worker_announced_just_before_everything_was_killed_are_kept(served: Served) -> None:
    worker = served.worker()
    served.world.call(worker)
    worker.close()
    served.kill()
    report = served.verify_at_rest()
    assert (report.integrity, report.completeness) == ("ok", "unproven")
    served.start()
    assert served.calls() == ["/now"]
    assert served.verify().problems == []


def test_many_lives_need_one_control_segment_to_start(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        worker = served.worker()
        served.world.call(worker)
        worker.close()
        served.stop()
        served.start()
    generations = {(name.writer, name.generation) for name in segments_in(served.folder)}
    assert announced(served.folder, [PUBLIC_KEY]) == generations
    read: list[Path] = []
    started_in = notes.started_in

    def counting(path: Path, keys: object) -> object:
        read.append(path)
        return started_in(path, keys)  # type: ignore[arg-type]

    monkeypatch.setattr(admission_module, "started_in", counting)
    found = read_admission(served.folder, [PUBLIC_KEY])
    assert len(read) == 1
    assert all(found(name) for name in segments_in(served.folder))
    assert served.verify().problems == []


def test_a_worker_that_ended_without_a_segment_gets_none_later(served: Served) -> None:
    served.admission.announce(served.notary.started("w5", 50, 0, served.now_ms))
    served.admission.ended("w5", 50)
    assert not served.admission(SegmentName(1, "w5", 50))


def test_a_segment_says_nothing_only_without_records_and_fields(served: Served) -> None:
    worker = served.world.writer()
    name = SegmentName.parse(worker.name)
    assert says_nothing(served.folder, name)
    personal_path(served.folder, name).write_bytes(b"2 x\n")
    assert not says_nothing(served.folder, name)
    personal_path(served.folder, name).unlink()
    worker.append(Audit(1.0, "a", "b"))
    assert not says_nothing(served.folder, name)


def test_what_an_announcement_signs_is_what_the_page_says(served: Served) -> None:
    path = segment_path(served.folder, served.control.name)
    served.worker(named=True)
    found, _, good = model.read_segment(path.stem, path.read_bytes())
    assert good
    notes = [record for record in found if record["kind"] == "started"]
    assert len(notes) == 2
    for note in notes:
        PUBLIC_KEY.verify(bytes.fromhex(str(note["signature"])), model.started_statement(note))
    started = Notary(SIGNING_KEY, served.control).started("w1", 1, 0, 0)
    assert not signed(started, {})


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["announce", "ask", "end"]), st.integers(0, 1), st.integers(0, 4), st.booleans()
        ),
        max_size=25,
    )
)
def test_of_each_announced_start_exactly_one_segment_is_admitted(
    steps: list[tuple[str, int, int, bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    admission = Admission()
    since: dict[int, int] = {}
    bound: dict[int, int] = {}
    for step, generation, start, exact in steps:
        name = SegmentName(start, "w0", generation)
        if step == "announce":
            admission.announce(Started(0, "w0", generation, start, "", "", str(name) if exact else None))
            if exact:
                bound.setdefault(generation, start)
            else:
                since[generation] = min(start, since.get(generation, start))
        elif step == "end":
            admission.ended("w0", generation)
            since.pop(generation, None)
        else:
            if generation not in bound and start >= since.get(generation, 99):
                bound[generation] = start
            assert admission(name) is (bound.get(generation) == start)
