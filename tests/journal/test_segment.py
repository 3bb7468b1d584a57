"""The writer of a segment: what it writes is the format, and what fails leaves a whole segment behind."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_world import World

from models import chain_model as model
from valetkey.journal import segment
from valetkey.journal.call_id import RANDOM_BYTES, call_id, time_of
from valetkey.journal.chain import SegmentName, first_link, personal_path, segment_path
from valetkey.journal.disk import INTERVAL_NS, Room
from valetkey.journal.errors import JournalFailed
from valetkey.journal.personal import PersonalReader
from valetkey.journal.randomness import RandomPool
from valetkey.journal.records import Audit, Closed, Opened, Personal
from valetkey.journal.segment import SegmentWriter

TEXT = st.one_of(st.none(), st.text(max_size=30))
STEPS = st.lists(st.tuples(st.sampled_from(["append", "call", "both"]), TEXT, TEXT), max_size=8)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_whatever_is_appended_reads_back_by_the_model(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str | None, str | None]]
) -> None:
    world = World(tmp_path_factory.mktemp("journal"))
    writer = world.writer()
    expected: list[tuple[str, Personal | None]] = [("segment", None)]
    for step, path, agent in steps:
        opened = world.opened(path=path)
        personal = Personal("192.0.2.1", agent) if agent is not None else None
        if step == "call":
            writer.append(opened, personal=personal)
            expected.append(("opened", personal))
        elif step == "both":
            writer.append(opened, world.closed(opened), personal=personal)
            expected += [("opened", personal), ("closed", None)]
        else:
            writer.append(world.closed(opened))
            expected.append(("closed", None))
    content = segment_path(world.folder, writer.name).read_bytes()
    records, rest, good = model.read_segment(writer.name, content)
    beside = model.personal_fields(personal_path(world.folder, writer.name).read_bytes())
    assert good
    assert rest == b""
    assert [record["kind"] for record in records] == [kind for kind, _ in expected]
    payloads = [line[:-65] for line in content.split(b"\n")[:-1]]
    assert (writer.count, writer.head) == (len(records), model.links(writer.name, payloads)[-1])
    assert content == model.segment_bytes(writer.name, payloads)
    for record, (_, personal) in zip(records, expected, strict=True):
        assert ("personal" in record) == (personal is not None)
        if personal is not None:
            found = beside[int(str(record["seq"]))]
            assert found is not None
            assert found[0] == record["personal"]
            assert found[1]["user_agent"] == personal.user_agent
    writer.close()


def test_personal_fields_stand_nowhere_in_the_segment(tmp_path: Path) -> None:
    world = World(tmp_path)
    writer = world.writer()
    writer.append(
        world.opened(), personal=Personal("203.0.113.99", "agent-x", "https://a.example", "https://b.example")
    )
    content = segment_path(world.folder, writer.name).read_bytes()
    assert not re.search(rb"203\.0\.113|agent-x|a\.example|b\.example", content)


def test_the_same_address_has_another_commitment_each_time(tmp_path: Path) -> None:
    world = World(tmp_path)
    writer = world.writer()
    for _ in range(300):  # more than one block of random bytes
        writer.append(world.opened(), personal=Personal("203.0.113.99"))
    beside = model.personal_fields(personal_path(world.folder, writer.name).read_bytes())
    assert len({found[0] for found in beside.values() if found is not None}) == 300


def test_header_bytes_that_are_no_text_do_not_fail_the_call(tmp_path: Path) -> None:
    world = World(tmp_path)
    writer = world.writer()
    writer.append(world.opened(), personal=Personal(user_agent="odd \udcff agent"))
    assert PersonalReader(world.folder, writer.name).fields(2) == Personal(user_agent="odd ? agent")


def test_files_are_the_owners_alone(tmp_path: Path) -> None:
    world = World(tmp_path)
    writer = world.writer()
    assert stat.S_IMODE(world.folder.stat().st_mode) == 0o700
    for path in (segment_path(world.folder, writer.name), personal_path(world.folder, writer.name)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_segment_is_never_written_by_a_second_writer(tmp_path: Path) -> None:
    world = World(tmp_path)
    writer = world.writer()
    with pytest.raises(JournalFailed, match="could not be created"):
        SegmentWriter(world.folder, SegmentName.parse(writer.name), time=1.0, random=world.random)


@pytest.mark.parametrize("write", range(1, 11))
@pytest.mark.parametrize("kept", [None, 0, 1, 40])
def test_a_write_that_fails_leaves_whole_records_and_a_writer_that_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: int, kept: int | None
) -> None:
    """`write` counts write(2); `kept` bytes of it reach the disk, None: it raises after reaching it whole."""
    world = World(tmp_path)
    writer = world.writer()
    calls = 0

    def failing(descriptor: int, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls < write:
            return os.write(descriptor, data)
        if kept is None:
            os.write(descriptor, data)
            raise OSError(errno.EIO, "Input/output error")
        return os.write(descriptor, data[:kept]) if kept else 0

    monkeypatch.setattr(segment, "_write", failing)
    before = writer.count

    def three_calls() -> None:
        nonlocal before
        for _ in range(3):
            before = writer.count
            world.call(writer)
            before = writer.count
            world.refusal(writer)

    with pytest.raises(JournalFailed, match="cannot be written"):
        three_calls()
    assert writer.failed
    records, rest, good = model.read_segment(
        writer.name, segment_path(world.folder, writer.name).read_bytes()
    )
    assert good
    assert rest == b""
    assert len(records) == writer.count >= before
    beside = model.personal_fields(personal_path(world.folder, writer.name).read_bytes())
    assert set(beside) == {record["seq"] for record in records if "personal" in record}
    monkeypatch.undo()
    for append in (
        lambda: writer.append(Audit(1.0, "key:issue", "owner")),
        lambda: writer.append(world.opened(), personal=None),
        lambda: world.refusal(writer),
    ):
        with pytest.raises(JournalFailed):
            append()
    assert len(records) == writer.count


@pytest.mark.parametrize("fails", ["first record", "file beside"])
def test_a_segment_that_could_not_begin_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    really_open = os.open

    def write(descriptor: int, data: bytes) -> int:
        raise full

    def open_(path: Path, flags: int, *mode: int) -> int:
        if str(path).endswith(".personal"):
            raise full
        return really_open(path, flags, *mode)

    if fails == "first record":
        monkeypatch.setattr(segment, "_write", write)
    else:
        monkeypatch.setattr(os, "open", open_)
    world = World(tmp_path)
    with pytest.raises(JournalFailed, match="No space left on device"):
        world.writer()
    monkeypatch.undo()
    assert list(world.folder.iterdir()) == []
    world.call(world.writer())


def test_a_failed_sync_makes_the_writer_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = World(tmp_path).writer()

    def failing(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", failing)
    with pytest.raises(JournalFailed):
        writer.sync()
    with pytest.raises(JournalFailed):
        writer.append(Audit(1.0, "key:issue", "owner"))


def test_a_closed_writer_refuses(tmp_path: Path) -> None:
    writer = World(tmp_path).writer()
    writer.close()
    writer.close()
    with pytest.raises(JournalFailed):
        writer.append(Audit(1.0, "key:issue", "owner"))


@pytest.mark.parametrize(
    "text",
    ["", "1-w0-1", "00000001764000000000-w16-1", "00000001764000000000-w0-01", "00000001764000000000-w0-1\n",
     "00000001764000000000-control-", "00000001764000000000-W0-1", "../00000001764000000000-w0-1"],
)  # fmt: skip
def test_names_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="name"):
        SegmentName.parse(text)


def test_names_sort_by_their_start() -> None:
    names = [SegmentName(9, "w0", 3), SegmentName(10, "control", 1), SegmentName(1_764_000_000_000, "w15", 2)]
    assert sorted(names, key=str) == sorted(names) == names
    assert all(SegmentName.parse(str(name)) == name for name in names)
    assert len({first_link(str(name)) for name in names}) == 3


@given(time_ms=st.integers(0, (1 << 48) - 1), random=st.binary(min_size=10, max_size=10))
def test_call_ids_are_uuids_of_version_7_that_carry_their_time(time_ms: int, random: bytes) -> None:
    text = call_id(time_ms, random)
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", text)
    assert time_of(text) == time_ms
    assert call_id(min(time_ms + 1, (1 << 48) - 1), random) >= text


def test_call_ids_of_one_millisecond_differ() -> None:
    random = RandomPool()
    assert len({call_id(1, random.take(RANDOM_BYTES)) for _ in range(2000)}) == 2000


def test_random_bytes_are_handed_out_once_and_in_whole() -> None:
    pool = RandomPool(lambda size: bytes(index % 251 for index in range(size)))
    assert pool.take(4000) + pool.take(96) == bytes(index % 251 for index in range(4096))
    assert len(pool.take(16)) == 16
    assert repr(pool) == "RandomPool(***)"


def test_the_disk_is_asked_at_most_once_in_an_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def answer(path: Path) -> bool:
        asked.append(path)
        return len(asked) == 1

    monkeypatch.setattr("valetkey.journal.disk.enough_room", answer)
    room = Room(tmp_path)
    assert room.enough(5)
    assert room.enough(5 + INTERVAL_NS - 1)
    assert not room.enough(5 + INTERVAL_NS)
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("blocks", "free", "enough"),
    [
        (1000, 50, True),
        (1000, 49, False),
        (1 << 30, (2 << 30) // 4096, True),
        (1 << 30, (2 << 30) // 4096 - 1, False),
    ],
)
def test_a_twentieth_of_the_disk_is_held_back_but_at_most_two_gibibytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: int, free: int, enough: bool
) -> None:
    disk = os.statvfs_result((4096, 4096, blocks, free, free, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    assert Room(tmp_path).enough(0) is enough


def test_a_disk_that_cannot_be_asked_has_no_room(tmp_path: Path) -> None:
    assert not Room(tmp_path / "gone").enough(0)


def test_records_leave_out_what_nothing_fills() -> None:
    assert len(segment._encode(Closed("c", 1.0, "complete"))) < 60
    assert b"null" not in segment._encode(Opened("c", 1.0, "VALID"))
