"""Proof: every change of a journal is named, by record, and erasing personal fields is none."""

from __future__ import annotations

import os
import random
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from journal_world import PUBLIC_KEY, SIGNING_KEY, World
from proven_journal import Proven, named, rechained

from models import chain_model as model
from valetkey.journal.chain import personal_path, segment_path
from valetkey.journal.checkpoint import sign
from valetkey.journal.personal import erase_personal
from valetkey.journal.read import events
from valetkey.journal.records import Personal
from valetkey.journal.recover import unfinished
from valetkey.journal.verdict import VERDICTS, What
from valetkey.journal.verify import verify_journal


@pytest.fixture
def proven(tmp_path: Path) -> Proven:
    return Proven(tmp_path)


def test_an_untouched_journal_is_proven(proven: Proven) -> None:
    for stored in (True, False):
        report = proven.verify(stored)
        assert (report.integrity, report.completeness, report.problems) == ("ok", "ok", [])
        assert report.records == sum(count for count, _ in proven.heads.values())
        assert (report.segments, report.checkpoints, report.erased) == (3, 3, 0)


@pytest.mark.parametrize("stored", [True, False])
def test_a_changed_record_is_named(proven: Proven, stored: bool) -> None:
    for name, path, lines in proven.segments():
        for number, line in enumerate(lines, start=1):
            changed = [*lines]
            changed[number - 1] = line.replace(b'e":1764', b'e":1765').replace(b'ms":1764', b'ms":1765')
            assert changed != lines
            path.write_bytes(b"".join(changed))
            report = proven.verify(stored)
            assert report.integrity == "broken"
            assert (name, number, "changed") in named(report)
            # A changed checkpoint proves nothing any more, but no other segment is called broken.
            assert {what for segment, _, what in named(report) if segment != name} <= {"unproven"}
            proven.restore()


@pytest.mark.parametrize("stored", [True, False])
def test_a_changed_record_with_a_new_chain_is_named_by_what_was_signed(proven: Proven, stored: bool) -> None:
    for name, path, lines in proven.segments():
        for number, line in enumerate(lines, start=1):
            changed = [*lines]
            changed[number - 1] = line.replace(b'e":1764', b'e":1765').replace(b'ms":1764', b'ms":1765')
            path.write_bytes(rechained(name, changed))
            report = proven.verify(stored)
            last = "control" in name and number == len(lines)
            whats = {problem.what for problem in report.problems if problem.segment == name}
            assert report.integrity == "broken"
            assert whats & {"changed", "checkpoint signature bad"}
            assert not last or "checkpoint signature bad" in whats
            proven.restore()


def test_records_nested_beyond_reading_are_named_like_all_that_cannot_be_read(proven: Proven) -> None:
    for name, path, lines in proven.segments():
        for number in (1, len(lines)):
            deep = [line[:-66] for line in lines]
            kind = deep[number - 1].split(b",")[1]
            deep[number - 1] = b'{"seq":%d,%b,"new":' % (number, kind) + b"[" * 100_000
            path.write_bytes(model.segment_bytes(name, deep))
            report = proven.verify()
            assert report.integrity == "broken"
            assert {what for segment, _, what in named(report) if segment == name} & {"changed", "removed"}
        proven.restore()


def test_what_is_written_behind_a_seal_hides_nothing(proven: Proven) -> None:
    for name, path, lines in proven.segments():
        payloads = [line[:-66] for line in lines]
        behind = [
            b'{"seq":%d,"kind":"recovered","time":1.0}' % (len(lines) + 1),
            b'{"seq":%d,"kind":"sealed","time":1.0}' % (len(lines) + 2),
        ]
        path.write_bytes(model.segment_bytes(name, payloads + behind))
        assert proven.verify(stored=False).completeness == "unproven"
        payloads[1] = payloads[1].replace(b'e":1764', b'e":1765')
        path.write_bytes(model.segment_bytes(name, payloads + behind))
        assert proven.verify(stored=False).integrity == "broken"
        behind[0] = behind[0].replace(b"recovered", b"opened")
        path.write_bytes(model.segment_bytes(name, [line[:-66] for line in lines] + behind))
        assert (name, len(lines) + 1, "changed") in named(proven.verify(stored=False))
        proven.restore()


