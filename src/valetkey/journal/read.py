"""Calls as people see them: opened and closed joined, personal fields beside, newest first, page by page.

Segments are read backwards. A cursor says where each writer's segments were left off, so that paging gives
every event exactly once, whatever the clocks did and however much is written meanwhile.
"""

from __future__ import annotations

import base64
import heapq
import os
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

import msgspec

from valetkey.journal.backward import lines_backward
from valetkey.journal.call_id import time_of
from valetkey.journal.chain import (
    Admit,
    SegmentName,
    call_of,
    kind_of,
    lines_of,
    segment_path,
    segments_in,
    seq_of,
    split_line,
)
from valetkey.journal.errors import BadCursor
from valetkey.journal.event import Event, EventFilter, Page, join
from valetkey.journal.personal import PersonalReader
from valetkey.journal.records import UNREADABLE, Closed, Flood, Opened, decode_record

MOST = 1_000
"""Events on one page: a page fits in memory and answers in a moment."""
CLOCK_SLACK = 3600.0
"""Seconds a clock may have stepped back in a segment: so much further is read before `since` ends a scan."""
_LOOK_AT_TIME = 256
"""Lines between two looks at the time of lines that the filter passes by."""


class _Found(msgspec.Struct, gc=False):
    """An event found in a segment."""

    event: Event
    segment: str
    end: int
    """Where its line ends."""


class _WriterStream:
    """Events of one writer's segments, newest first."""

    def __init__(self, folder: Path, segments: list[str], start: int | None, wanted: EventFilter) -> None:
        """`segments` newest first; `start` is the offset in the first one, None for its end."""
        self._folder = folder
        self._segments = segments
        self._start = start
        self._wanted = wanted
        self._needles = wanted.needles()
        self._stop_before = None if wanted.since is None else wanted.since - CLOCK_SLACK

    def events(self) -> Generator[_Found]:
        """All that match. Only the segment being read is open; close the generator to let go of it."""
        start = self._start
        for segment in self._segments:
            descriptor = os.open(segment_path(self._folder, segment), os.O_RDONLY | os.O_CLOEXEC)
            beside = PersonalReader(self._folder, segment)
            try:
                end = os.fstat(descriptor).st_size if start is None else start
                for found in self._events(segment, descriptor, beside, end, start is not None):
                    if found is None:
                        return
                    yield found
            finally:
                os.close(descriptor)
                beside.close()
            start = None

    def _events(
        self, segment: str, descriptor: int, beside: PersonalReader, end: int, resumed: bool
    ) -> Iterator[_Found | None]:
        """Events of one segment, None when all that follows is too old."""
        closed: dict[bytes, bytes] = {}
        code = None if self._wanted.code is None else b'"code":%b' % msgspec.json.encode(self._wanted.code)
        countdown = 0
        behind = _Behind(descriptor, end)
        for offset, line in lines_backward(descriptor, end):
            parts = split_line(line)
            if parts is None:
                continue
            payload = parts[0]
            kind = kind_of(payload)
            if kind == b"closed":
                closed[call_of(payload)] = payload
                continue
            if kind not in (b"opened", b"flood"):
                continue
            call = call_of(payload)
            ending = closed.pop(call, None)
            countdown -= 1
            if self._stop_before is not None and countdown < 0:
                countdown = _LOOK_AT_TIME
                if _too_old(call, self._stop_before):
                    yield None
                    return
            if any(needle not in payload for needle in self._needles):
                continue
            if ending is None and resumed and kind == b"opened" and _may_close_later(payload):
                ending = behind.closed(call)
            if code is not None and code not in payload and (ending is None or code not in ending):
                continue
            event = _event(payload, ending, beside)
            if event is not None and self._wanted.matches(event):
                yield _Found(event, segment, offset + len(line))


def _event(payload: bytes, ending: bytes | None, beside: PersonalReader) -> Event | None:
    try:
        record = decode_record(payload)
        closed = None if ending is None else decode_record(ending)
    except UNREADABLE:
        return None  # verify names it
    seq = seq_of(payload)
    if not isinstance(record, Opened | Flood) or seq is None:
        return None
    personal = beside.fields(seq) if record.personal is not None else None
    return join(record, closed if isinstance(closed, Closed) else None, personal)


