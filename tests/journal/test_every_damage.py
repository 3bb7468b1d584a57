"""Every damage there is, done to a small real journal: each byte changed, each record removed, each two swapped, each
cut, each file gone, swapped or renamed. The verdicts are right, and the record is named.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from proven_journal import named
from whole_journal import Whole

from models import chain_model as model
from valetkey.journal import notes, verify
from valetkey.journal.personal import parse_line
from valetkey.journal.verdict import Report

LOST = {"removed", "truncated"}


@pytest.fixture(scope="module", autouse=True)
def signatures_checked_once() -> Iterator[None]:
    """Tens of thousands of proofs of nearly the same journal: whether a signature is good depends on nothing else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "signed_by", _once(verify.signed_by))
        patch.setattr(notes, "signed", _once(notes.signed))
        yield


def _once(check: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    known: dict[str, bool] = {}

    def checked(record: Any, key: Any) -> bool:
        text = repr(record)
        if text not in known:
            known[text] = check(record, key)
        return known[text]

    return checked


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return Whole(tmp_path_factory.mktemp("whole"))


def stem(file: str) -> str:
    return file.rpartition(".")[0]


def broken(report: Report) -> bool:
    return "broken" in (report.integrity, report.completeness)


def whats(report: Report, file: str, seq: int | None) -> set[str]:
    """What is said of one record."""
    return {what for name, number, what in named(report) if (name, number) == (stem(file), seq)}


def changed_records(report: Report, file: str) -> set[int | None]:
    return {seq for name, seq, what in named(report) if name == stem(file) and what == "changed"}


def flip_each_byte(whole: Whole, file: str, flips: Iterable[int]) -> int:
    """Change each byte of a segment; its record, and no other one, is called changed."""
    at = tried = 0
    for seq, line in enumerate(whole.lines(file), start=1):
        for place, flip in itertools.product(range(len(line)), flips):
            byte = line[place] ^ flip
            report = whole.with_byte(file, at + place, byte)
            tried += 1
            detail = (file, seq, place, flip, report.problems)
            if place == len(line) - 1:  # two records in one line, or an unfinished last one
                assert broken(report), detail
                assert whats(report, file, seq) & {"changed", "truncated"}, detail
            else:
                assert report.integrity == "broken", detail
                ends_here = ord("\n") == byte
                assert changed_records(report, file) <= {seq, seq + 1} if ends_here else {seq}, detail
                assert whats(report, file, seq) & {"changed", "reordered"}, detail
        at += len(line)
    return tried


def flip_each_byte_beside(whole: Whole, file: str, flips: Iterable[int]) -> int:
    """Change each byte of a file of personal fields; the record that they belong to is named."""
    at = tried = 0
    for line in whole.lines(file):
        kept = parse_line(line, 0)
        assert kept is not None
        for place, flip in itertools.product(range(len(line)), flips):
            byte = line[place] ^ flip
            report = whole.with_byte(file, at + place, byte)
            tried += 1
            said = whats(report, file, kept.seq)
            detail = (file, kept.seq, place, flip, report.problems)
            newline = place == len(line) - 1
            if kept.erased and said == {"unproven"} and not newline:
                # It may be what a loss of power in the middle of the erasure left, until a server has started.
                assert report.completeness == "unproven", detail
                assert byte in b"0123456789abcdef}", detail
                continue
            assert report.integrity == "broken", detail
            assert said & {"personal changed", "personal removed"} or newline, detail
            assert any(problem.segment == stem(file) for problem in report.problems), detail
        at += len(line)
    return tried


def test_each_byte_of_each_segment_counts(whole: Whole) -> None:
    for file in whole.segments:
        flip_each_byte(whole, file, [1])


def test_each_byte_of_each_file_of_personal_fields_counts(whole: Whole) -> None:
    for file in whole.beside:
        flip_each_byte_beside(whole, file, [1])


@pytest.mark.parametrize("stored", [True, False])
def test_each_removed_record_is_named(whole: Whole, stored: bool) -> None:
    for file in whole.segments:
        lines = whole.lines(file)
        for number in range(1, len(lines) + 1):
            report = whole.with_file(file, b"".join(lines[: number - 1] + lines[number:]), stored)
            if not stored and file == whole.segments[-2] and number == len(lines):
                # The very last checkpoint: only who keeps its head outside knows of it.
                assert report.completeness == "unproven"
                continue
            assert report.completeness == "broken", (file, number)
            expected = "removed" if number < len(lines) else "truncated"
            if number == len(lines) and not stored and "control" in file:
                expected = "checkpoint missing"  # named by the checkpoint after it
                assert expected in {problem.what for problem in report.problems}
                continue
            assert expected in whats(report, file, number), (file, number, report.problems)
            assert changed_records(report, file) <= {number}, (file, number, report.problems)


def test_each_removed_line_of_personal_fields_is_named(whole: Whole) -> None:
    for file in whole.beside:
        lines = whole.lines(file)
        for index, line in enumerate(lines):
            report = whole.with_file(file, b"".join(lines[:index] + lines[index + 1 :]))
            kept = parse_line(line, 0)
            assert kept is not None
            assert (report.integrity, report.completeness) == ("broken", "broken")
            assert named(report) == {(stem(file), kept.seq, "personal removed")}


def test_each_two_records_that_changed_places_are_named(whole: Whole) -> None:
    for file in whole.segments:
        lines = whole.lines(file)
        for first, second in itertools.combinations(range(len(lines)), 2):
            swapped = [*lines]
            swapped[first], swapped[second] = swapped[second], swapped[first]
            report = whole.with_file(file, b"".join(swapped))
            detail = (file, first + 1, second + 1, report.problems)
            assert report.integrity == "broken", detail
            assert "reordered" in {what for _, _, what in named(report)}, detail
            assert whats(report, file, first + 1), detail


def test_each_two_lines_of_personal_fields_that_changed_places_are_named(whole: Whole) -> None:
    for file in whole.beside:
        lines = whole.lines(file)
        for first, second in itertools.combinations(range(len(lines)), 2):
            swapped = [*lines]
            swapped[first], swapped[second] = swapped[second], swapped[first]
            report = whole.with_file(file, b"".join(swapped))
            kept = parse_line(lines[first], 0)
            assert kept is not None
            assert report.integrity == "broken"
            assert whats(report, file, kept.seq) <= {"personal removed", "personal changed"}
            assert any(problem.segment == stem(file) for problem in report.problems)


def test_each_cut_at_a_byte_is_named(whole: Whole) -> None:
    for file in whole.segments:
        content = whole.files[file]
        for size in range(len(content)):
            report = whole.with_cut(file, size)
            kept = content[:size].count(b"\n")
            detail = (file, size, report.problems)
            assert report.completeness == "broken", detail
            assert whats(report, file, kept + 1) & LOST, detail
            assert changed_records(report, file) == set(), detail


def test_each_cut_is_named_by_what_is_signed_alone(whole: Whole) -> None:
    """Without the heads of the store only one thing goes unseen: all that came after some checkpoint."""
    for file in whole.segments:
        content = whole.files[file]
        ends = list(itertools.accumulate(map(len, whole.lines(file)), initial=0))
        sizes = {end + more for end in ends for more in (-1, 0, 1, 40) if 0 <= end + more < len(content)}
        for size in sorted(sizes):
            report = whole.with_file(file, content[:size], stored=False)
            kept = content[:size].count(b"\n")
            detail = (file, size, report.problems)
            if "control" not in file:
                assert report.completeness == "broken", detail
                assert whats(report, file, kept + 1) & LOST, detail
            elif file == whole.segments[-2]:
                behind_a_checkpoint = size in ends and b'"kind":"checkpoint"' in whole.lines(file)[kept - 1]
                assert (report.integrity, report.completeness) != ("ok", "ok") or behind_a_checkpoint, detail
            else:
                assert report.completeness == "broken", detail


def test_each_cut_of_personal_fields_is_named(whole: Whole) -> None:
    for file in whole.beside:
        content = whole.files[file]
        for size in range(len(content)):
            report = whole.with_file(file, content[:size])
            kept = parse_line(whole.lines(file)[content[:size].count(b"\n")], 0)
            assert kept is not None
            assert report.integrity == "broken"
            assert whats(report, file, kept.seq) & {"personal removed", "personal changed"}, (file, size)


@pytest.mark.parametrize("stored", [True, False])
def test_each_file_that_is_gone_is_named(whole: Whole, stored: bool) -> None:
    for file in whole.segments:
        report = whole.with_file(file, None, stored)
        assert report.completeness == "broken"
        assert whats(report, file, None) == {"segment missing"}
        beside = f"{stem(file)}.personal"
        report = whole.with_files({file: None, beside: None}, stored)
        if stored or file != whole.segments[-2]:
            assert report.completeness == "broken"
            assert whats(report, file, None) == {"segment missing"}
        else:  # the last control segment without a trace: the segments of its time are proven by nothing
            assert report.completeness != "ok" or report.integrity != "ok"
    for file in whole.beside:
        report = whole.with_file(file, None, stored)
        assert (report.integrity, report.completeness) == ("broken", "broken")
        committed = {
            int(line[7 : line.index(b",")])
            for line in whole.lines(f"{stem(file)}.seg")
            if b',"personal":"' in line
        }
        assert named(report) == {(stem(file), seq, "personal removed") for seq in committed}


def test_each_two_files_that_changed_places_are_named(whole: Whole) -> None:
    for kind in (whole.segments, whole.beside):
        for first, second in itertools.combinations(kind, 2):
            report = whole.with_files({first: whole.files[second], second: whole.files[first]})
            assert broken(report)
            for file in (first, second):
                assert any(problem.segment == stem(file) for problem in report.problems), (first, second)


def test_each_renamed_segment_is_named(whole: Whole) -> None:
    for file in whole.segments:
        start, writer, generation = stem(file).split("-")
        others = {
            f"{start}-{writer}-{int(generation) + 7}",
            f"{int(start) + 1:020d}-{writer}-{generation}",
            f"{start}-{'w9' if writer == 'control' else 'control'}-{generation}",
        }
        for other in others:
            report = whole.with_files(
                {
                    file: None,
                    f"{stem(file)}.personal": None,
                    f"{other}.seg": whole.files[file],
                    f"{other}.personal": whole.files[f"{stem(file)}.personal"],
                }
            )
            assert report.integrity == "broken"
            assert (other, 1, "changed") in named(report), (file, other, report.problems)
            assert (stem(file), None, "segment missing") in named(report)


def test_a_segment_that_is_copied_under_another_name_is_named(whole: Whole) -> None:
    for file in whole.segments:
        payloads = [line[:-66] for line in whole.lines(file)]
        start, writer, generation = stem(file).split("-")
        other = f"{start}-{writer}-{int(generation) + 7}"
        report = whole.with_files({f"{other}.seg": model.segment_bytes(other, payloads)})
        assert report.integrity == "broken"
        assert any(problem.segment == other for problem in report.problems), (file, report.problems)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_each_bit_of_a_longer_journal_counts(tmp_path: Path) -> None:
    whole = Whole(tmp_path, calls=4)
    for file in whole.segments:
        flip_each_byte(whole, file, [1 << bit for bit in range(8)])
    for file in whole.beside:
        flip_each_byte_beside(whole, file, [1 << bit for bit in range(8)])
