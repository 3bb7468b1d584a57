"""Reads what is new in all segments, verifying the chain as it goes: how the control process, the monitor and
`events --follow` learn of calls. Each whole line is read once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from valetkey.decision.codes import Code
from valetkey.journal.admission import says_nothing
from valetkey.journal.backward import lines_backward
from valetkey.journal.chain import (
    BLOCK,
    Admit,
    Problem,
    SegmentName,
    commitment_of,
    first_link,
    kind_of,
    next_link,
    personal_path,
    segment_path,
    segments_in,
    seq_of,
    split_line,
)
from valetkey.journal.personal import first_at, parse_line
from valetkey.journal.records import UNREADABLE, AnyRecord, Closed, Opened, Personal, Sealed, decode_record

_SETTLED_NS = 1_000_000_000
"""A folder that changed less than this ago is listed again: time stamps of files are coarse."""


class Position(msgspec.Struct, frozen=True):
    """How far a segment was read."""

    offset: int = 0
    count: int = 0
    head: str = ""
    sealed: bool = False


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One record as the tailer hands it on."""

    segment: str
    seq: int
    record: AnyRecord
    personal: Personal | None = None


class Batch(msgspec.Struct, frozen=True):
    """What one poll brought."""

    entries: list[Entry]
    problems: list[Problem]


