"""Erasing is noted before it is done: blank fields without a signed note are named, also after any kill."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_world import PUBLIC_KEY
from proven_journal import named
from served_journal import Served

from models import chain_model as model
from valetkey.journal import personal, segment
from valetkey.journal.chain import personal_path, segment_path
from valetkey.journal.errors import JournalFailed
from valetkey.journal.notes import by_id, covered_lines, uncovered
from valetkey.journal.personal import Erasure, erase_personal
from valetkey.journal.segment import SegmentWriter
from valetkey.journal.verdict import What
from valetkey.journal.verify import verify_journal


class Killed(BaseException):
    """Stands for SIGKILL."""


def blanked(path: Path, number: int) -> None:
    """What someone with the folder can do."""
    lines = path.read_bytes().split(b"\n")
    for index, line in enumerate(lines):
        seq, _, rest = line.partition(b" ")
        if seq == b"%d" % number:
            lines[index] = seq + b" " + b" " * len(rest)
    path.write_bytes(b"\n".join(lines))


def lively(folder: Path, holders: str = "aabab") -> tuple[Served, SegmentWriter]:
    """One call of a holder each; the personal lines are numbered 2, 4, 6 …"""
    served = Served(folder)
    worker = served.worker()
    for holder in holders:
        served.world.call(worker, holder=holder)
    served.tick()
    return served, worker


def test_fields_blanked_by_someone_else_are_named(tmp_path: Path) -> None:
    served, worker = lively(tmp_path)
    blanked(personal_path(served.folder, worker.name), 4)
    report = served.verify()
    assert (report.integrity, report.completeness, report.erased) == ("broken", "broken", 0)
    assert named(report) == {(worker.name, 4, What.PERSONAL_REMOVED)}
    # A later erasure of everything around does not cover for it.
    assert served.erase(older_than=1e12) == 4
    report = served.verify()
    assert named(report) == {(worker.name, 4, What.PERSONAL_REMOVED)}
    assert report.erased == 4


@pytest.mark.parametrize("reason", ["age", "party"])
def test_erased_fields_leave_the_journal_proven(tmp_path: Path, reason: str) -> None:
    served, worker = lively(tmp_path)
    assert (served.erase(party="a") if reason == "party" else served.erase(older_than=1e12)) == (
        3 if reason == "party" else 5
    )
    report = served.verify()
    assert (report.integrity, report.completeness, report.problems) == ("ok", "ok", [])
    assert report.erased == (3 if reason == "party" else 5)
    served.poll()
    (note,) = [entry.record for entry in served.read if entry.record.__class__.__name__ == "Erased"]
    expected = ((2, 4), (8, 8)) if reason == "party" else ((2, 10),)
    assert (note.segment, note.reason, note.ranges) == (worker.name, reason, expected)  # type: ignore[union-attr]
    worker.close()
    served.stop()
    assert served.verify_at_rest().problems == []
    served.start()
    assert served.erase(older_than=1e12) == (2 if reason == "party" else 0)
    assert served.verify().problems == []


def test_an_erasure_covers_only_its_own_lines(tmp_path: Path) -> None:
    served, worker = lively(tmp_path)
    other = served.worker("w1")
    for _ in range(5):
        served.world.call(other)
    served.erase(party="a")
    for name, number in ((worker.name, 6), (other.name, 2)):
        path = personal_path(served.folder, name)
        kept = path.read_bytes()
        blanked(path, number)
        assert named(served.verify()) == {(name, number, What.PERSONAL_REMOVED)}
        path.write_bytes(kept)


def test_a_forged_note_covers_nothing(tmp_path: Path) -> None:
    served, worker = lively(tmp_path)
    served.erase(party="b")
    served.tick()
    served.kill()
    path = segment_path(served.folder, served.control.name)
    payloads = [line[:-65] for line in path.read_bytes().split(b"\n")[:-1]]
    (note,) = [payload for payload in payloads if b'"kind":"erased"' in payload]
    number = int(note[7 : note.index(b",")])
    forged = note.replace(b'"seq":%d' % number, b'"seq":%d' % (len(payloads) + 1)).replace(
        b"[[6,6]", b"[[2,6]"
    )
    assert forged[7:] != note[7:]
    path.write_bytes(model.segment_bytes(path.stem, [*payloads, forged]))
    blanked(personal_path(served.folder, worker.name), 2)
    served.start()
    assert named(served.verify()) == {(worker.name, 2, What.PERSONAL_REMOVED)}


def test_nothing_is_blanked_when_the_note_cannot_be_written(tmp_path: Path) -> None:
    served, worker = lively(tmp_path)
    path = personal_path(served.folder, worker.name)
    before = path.read_bytes()
    served.control.close()
    with pytest.raises(JournalFailed):
        served.erase(older_than=1e12)
    assert path.read_bytes() == before


def test_lines_are_blank_whole_however_little_a_write_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, worker = lively(tmp_path)
    path = personal_path(served.folder, worker.name)
    before = path.read_bytes()
    monkeypatch.setattr(personal, "_pwrite", lambda beside, data, at: os.pwrite(beside, data[:7], at))
    assert served.erase(older_than=1e12) == 5
    assert_noted_lines_are_blank(served)
    assert served.verify().problems == []
    path.write_bytes(before)
    assert personal.blank_ranges(served.folder, worker.name, [(2, 10)]) == 5
    assert_noted_lines_are_blank(served)


def test_an_erasure_without_its_records_leaves_no_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, _ = lively(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(personal, "segment_path", lambda folder, name: folder / "gone")
    with pytest.raises(FileNotFoundError):
        erase_personal(served.folder, older_than=1e12)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("torn", [False, True])
def test_an_erasure_killed_at_any_write_leaves_a_journal_that_is_proven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bool
) -> None:
    monkeypatch.setattr(personal, "_MOST_RANGES", 1)
    allowed = 0
    append, blank = segment._write, personal._pwrite

    def step(size: int) -> int | None:
        """How many bytes the last write before the kill still brings; None for all."""
        nonlocal allowed
        allowed -= 1
        return None if allowed >= 0 else size // 2 if torn else 0

    def appending(descriptor: int, data: bytes) -> int:
        left = step(len(data))
        if left is None:
            return append(descriptor, data)
        append(descriptor, data[:left])
        raise Killed

    def blanking(descriptor: int, data: bytes, offset: int) -> int:
        left = step(len(data))
        if left is None:
            return blank(descriptor, data, offset)
        blank(descriptor, data[:left], offset)
        raise Killed

    finished = False
    for kill_at in range(40):
        served, worker = lively(tmp_path / f"{kill_at}", "abaabb")
        with monkeypatch.context() as patch:
            patch.setattr(segment, "_write", appending)
            patch.setattr(personal, "_pwrite", blanking)
            allowed = kill_at
            try:
                served.erase(party="a")
                finished = True
            except Killed:
                pass
        worker.close()
        served.kill()
        at_rest = served.verify_at_rest()
        assert at_rest.integrity == "ok", (kill_at, at_rest.problems)
        served.start()
        # What was noted is done now, though nobody asks for the erasure again.
        assert_noted_lines_are_blank(served)
        report = served.verify()
        assert (report.integrity, report.completeness, report.problems) == ("ok", "ok", []), kill_at
        served.erase(party="a")
        report = served.verify()
        assert (report.integrity, report.completeness, report.erased) == ("ok", "ok", 3), kill_at
        served.kill()
        shutil.rmtree(tmp_path / f"{kill_at}")
        if finished:
            break
    assert finished
    assert kill_at == 6  # three notes, three lines


def assert_noted_lines_are_blank(served: Served) -> None:
    for name, ranges in covered_lines(served.folder, by_id([PUBLIC_KEY])).items():
        content = personal_path(served.folder, name).read_bytes()
        for number, line in model.personal_fields(content).items():
            assert line is None or not any(first <= number <= last for first, last in ranges)


@pytest.mark.parametrize("blank_to", [1, 20, 40])
def test_a_line_that_a_loss_of_power_left_half_blank_is_unproven_until_a_start(
    tmp_path: Path, blank_to: int
) -> None:
    served, worker = lively(tmp_path)
    path = personal_path(served.folder, worker.name)
    content = path.read_bytes()
    served.erase(party="a")
    line = content.split(b"\n")[2]
    for torn in (
        line[:2] + b" " * blank_to + line[2 + blank_to :],
        line[: -blank_to - 1] + b" " * (blank_to + 1),
    ):
        path.write_bytes(path.read_bytes().replace(line, torn))
        report = served.verify()
        assert named(report) == {(worker.name, 6, What.PERSONAL_REMOVED)}  # nobody noted that line
        path.write_bytes(path.read_bytes().replace(torn, line))
    served.erase(party="b")
    path.write_bytes(path.read_bytes().replace(b"6 " + b" " * (len(line) - 2), torn))
    report = served.verify()
    assert named(report) == {(worker.name, 6, What.UNPROVEN)}
    assert (report.integrity, report.completeness) == ("ok", "unproven")
    worker.close()
    served.kill()
    served.start()
    assert_noted_lines_are_blank(served)
    assert served.verify().problems == []


def test_an_erasure_during_a_proof_is_no_problem(tmp_path: Path) -> None:
    """The proof goes up to a checkpoint; the note of an erasure that came later counts all the same."""
    served, worker = lively(tmp_path)
    served.tick()
    signed = dict(served.checkpoints.signed)
    served.erase(older_than=1e12)
    report = verify_journal(served.folder, [PUBLIC_KEY], signed, upto=signed)
    assert (report.problems, report.erased) == ([], 5)
    assert worker.count > 0


@settings(max_examples=60, deadline=None)
@given(
    holders=st.text("abc", min_size=1, max_size=12),
    erasures=st.lists(st.one_of(st.sampled_from("abc"), st.integers(0, 12)), max_size=4),
    taken=st.sets(st.integers(0, 11), max_size=4),
    most=st.integers(1, 4),
)
def test_the_proof_names_just_the_blank_lines_that_the_model_finds_without_note(
    tmp_path_factory: pytest.TempPathFactory,
    holders: str,
    erasures: list[str | int],
    taken: set[int],
    most: int,
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(personal, "_MOST_RANGES", most)
        served, worker = lively(folder, holders)
        path = personal_path(served.folder, worker.name)
        first = served.world.now
        for index, erasure in enumerate(erasures):
            if index == 1:
                for place in taken:
                    blanked(path, 2 * place + 2)
            if isinstance(erasure, str):
                served.erase(party=erasure)
            else:
                served.erase(older_than=first - erasure / 5)
        if len(erasures) < 2:
            for place in taken:
                blanked(path, 2 * place + 2)
        report = served.verify()
    control = segment_path(served.folder, served.control.name)
    records, _, good = model.read_segment(control.stem, control.read_bytes())
    assert good
    ranges = [
        (first, last)
        for record in records
        if record["kind"] == "erased"
        for first, last in record["ranges"]  # type: ignore[attr-defined]
    ]
    expected = model.blank_without_note(path.read_bytes(), ranges)
    assert [problem.seq for problem in report.problems] == expected
    assert report.integrity == ("broken" if expected else "ok")
    blank = [number for number, line in model.personal_fields(path.read_bytes()).items() if line is None]
    assert report.erased == len(blank) - len(expected)
    assert set(expected) <= {2 * place + 2 for place in taken}
    served.kill()
    worker.close()
    shutil.rmtree(folder)


def test_what_a_note_signs_is_what_the_page_says(tmp_path: Path) -> None:
    served, worker = lively(tmp_path)
    served.erase(party="a")
    path = segment_path(served.folder, served.control.name)
    records, _, _ = model.read_segment(path.stem, path.read_bytes())
    (note,) = [record for record in records if record["kind"] == "erased"]
    PUBLIC_KEY.verify(bytes.fromhex(str(note["signature"])), model.erased_statement(note))
    assert covered_lines(served.folder, by_id([PUBLIC_KEY])) == {worker.name: [(2, 4), (8, 8)]}
    assert covered_lines(served.folder, {}) == {}


@given(st.sets(st.integers(1, 60)), st.lists(st.tuples(st.integers(1, 60), st.integers(0, 9))))
def test_numbers_that_no_range_holds_are_found(numbers: set[int], spans: list[tuple[int, int]]) -> None:
    ranges = sorted((first, first + more) for first, more in spans)
    expected = [n for n in sorted(numbers) if not any(first <= n <= last for first, last in ranges)]
    assert list(uncovered(sorted(numbers), ranges)) == expected


def test_a_large_erasure_comes_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(personal, "_MOST_LINES", 2)
    served, worker = lively(tmp_path)
    parts: list[Erasure] = []
    assert erase_personal(served.folder, older_than=1e12, note=parts.append) == 5
    assert [(part.number, part.ranges) for part in parts] == [
        (2, ((2, 4),)),
        (2, ((6, 8),)),
        (1, ((10, 10),)),
    ]
    assert os.path.getsize(personal_path(served.folder, worker.name)) > 0
