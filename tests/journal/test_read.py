"""Events as people see them: joined, newest first, each exactly once whatever the page size."""

from __future__ import annotations

import base64
import time as clock
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_world import World

from valetkey.journal import backward, read
from valetkey.journal.backward import lines_backward
from valetkey.journal.errors import BadCursor
from valetkey.journal.event import Event, EventFilter
from valetkey.journal.personal import erase_personal
from valetkey.journal.read import events
from valetkey.journal.records import End, Flood, Personal
from valetkey.journal.segment import SegmentWriter


def pages(world: World, wanted: EventFilter | None, limit: int) -> list[Event]:
    """All events, page by page; a page but the last one is full."""
    found: list[Event] = []
    cursor: str | None = None
    while True:
        page = events(world.folder, wanted, limit, cursor)
        found += page.items
        if page.next is None:
            return found
        assert len(page.items) == limit
        cursor = page.next


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks so small that lines lie across their borders."""
    monkeypatch.setattr(backward, "STEP", 300)


STEP = st.tuples(
    st.sampled_from(["call", "refuse", "open", "close", "flood", "next segment", "clock back"]),
    st.integers(0, 2),
    st.sampled_from(["key_1", "key_2"]),
    st.sampled_from(["weather", 'we"ird\\']),
)


@settings(max_examples=50, deadline=None)
@given(
    steps=st.lists(STEP, max_size=20), limit=st.integers(1, 7), asked=st.integers(0, 4), more=st.booleans()
)
def test_paging_gives_every_event_exactly_once(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[str, int, str, str]],
    limit: int,
    asked: int,
    more: bool,
) -> None:
    world = World(tmp_path_factory.mktemp("journal"))
    writers = [world.writer(f"w{number}") for number in range(3)]
    expected: dict[str, dict[str, Any]] = {}
    waiting: list[tuple[SegmentWriter, Any]] = []
    for step, number, key, service in steps:
        writer = writers[number]
        address = f"192.0.2.{len(expected) + 1}"
        facts = {"key_id": key, "service": service, "address": address}
        if step == "call":
            call = world.call(writer, address, key_id=key, service=service).call
            expected[call] = facts | {"code": "VALID", "end": "complete"}
        elif step == "refuse":
            call = world.refusal(writer, key_id=key, service=service).call
            expected[call] = facts | {"code": "EXPIRED", "end": "refused", "address": "203.0.113.8"}
        elif step == "open":
            opened = world.opened(key_id=key, service=service)
            writer.append(opened, personal=Personal(address))
            waiting.append((writer, opened))
            expected[opened.call] = facts | {"code": "VALID", "end": None}
        elif step == "close" and waiting:
            writer, opened = waiting.pop(0)
            writer.append(world.closed(opened, End.UPSTREAM_FAILED, code="UPSTREAM_FAILED", status=502))
            expected[opened.call] |= {"code": "UPSTREAM_FAILED", "end": "upstream_failed"}
        elif step == "flood":
            call = world.opened().call
            writer.append(
                Flood(call, world.tick(), "MALFORMED", 7, world.now - 60), personal=Personal(address)
            )
            expected[call] = {"code": "MALFORMED", "end": "refused", "address": address, "key_id": None}
        elif step == "next segment" and not any(writer is writers[number] for writer, _ in waiting):
            writer.close()
            writers[number] = world.writer(f"w{number}")
        elif step == "clock back":
            world.now -= 5.0
    wanted = [
        EventFilter(),
        EventFilter(key_id="key_1"),
        EventFilter(service='we"ird\\'),
        EventFilter(code="UPSTREAM_FAILED"),
        EventFilter(code="VALID", key_id="key_2"),
    ][asked]
    matching = {
        call
        for call, facts in expected.items()
        if wanted.key_id in (None, facts.get("key_id"))
        and wanted.service in (None, facts.get("service"))
        and wanted.code in (None, facts["code"])
    }
    first = events(world.folder, wanted, limit)
    if more:  # what is written between pages belongs to no later page
        world.call(writers[0], key_id="key_1", service='we"ird\\')
        world.writer("w7")
    found = [*first.items]
    cursor = first.next
    while cursor is not None:
        page = events(world.folder, wanted, limit, cursor)
        assert 1 <= len(page.items) <= limit
        found += page.items
        cursor = page.next
    clock_back = any(step[0] == "clock back" for step in steps)
    if clock_back:  # a segment may sort before an older one of its writer: what came later may show as well
        found = [event for event in found if event.call in expected]
    assert sorted(event.call for event in found) == sorted(matching)
    for event in found:
        facts = expected[event.call]
        assert {name: getattr(event, name) for name in facts} == facts
    if not clock_back:
        assert [event.time for event in found] == sorted((event.time for event in found), reverse=True)
    for writer in writers:
        writer.close()


def test_an_event_has_all_that_the_records_say(tmp_path: Path) -> None:
    world = World(tmp_path)
    writer = world.writer()
    opened = world.opened(endpoint="GET /now", holder="prt_1")
    writer.append(opened, personal=Personal("203.0.113.7", "curl/8", "https://a.example"))
    writer.append(
        world.closed(opened, status=200, bytes_in=1, bytes_out=2, first_byte_ms=3.5, last_byte_ms=4.5, cost=6)
    )
    (event,) = events(world.folder).items
    assert event == Event(
        call=opened.call,
        key_id="key_1",
        code="VALID",
        time=opened.time,
        method="GET",
        path="/now",
        endpoint="GET /now",
        address="203.0.113.7",
        user_agent="curl/8",
        origin="https://a.example",
        service="weather",
        holder="prt_1",
        workspace=None,
        environment=None,
        status=200,
        end="complete",
        bytes_in=1,
        bytes_out=2,
        first_byte_ms=3.5,
        last_byte_ms=4.5,
        cost=6,
        count=1,
    )
    erase_personal(world.folder, party="prt_1")
    (event,) = events(world.folder).items
    assert (event.address, event.user_agent, event.origin, event.status) == (None, None, None, 200)


def test_calls_that_closed_behind_the_cursor_are_shown_closed(tmp_path: Path) -> None:
    world = World(tmp_path)
    writer = world.writer()
    opened = [world.opened() for _ in range(5)]
    for record in opened:
        writer.append(record)
    later = [world.call(writer) for _ in range(2)]
    for record in opened[:4]:
        writer.append(world.closed(record, status=204))
    first = events(world.folder, limit=3)
    assert [event.call for event in first.items] == [later[1].call, later[0].call, opened[4].call]
    second = events(world.folder, limit=4, cursor=first.next)
    assert [(event.call, event.status) for event in second.items] == [
        (call.call, 204) for call in opened[3::-1]
    ]


def test_since_and_until_bound_the_time(tmp_path: Path) -> None:
    world = World(tmp_path)
    writer = world.writer()
    calls = [world.call(writer) for _ in range(9)]
    wanted = EventFilter(since=calls[3].time, until=calls[6].time)
    assert [event.call for event in pages(world, wanted, 2)] == [call.call for call in calls[3:6]][::-1]


def test_since_ends_the_scan_where_all_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    writer = world.writer()
    for _ in range(50):
        world.call(writer)
    world.now += 10_000
    late = world.call(writer)
    taken: list[int] = []

    def counting(descriptor: int, end: int) -> Any:
        for place in lines_backward(descriptor, end):
            taken.append(place[0])
            yield place

    monkeypatch.setattr(read, "lines_backward", counting)
    monkeypatch.setattr(read, "_LOOK_AT_TIME", 4)
    found = events(world.folder, EventFilter(since=late.time - 1)).items
    assert [event.call for event in found] == [late.call]
    assert len(taken) < 20


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "!",
        "é",
        "e30x",
        base64.urlsafe_b64encode(b'{"w0":["../../etc/passwd",1]}').decode(),
        base64.urlsafe_b64encode(b'{"w0":["00000001764000000100-w1-1",0]}').decode(),
        base64.urlsafe_b64encode(b'{"w0":["00000001764000000100-w0-1",7]}').decode(),
        base64.urlsafe_b64encode(b'{"w0":["00000001764000000100-w0-1",-1]}').decode(),
        base64.urlsafe_b64encode(b'{"w0":["00000001764000000100-w0-1",99999999999999]}').decode(),
        base64.urlsafe_b64encode(b'{"w0":["00000001764000000999-w0-1",0]}').decode(),
    ],
)
def test_a_foreign_cursor_is_refused(tmp_path: Path, cursor: str) -> None:
    world = World(tmp_path)
    writer = world.writer()
    assert writer.name == "00000001764000000100-w0-1"
    world.call(writer)
    with pytest.raises(BadCursor, match="not one that this journal gave out"):
        events(world.folder, cursor=cursor)


def test_an_empty_journal_has_one_empty_page(tmp_path: Path) -> None:
    assert events(tmp_path / "none").items == []
    world = World(tmp_path)
    world.writer("control")
    assert events(world.folder).next is None


PIECE = st.binary(max_size=12).map(lambda line: line.replace(b"\n", b""))


@given(content=st.lists(PIECE, max_size=30), rest=PIECE, step=st.integers(1, 40))
@settings(deadline=None)
def test_lines_backward_are_lines_forward_reversed(
    tmp_path_factory: pytest.TempPathFactory, content: list[bytes], rest: bytes, step: int
) -> None:
    path = tmp_path_factory.mktemp("lines") / "lines"
    whole = b"".join(line + b"\n" for line in content) + rest
    path.write_bytes(whole)
    with path.open("rb") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(backward, "STEP", step)
        found = list(lines_backward(file.fileno(), len(whole)))
    assert [line for _, line in found][::-1] == [line + b"\n" for line in content]
    assert all(whole[offset : offset + len(line)] == line for offset, line in found)


def test_the_newest_of_many_events_come_without_reading_the_rest(tmp_path: Path) -> None:
    world = World(tmp_path)
    writer = world.writer()
    for _ in range(2000):
        world.call(writer)
    started = clock.perf_counter()
    assert len(events(world.folder, limit=5).items) == 5
    assert clock.perf_counter() - started < 1