@pytest.mark.parametrize("stored", [True, False])
def test_a_removed_record_is_named(proven: Proven, stored: bool) -> None:
    for name, path, lines in proven.segments():
        for number in range(1, len(lines) + 1):
            path.write_bytes(b"".join(lines[: number - 1] + lines[number:]))
            report = proven.verify(stored)
            if number == len(lines) and "control" in name and not stored:
                # The last checkpoint itself: only what is kept outside knows of it.
                assert report.completeness == "unproven"
            else:
                what = "removed" if number < len(lines) else "truncated"
                assert report.completeness == "broken"
                assert (name, number, what) in named(report)
            proven.restore()


def test_two_records_that_changed_places_are_named(proven: Proven) -> None:
    for name, path, lines in proven.segments():
        for number in range(1, len(lines)):
            swapped = [*lines]
            swapped[number - 1], swapped[number] = swapped[number], swapped[number - 1]
            path.write_bytes(b"".join(swapped))
            report = proven.verify()
            assert report.integrity == "broken"
            assert (name, number, "reordered") in named(report)
            proven.restore()


def test_a_record_that_stands_twice_is_named(proven: Proven) -> None:
    for name, path, lines in proven.segments():
        for number in range(1, len(lines) + 1):
            path.write_bytes(b"".join(lines[:number] + lines[number - 1 :]))
            report = proven.verify()
            assert report.integrity == "broken"
            assert (name, number, "reordered") in named(report)
            proven.restore()


@pytest.mark.parametrize("stored", [True, False])
def test_a_truncated_segment_is_named(proven: Proven, stored: bool) -> None:
    for name, path, lines in proven.segments():
        for kept in range(len(lines)):
            path.write_bytes(b"".join(lines[:kept]))
            report = proven.verify(stored)
            if "control" in name and not stored:
                assert report.completeness != "ok"
            else:
                assert report.completeness == "broken"
                assert (name, kept + 1, "truncated") in named(report)
            proven.restore()


@pytest.mark.parametrize("stored", [True, False])
def test_a_missing_segment_is_named(proven: Proven, stored: bool) -> None:
    for name in proven.names:
        segment_path(proven.folder, name).unlink()
        report = proven.verify(stored)
        assert report.completeness == "broken"
        assert (name, None, "segment missing") in named(report)
        personal_path(proven.folder, name).unlink()
        report = proven.verify(stored)
        if stored or "control" not in name:
            assert (name, None, "segment missing") in named(report)
        assert report.completeness != "ok"
        proven.restore()


def test_a_renamed_segment_is_named(proven: Proven) -> None:
    for name in proven.names:
        other = name[:-1] + "9"
        segment_path(proven.folder, name).rename(segment_path(proven.folder, other))
        personal_path(proven.folder, name).rename(personal_path(proven.folder, other))
        found = named(proven.verify())
        assert (other, 1, "changed") in found
        assert (name, None, "segment missing") in found
        proven.restore()


def test_every_byte_counts(proven: Proven) -> None:
    """Any byte of any file, changed, removed, doubled or cut behind: never proven, and the file is named."""
    draw = random.Random(20)
    damages: list[Callable[[bytes, int], bytes]] = [
        lambda content, at: (
            content[:at] + bytes([content[at] ^ (1 << draw.randrange(8))]) + content[at + 1 :]
        ),
        lambda content, at: content[:at] + b"\n" + content[at + 1 :],
        lambda content, at: content[:at] + b" " + content[at + 1 :],
        lambda content, at: content[:at] + content[at + 1 :],
        lambda content, at: content[: at + 1] + content[at:],
        lambda content, at: content[:at],
        lambda content, at: content + content[at : at + 1],
    ]
    for file, content in proven.files.items():
        if not content:
            continue
        places = {
            0,
            1,
            len(content) - 1,
            len(content) - 2,
            *draw.sample(range(len(content)), min(len(content), 20)),
        }
        for at in places:
            for damage in damages:
                damaged = damage(content, at)
                if damaged == content:
                    continue
                (proven.folder / file).write_bytes(damaged)
                report = proven.verify()
                assert "broken" in (report.integrity, report.completeness), (file, at, damages.index(damage))
                assert any(problem.segment == file.rpartition(".")[0] for problem in report.problems)
        (proven.folder / file).write_bytes(content)


