"""Following and tailing: every record once, verified, with its fields; breaks are reported, not passed on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_world import START, World

from valetkey.journal.chain import segment_path
from valetkey.journal.event import EventFilter
from valetkey.journal.follow import Follower
from valetkey.journal.records import End, Personal
from valetkey.journal.tail import Tailer, last_position


def test_following_shows_a_call_when_it_opens_and_again_when_it_closes(tmp_path: Path) -> None:
    world = World(tmp_path)
    writer = world.writer()
    world.call(writer)
    follower = Follower(world.folder, EventFilter(key_id="key_1"))
    assert follower.poll() == []
    opened = world.opened()
    writer.append(opened, personal=Personal("203.0.113.50"))
    world.call(writer, key_id="key_2")
    (event,) = follower.poll()
    assert (event.call, event.end, event.address) == (opened.call, None, "203.0.113.50")
    writer.append(world.closed(opened, End.CLIENT_GONE))
    other = world.writer("w5")
    refused = world.refusal(other)
    assert [(event.call, event.end, event.address) for event in follower.poll()] == [
        (opened.call, "client_gone", "203.0.113.50"),
        (refused.call, "refused", "203.0.113.8"),
    ]
    assert follower.poll() == []
    assert follower.problems == []
    follower.close()


def test_the_last_position_of_a_segment_is_what_its_writer_knows(tmp_path: Path) -> None:
    world = World(tmp_path)
    writer = world.writer()
    path = segment_path(world.folder, writer.name)
    for _ in range(3):
        position = last_position(path)
        assert (position.count, position.head, position.offset, position.sealed) == (
            writer.count,
            writer.head,
            path.stat().st_size,
            False,
        )
        world.call(writer)
    writer.seal(START)
    assert last_position(path).sealed
    content = path.read_bytes()
    path.write_bytes(content + b'{"seq":')
    assert last_position(path).offset == len(content)
    path.write_bytes(b"{")
    assert last_position(path) == last_position(Path("/dev/null"))


@settings(max_examples=40, deadline=None)
@given(polls=st.lists(st.integers(0, 4), max_size=8), restart=st.integers(0, 8))
def test_a_tailer_gives_each_record_once_with_its_fields_also_after_a_restart(
    tmp_path_factory: pytest.TempPathFactory, polls: list[int], restart: int
) -> None:
    world = World(tmp_path_factory.mktemp("journal"))
    writer = world.writer()
    tailer = world.tailer()
    seen: list[tuple[str, int]] = []
    addresses: list[str | None] = []
    count = 0

    def poll() -> None:
        batch = tailer.poll()
        assert batch.problems == []
        for entry in batch.entries:
            seen.append((entry.segment, entry.seq))
            if entry.personal is not None:
                addresses.append(entry.personal.address)

    for number, calls in enumerate(polls):
        for _ in range(calls):
            count += 1
            world.call(writer, f"192.0.2.{count}")
        if number == restart:
            positions = tailer.positions()
            tailer.close()
            tailer = Tailer(world.folder, positions)
        poll()
    poll()
    assert seen == [(writer.name, seq) for seq in range(1, writer.count + 1)]
    assert addresses == [f"192.0.2.{number}" for number in range(1, count + 1)]
    assert tailer.heads() == {writer.name: (writer.count, writer.head)}
    tailer.close()
    writer.close()


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        (b'"path":"/now"', b'"path":"/new"', "changed"),
        (b'{"seq":2,', b'{"seq":3,', "changed"),
        (b'"key_id"', b'"key\nid"', "changed"),
        (b"203.0.113.7", b"203.0.113.6", "personal changed"),
    ],
)
def test_a_tailer_reports_a_break_once_and_goes_on_with_the_others(
    tmp_path: Path, before: bytes, after: bytes, what: str
) -> None:
    world = World(tmp_path)
    broken, good = world.writer("w0"), world.writer("w1")
    world.call(broken)
    for path in world.folder.glob(f"{broken.name}.*"):
        path.write_bytes(path.read_bytes().replace(before, after))
    tailer = world.tailer()
    (problem,) = tailer.poll().problems
    assert (problem.segment, problem.seq, problem.what) == (broken.name, 2, what)
    world.call(broken)
    world.call(good)
    batch = tailer.poll()
    assert batch.problems == []
    assert good.name in {entry.segment for entry in batch.entries}
    assert (broken.name in {entry.segment for entry in batch.entries}) is (what == "personal changed")
    tailer.close()


def test_a_tailer_reports_what_was_there_and_is_gone(tmp_path: Path) -> None:
    world = World(tmp_path)
    first, second = world.writer("w0"), world.writer("w1")
    tailer = world.tailer()
    tailer.poll()
    positions, heads = tailer.positions(), tailer.heads()
    world.call(second)
    tailer.poll()
    segment_path(world.folder, second.name).write_bytes(b"")
    (problem,) = tailer.poll().problems
    assert (problem.segment, problem.what) == (second.name, "truncated")
    tailer.close()
    segment_path(world.folder, first.name).unlink()
    later = Tailer(world.folder, positions)
    assert (first.name, "segment missing") in {(found.segment, found.what) for found in later.poll().problems}
    assert later.heads()[first.name] == heads[first.name]
    later.close()


def test_a_tailer_finds_segments_that_come_later(tmp_path: Path) -> None:
    world = World(tmp_path)
    tailer = world.tailer()
    assert tailer.poll().entries == []
    for _ in range(5):
        writer = world.writer()
        assert [entry.segment for entry in tailer.poll().entries] == [writer.name]
        writer.seal(world.tick())
        tailer.poll()
    assert len(tailer.heads()) == 5
    tailer.close()
    shutil.rmtree(world.folder)


def test_a_tailer_that_goes_on_knows_which_calls_were_open(tmp_path: Path) -> None:
    world = World(tmp_path)
    writer = world.writer()
    world.call(writer)
    still_open, closes = world.opened(), world.opened()
    writer.append(still_open)
    writer.append(closes)
    before = Tailer(world.folder)
    before.poll()
    assert set(before.open_calls(writer.name)) == {still_open.call, closes.call}
    writer.append(world.closed(closes, End.COMPLETE))
    after = Tailer(world.folder, before.positions(), open_calls=before.all_open_calls())
    after.poll()
    assert set(after.open_calls(writer.name)) == {still_open.call}
    assert after.all_open_calls() == {writer.name: after.open_calls(writer.name)}
