"""Signed notes of the control process: which writers started a segment, which personal lines are erased.

Each carries a signature of its own over plain text, so that it holds from the moment it stands in the file:
a kill before the next checkpoint costs nothing, and a record slipped in behind a dead writer's tail says
nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from valetkey.journal.chain import SegmentName, kind_of, lines_of, segment_path, segments_in, split_line
from valetkey.journal.checkpoint import key_id
from valetkey.journal.personal import Erasure
from valetkey.journal.records import UNREADABLE, AnyRecord, Erased, Started, decode_record
from valetkey.journal.segment import SegmentWriter

Note: TypeAlias = Started | Erased
Keys: TypeAlias = Mapping[str, Ed25519PublicKey]
"""Key id -> key whose signatures count."""


def statement_of(note: Note) -> bytes:
    """The text that is signed: one fact a line."""
    if isinstance(note, Started):
        lines = [
            "valetkey-started-1",
            f"time {note.time_ms}",
            f"writer {note.writer}",
            f"generation {note.generation}",
            f"not-before {note.start_not_before_ms}",
            f"segment {note.segment or '-'}",
            f"key {note.key_id}",
        ]
    else:
        lines = [
            "valetkey-erased-1",
            f"time {note.time_ms}",
            f"segment {note.segment}",
            f"reason {note.reason}",
            f"number {note.number}",
            *(f"records {first} {last}" for first, last in note.ranges),
            f"key {note.key_id}",
        ]
    return ("\n".join(lines) + "\n").encode("utf-8")


def signed(note: Note, keys: Keys) -> bool:
    """Whether one of the keys signed exactly this note."""
    key = keys.get(note.key_id)
    if key is None:
        return False
    try:
        key.verify(bytes.fromhex(note.signature), statement_of(note))
    except (InvalidSignature, ValueError):
        return False
    return True


class Notary:
    """Signs notes and appends them to the control segment. Used by the thread that writes the segment."""

    def __init__(self, private_key: Ed25519PrivateKey, writer: SegmentWriter) -> None:
        self._private_key = private_key
        self._key_id = key_id(private_key.public_key())
        self._writer = writer

    def started_itself(self, time_ms: int) -> Started:
        """Announce the control segment in itself: its second record, before any other is written."""
        name = SegmentName.parse(self._writer.name)
        return self.started(name.writer, name.generation, name.start_ms, time_ms, segment=str(name))

    def started(
        self,
        writer: str,
        generation: int,
        start_not_before_ms: int,
        time_ms: int,
        *,
        segment: str | None = None,
    ) -> Started:
        """Announce a worker's segment, before the worker may join. Raises `JournalFailed`.

        With `segment` only that very name is meant: do so where it is known, since otherwise the first segment
        of that writer and generation is taken for the worker's.
        """
        note = Started(time_ms, writer, generation, start_not_before_ms, self._key_id, "", segment)
        note = msgspec.structs.replace(note, signature=self._sign(note))
        self._writer.append(note)
        return note

    def erased(self, erasure: Erasure, time_ms: int) -> Erased:
        """Note an erasure and bring the note to the disk: only then may lines be blanked. Raises
        `JournalFailed`."""
        note = Erased(
            time_ms, erasure.segment, erasure.reason, erasure.number, erasure.ranges, self._key_id, ""
        )
        note = msgspec.structs.replace(note, signature=self._sign(note))
        self._writer.append(note)
        self._writer.sync()
        return note

    def _sign(self, note: Note) -> str:
        return self._private_key.sign(statement_of(note)).hex()


def by_id(public_keys: Iterable[Ed25519PublicKey]) -> dict[str, Ed25519PublicKey]:
    """Keys by their ids."""
    return {key_id(key): key for key in public_keys}


def records_marked(path: Path, mark: bytes, kinds: tuple[bytes, ...]) -> Iterator[AnyRecord]:
    """Records of some kinds whose line holds `mark`; others are passed by without being decoded."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for line in lines_of(descriptor, 0):
            if mark not in line or kind_of(line) not in kinds:
                continue
            parts = split_line(line)
            if parts is None:
                continue
            try:
                yield decode_record(parts[0])
            except UNREADABLE:
                continue
    finally:
        os.close(descriptor)


def started_in(path: Path, keys: Keys) -> Iterator[Started]:
    """All announcements in a control segment that one of the keys signed."""
    for record in records_marked(path, b'"kind":"started"', (b"started",)):
        if isinstance(record, Started) and signed(record, keys):
            yield record


def erased_in(path: Path, keys: Keys) -> Iterator[Erased]:
    """All erasures in a control segment that one of the keys signed."""
    for record in records_marked(path, b'"kind":"erased"', (b"erased",)):
        if isinstance(record, Erased) and signed(record, keys):
            yield record


def covered_lines(folder: Path, keys: Keys) -> dict[str, list[tuple[int, int]]]:
    """Segment -> sorted ranges of the records whose personal fields were erased with a signed note."""
    ranges: dict[str, list[tuple[int, int]]] = {}
    for name in segments_in(folder):
        if name.control:
            for note in erased_in(segment_path(folder, name), keys):
                ranges.setdefault(note.segment, []).extend(note.ranges)
    for found in ranges.values():
        found.sort()
    return ranges


def uncovered(numbers: Iterable[int], ranges: list[tuple[int, int]]) -> Iterator[int]:
    """Those of `numbers` (growing) that no range (sorted) holds."""
    reach = index = 0
    for number in numbers:
        while index < len(ranges) and ranges[index][0] <= number:
            reach = max(reach, ranges[index][1])
            index += 1
        if number > reach:
            yield number