def test_blank_personal_fields_without_a_signed_erasure_are_named(proven: Proven) -> None:
    assert erase_personal(proven.folder, party="prt_1") == 1
    report = proven.verify()
    assert named(report) == {(proven.names[2], 4, "personal removed")}
    assert (report.integrity, report.erased) == ("broken", 0)
    assert erase_personal(proven.folder, older_than=1e12) == 4
    assert len(named(proven.verify())) == 5
    assert erase_personal(proven.folder, older_than=1e12) == 0
    for path in proven.folder.glob("*.personal"):
        content = path.read_bytes()
        assert len(content) == len(proven.files[path.name])
        assert set(content) <= set(b"0123456789 \n")


def test_only_older_personal_fields_are_erased_by_age(tmp_path: Path) -> None:
    world = World(tmp_path)
    writer = world.writer()
    early, late = world.call(writer), world.call(writer)
    assert erase_personal(world.folder, older_than=late.time) == 1
    beside = model.personal_fields(personal_path(world.folder, writer.name).read_bytes())
    assert [found is None for found in beside.values()] == [True, False]
    assert early.time < late.time


def test_personal_fields_that_were_changed_or_added_are_named(proven: Proven) -> None:
    name = proven.names[1]
    path = personal_path(proven.folder, name)
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    path.write_bytes(content.replace(b"203.0.113.7", b"203.0.113.6", 1))
    assert (name, 2, "personal changed") in named(proven.verify())
    salt = content[2:34]
    path.write_bytes(
        content.replace(salt, salt.upper()) if salt.upper() != salt else content[:2] + content[3:]
    )
    assert (name, 2, "personal changed") in named(proven.verify())
    path.write_bytes(b"".join(lines[1:]))
    assert (name, 2, "personal removed") in named(proven.verify())
    path.write_bytes(content + lines[-1])
    assert (name, 6, "personal changed") in named(proven.verify())
    path.unlink()
    assert (name, 2, "personal removed") in named(proven.verify())


def test_a_file_that_does_not_belong_there_is_named(proven: Proven) -> None:
    (proven.folder / "notes.txt").write_text("x")
    report = proven.verify()
    assert named(report) == {("notes.txt", None, "stranger")}
    assert report.integrity == "broken"


def test_every_kind_of_problem_has_verdicts() -> None:
    assert set(VERDICTS) == set(What)
    assert all(integrity != "ok" or completeness != "ok" for integrity, completeness in VERDICTS.values())


def test_a_thousand_segments_need_few_open_files(tmp_path: Path) -> None:
    world = World(tmp_path)
    control = world.writer("control")
    for _ in range(120):
        writer = world.writer()
        world.call(writer)
        writer.seal(world.tick())
        writer.close()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 30, hard))
    try:
        tailer = world.tailer()
        assert len(tailer.poll().entries) == 1 + 120 * 4
        world.checkpointer(control).make(tailer.heads(), 1, 0)
        assert len(tailer.poll().entries) == 1
        assert verify_journal(world.folder, [PUBLIC_KEY], {}).completeness == "ok"
        assert len(events(world.folder, limit=1000).items) == 120
        assert erase_personal(world.folder, party="nobody") == 0
        assert unfinished(world.folder) == [segment_path(world.folder, control.name)]
        control.seal(1.0)
        control.append(sign(SIGNING_KEY, 2, 1, None, {}))
        assert unfinished(world.folder) == []
        tailer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_shredded_journal_still_gives_a_short_report(tmp_path: Path) -> None:
    world = World(tmp_path)
    writer = world.writer()
    for _ in range(300):
        writer.append(world.opened(), personal=Personal("192.0.2.1"))
    path = segment_path(world.folder, writer.name)
    path.write_bytes(path.read_bytes().replace(b'"GET"', b'"PUT"'))
    report = verify_journal(world.folder, [PUBLIC_KEY], {})
    assert len(report.problems) == 200
    assert report.more_problems == 101
    assert os.path.getsize(path) > 0