class _Reading:
    """One segment being read."""

    def __init__(self, folder: Path, name: SegmentName, position: Position, with_personal: bool) -> None:
        self.name = str(name)
        self.control = name.control
        self.offset = position.offset
        self.count = position.count
        self.link = bytes.fromhex(position.head) if position.count else first_link(self.name)
        self.sealed = position.sealed
        self.broken = False
        self.open_calls: dict[str, Opened] = {}
        self.with_personal = with_personal
        self._folder = folder
        self._descriptor: int | None = None
        self._beside: int | None = None
        self.beside_offset = 0
        self.beside_lines: list[bytes] = []

    def position(self) -> Position:
        return Position(self.offset, self.count, self.link.hex(), self.sealed)

    @property
    def descriptor(self) -> int:
        """The segment, opened at its first use: of a thousand segments only those that grow stay open."""
        if self._descriptor is None:
            self._descriptor = os.open(segment_path(self._folder, self.name), os.O_RDONLY | os.O_CLOEXEC)
        return self._descriptor

    def close(self) -> None:
        for descriptor in (self._descriptor, self._beside):
            if descriptor is not None:
                os.close(descriptor)
        self._descriptor = self._beside = None

    def behind(self) -> bool:
        """Whether there is more to read."""
        return os.fstat(self.descriptor).st_size > self.offset

    def lines(self) -> list[bytes]:
        """The next whole lines, at most about `BLOCK` bytes unless one line is longer."""
        block = os.pread(self.descriptor, BLOCK, self.offset)
        while block and b"\n" not in block:
            more = os.pread(self.descriptor, BLOCK, self.offset + len(block))
            if not more:
                return []
            block += more
        end = block.rfind(b"\n") + 1
        return _split(block[:end])

    def personal(self, seq: int) -> tuple[Personal | None, str | None]:
        """Personal fields of record `seq` and the commitment its line has (None for an erased one)."""
        if self._beside is None:
            try:
                self._beside = os.open(personal_path(self._folder, self.name), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return None, "missing"
            self.beside_offset = first_at(self._beside, seq)
        while True:
            if not self.beside_lines:
                block = os.pread(self._beside, BLOCK, self.beside_offset)
                end = block.rfind(b"\n") + 1
                if not end:
                    return None, "missing"
                self.beside_offset += end
                self.beside_lines = _split(block[:end])[::-1]
            line = parse_line(self.beside_lines[-1], 0)
            if line is not None and line.seq > seq:
                return None, "missing"
            self.beside_lines.pop()
            if line is not None and line.seq == seq:
                return (None, None) if line.erased else (line.fields, line.commitment)


def _split(block: bytes) -> list[bytes]:
    return [piece + b"\n" for piece in block.split(b"\n")[:-1]]


class Tailer:
    """Remembers how far each segment was read."""

    def __init__(
        self,
        folder: Path,
        positions: Mapping[str, Position] | None = None,
        *,
        open_calls: Mapping[str, Mapping[str, Opened]] | None = None,
        from_end: bool = False,
        with_personal: bool = True,
        admit: Admit | None = None,
    ) -> None:
        """Start behind `positions` (as `positions()` gave them), else at the beginning of every segment.

        `open_calls`: what `all_open_calls` said at those positions, so that these calls can still be closed.
        `from_end`: begin behind what is there now, trusting its last line; for following, not for proving.
        `admit` is asked for each segment, at every poll until it says yes. One that is not admitted is
        reported once as soon as it says anything, and has neither position nor head.
        """
        self._admit = admit
        self._strangers: dict[SegmentName, int | None] = {}
        """Segments that are not admitted, with the size at which they said nothing, None once reported."""
        self._folder = folder
        self._with_personal = with_personal
        self._readings: dict[str, _Reading] = {}
        self._done: dict[str, Position] = {}
        self._listed_ns: int | None = None
        self._start = dict(positions or {})
        self._open_before = dict(open_calls or {})
        if from_end:
            for name in segments_in(folder):
                self._start.setdefault(str(name), last_position(segment_path(folder, name)))
        self._missing: list[Problem] = []
        for segment, position in self._start.items():
            try:
                size = os.stat(segment_path(folder, segment)).st_size
            except FileNotFoundError:
                size = -1
                self._missing.append(
                    Problem(segment, None, "segment missing", "The segment was there before and is gone.")
                )
            ended = size < 0 or (position.sealed and size == position.offset)
            if ended and (admit is None or admit(SegmentName.parse(segment))):
                self._done[segment] = position

    def poll(self, limit: int = 10_000) -> Batch:
        """Read what is new, at most about `limit` records a segment. Entries of one segment are in its order.

        A segment whose chain breaks is reported once and not read any further.
        """
        self._list()
        entries: list[Entry] = []
        problems, self._missing = self._missing, []
        problems += self._new_strangers()
        for reading in list(self._readings.values()):
            if not reading.broken:
                self._read(reading, limit, entries, problems)
                self._let_go(reading)
        return Batch(entries, problems)

    def positions(self) -> dict[str, Position]:
        """How far every segment was read; what a later `Tailer` starts from."""
        return self._done | {name: reading.position() for name, reading in self._readings.items()}

    def heads(self) -> dict[str, tuple[int, str]]:
        """Verified count and head of every segment that has a record."""
        return {
            name: (position.count, position.head)
            for name, position in self.positions().items()
            if position.count
        }

    def open_calls(self, segment: str) -> dict[str, Opened]:
        """VALID calls read of a segment that have not closed: `recover_segment` goes on from them."""
        reading = self._readings.get(segment)
        return dict(reading.open_calls) if reading is not None else {}

    def all_open_calls(self) -> dict[str, dict[str, Opened]]:
        """The same of every segment that is still read; what a later `Tailer` needs beside the positions."""
        return {name: self.open_calls(name) for name in self._readings}

    def close(self) -> None:
        for reading in self._readings.values():
            reading.close()
        self._readings.clear()

    def _list(self) -> None:
        try:
            changed = os.stat(self._folder).st_mtime_ns
        except FileNotFoundError:
            return
        if self._listed_ns is None or changed + _SETTLED_NS >= self._listed_ns:
            self._listed_ns = time.time_ns()
            names = segments_in(self._folder)
        else:
            names = list(self._strangers)
        for name in names:
            segment = str(name)
            if segment in self._readings or segment in self._done:
                continue
            if not self._admitted(name):
                self._strangers.setdefault(name, 0)
                continue
            self._strangers.pop(name, None)
            position = self._start.get(segment, Position())
            reading = _Reading(self._folder, name, position, self._with_personal)
            if position.count:
                reading.open_calls.update(self._open_before.pop(segment, {}))
            self._readings[segment] = reading

    def _admitted(self, name: SegmentName) -> bool:
        return self._admit is None or self._admit(name)

    def _new_strangers(self) -> list[Problem]:
        """A worker makes its segment before it is announced, but says nothing in it before that."""
        problems = []
        for name, size in list(self._strangers.items()):
            if size is None:
                continue
            try:
                now = os.stat(segment_path(self._folder, name)).st_size
                if now == size:
                    continue
                silent = says_nothing(self._folder, name)
            except FileNotFoundError:
                del self._strangers[name]
                continue
            self._strangers[name] = now if silent else None
            if not silent:
                problems.append(
                    Problem(str(name), None, "stranger", "No signed record announces the segment.")
                )
        return problems

    def _let_go(self, reading: _Reading) -> None:
        """Close a sealed segment. Of control segments the one that was written last stays, as nobody writes another one
        now: a checkpoint may follow its seal. Names do not tell, where the clock was set back."""
        if not reading.sealed or reading.behind():
            return
        if reading.control and all(other.sealed for other in self._readings.values() if other.control):
            return
        self._done[reading.name] = reading.position()
        reading.close()
        del self._readings[reading.name]

    def _read(self, reading: _Reading, limit: int, entries: list[Entry], problems: list[Problem]) -> None:
        def broken(what: str, detail: str) -> None:
            reading.broken = True
            problems.append(Problem(reading.name, reading.count + 1, what, detail))

        if os.fstat(reading.descriptor).st_size < reading.offset:
            broken("truncated", "The segment is shorter than it was.")
            return
        taken = 0
        while taken < limit and (lines := reading.lines()):
            for line in lines:
                parts = split_line(line)
                if parts is None or seq_of(parts[0]) != reading.count + 1:
                    broken("changed", "The line is not the record that follows.")
                    return
                payload, stated = parts
                if next_link(reading.link, payload) != stated:
                    broken("changed", "The record does not continue the chain.")
                    return
                reading.link = stated
                reading.count += 1
                reading.offset += len(line)
                self._hand_on(reading, payload, entries, problems)
            taken += len(lines)

    def _hand_on(
        self, reading: _Reading, payload: bytes, entries: list[Entry], problems: list[Problem]
    ) -> None:
        seq = reading.count
        try:
            record = decode_record(payload)
        except UNREADABLE:
            problems.append(Problem(reading.name, seq, "unreadable", "A record of a kind not known here."))
            return
        personal = None
        commitment = commitment_of(payload) if reading.with_personal else None
        if commitment is not None:
            personal, found = reading.personal(seq)
            if found is not None and found != commitment:
                personal = None
                problems.append(
                    Problem(
                        reading.name, seq, "personal changed", "The fields beside it are not those recorded."
                    )
                )
        if isinstance(record, Opened):
            if record.code == Code.VALID:
                reading.open_calls[record.call] = record
        elif isinstance(record, Closed):
            reading.open_calls.pop(record.call, None)
        elif isinstance(record, Sealed):
            reading.sealed = True
        entries.append(Entry(reading.name, seq, record, personal))


def last_position(path: Path) -> Position:
    """Where a segment ends, as its last whole line states it, without reading the rest."""
    line, end = _last_line(path)
    parts = split_line(line)
    count = seq_of(parts[0]) if parts is not None else None
    if parts is None or count is None:
        return Position()
    return Position(end, count, parts[1].hex(), kind_of(parts[0]) == b"sealed")


def _last_line(path: Path) -> tuple[bytes, int]:
    """The last whole line of a file and where it ends; empty when there is none."""
    with path.open("rb") as file:
        for offset, line in lines_backward(file.fileno(), os.fstat(file.fileno()).st_size):
            return line, offset + len(line)
    return b"", 0