def _too_old(call: bytes, before: float) -> bool:
    try:
        return time_of(call.decode("ascii")) / 1000 < before
    except ValueError:
        return False


def _may_close_later(payload: bytes) -> bool:
    return b'"code":"VALID"' in payload


class _Behind:
    """Closed records behind a cursor of calls that opened before it, searched once a page."""

    def __init__(self, descriptor: int, offset: int) -> None:
        self._lines = lines_of(descriptor, offset)
        self._opened: set[bytes] = set()
        self._closed: dict[bytes, bytes] = {}

    def closed(self, call: bytes) -> bytes | None:
        """The closed payload of a call; None when it is still open."""
        if call in self._closed:
            return self._closed.pop(call)
        for line in self._lines:
            parts = split_line(line)
            if parts is None:
                continue
            kind = kind_of(parts[0])
            if kind == b"opened":
                self._opened.add(call_of(parts[0]))
            elif kind == b"closed":
                found = call_of(parts[0])
                if found == call:
                    return parts[0]
                if found in self._opened:
                    self._opened.discard(found)
                else:
                    self._closed[found] = parts[0]
        return None


Places = dict[str, tuple[str, int]]
"""Writer -> segment and offset before which its events are still to come."""

_decode_places = msgspec.json.Decoder(Places).decode


def _encode_cursor(places: Places) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(places)).decode("ascii").rstrip("=")


def _decode_cursor(folder: Path, cursor: str) -> Places:
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        places = _decode_places(base64.b64decode(padded, altchars=b"-_", validate=True))
        for writer, (segment, offset) in places.items():
            if SegmentName.parse(segment).writer != writer or offset < 0:
                raise ValueError("not a place in this journal")
            with segment_path(folder, segment).open("rb") as file:
                file.seek(max(offset - 1, 0))
                if offset and file.read(1) != b"\n":
                    raise ValueError("not the beginning of a record")
    except (ValueError, OSError, OverflowError) as error:
        raise BadCursor(
            "The cursor is not one that this journal gave out. Start again without one."
        ) from error
    return places


def events(
    folder: Path,
    wanted: EventFilter | None = None,
    limit: int = 100,
    cursor: str | None = None,
    *,
    admit: Admit | None = None,
) -> Page:
    """One page of at most `limit` events that match, newest first. Segments not admitted are passed by.

    Raises `BadCursor` for a `cursor` that was not the `next` of an earlier page of the same filter.
    """
    wanted = wanted or EventFilter()
    limit = max(1, min(limit, MOST))
    by_writer: dict[str, list[str]] = {}
    for name in reversed(segments_in(folder) if folder.is_dir() else []):
        if admit is None or admit(name):
            by_writer.setdefault(name.writer, []).append(str(name))
    places: Places = {}
    starts: dict[str, int | None] = dict.fromkeys(by_writer)
    if cursor is not None:
        places = _decode_cursor(folder, cursor)
        starts = {writer: offset for writer, (_, offset) in places.items()}
        for writer in list(by_writer):
            if writer in places:
                by_writer[writer] = [name for name in by_writer[writer] if name <= places[writer][0]]
    streams = {
        writer: _WriterStream(folder, by_writer.get(writer, []), start, wanted).events()
        for writer, start in starts.items()
    }
    try:
        return _page(streams, limit)
    finally:
        for stream in streams.values():
            stream.close()


def _page(streams: Mapping[str, Iterator[_Found]], limit: int) -> Page:
    heap: list[tuple[float, str, _Found]] = []

    def push(writer: str) -> None:
        found = next(streams[writer], None)
        if found is not None:
            heapq.heappush(heap, (-found.event.time, writer, found))

    for writer in streams:
        push(writer)
    items: list[Event] = []
    while heap and len(items) < limit:
        _, writer, found = heapq.heappop(heap)
        items.append(found.event)
        push(writer)
    # What waits in the heap comes first on the next page: a writer goes on behind its waiting event's line.
    places = {writer: (found.segment, found.end) for _, writer, found in heap}
    return Page(items, _encode_cursor(places) if places else None)
