"""The personal fields beside a segment: read them, find one, erase them.

A line is ``<seq> <32 hex digits of salt> <JSON of the fields>\\n``; the record commits to SHA-256(salt ||
JSON). An erased line keeps its number and its length and is otherwise spaces: the chain still verifies, and
without the salt nobody can test a guess against the commitment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import msgspec

from valetkey.journal.chain import (
    commitment_of,
    kind_of,
    lines_of,
    personal_path,
    segment_path,
    segments_in,
    seq_of,
    split_line,
)
from valetkey.journal.records import UNREADABLE, Personal, decode_personal

SALT_BYTES = 16
"""128 random bits: an address has too few bits itself to be hidden by a hash."""

_SALT = re.compile(rb"[0-9a-f]{32}")
_HEX_DIGIT = re.compile(rb"[0-9a-f]")

_MOST_RANGES = 1_000
"""Ranges in one record of an erasure: some 16 kB."""
_MOST_LINES = 50_000
"""Lines blanked after one record of an erasure, so that memory stays bounded."""
_pwrite = os.pwrite

_NEAR = 4096
"""Bytes looked at when bisecting: holds any usual line whole."""


class PersonalLine(msgspec.Struct, frozen=True, gc=False):
    """One line as it stands in the file."""

    seq: int
    start: int
    """Offset of the line."""
    size: int
    """Bytes of the line, its newline counted."""
    rest: bytes
    """What follows the number and its space, without newline."""

    @property
    def erased(self) -> bool:
        return not self.rest.strip(b" ")

    @property
    def half_erased(self) -> bool:
        """Whether it is blank from its beginning or to its end only, as a loss of power in the middle of the
        write leaves it; what is left can be tested against nothing any more."""
        blank_first, blank_last = self.rest[:1] == b" ", self.rest[-1:] == b" "
        if blank_first == blank_last:
            return False
        return self.rest[-1:] == b"}" if blank_first else _HEX_DIGIT.match(self.rest) is not None

    @property
    def commitment(self) -> str | None:
        """What the record must commit to, None for a line of the wrong shape."""
        salt, space, fields = self.rest.partition(b" ")
        if _SALT.fullmatch(salt) is None or not space:
            return None
        return sha256(bytes.fromhex(salt.decode("ascii")) + fields).hexdigest()

    @property
    def fields(self) -> Personal | None:
        """The fields, None when they are erased or cannot be read."""
        try:
            return decode_personal(self.rest[2 * SALT_BYTES + 1 :])
        except UNREADABLE:
            return None


def parse_line(line: bytes, start: int) -> PersonalLine | None:
    """Read one whole line; None when it is unfinished or not of the shape."""
    number, space, rest = line[:-1].partition(b" ")
    if line[-1:] != b"\n" or not space or not number.isdigit() or len(number) > 18 or number[:1] == b"0":
        return None
    return PersonalLine(int(number), start, len(line), rest)


def personal_lines(descriptor: int, offset: int = 0) -> Iterator[PersonalLine | None]:
    """All lines from `offset` on; None for one that is unfinished or not of the shape."""
    for line in lines_of(descriptor, offset):
        yield parse_line(line, offset)
        offset += len(line)


def _line_from(descriptor: int, offset: int) -> bytes:
    """The rest of the line at `offset`, with its newline where it has one."""
    taken = b""
    while True:
        block = os.pread(descriptor, _NEAR, offset + len(taken))
        end = block.find(b"\n")
        if end >= 0:
            return taken + block[: end + 1]
        if not block:
            return taken
        taken += block


def first_at(descriptor: int, seq: int) -> int:
    """Offset of the first line whose number is at least `seq`, by bisection: numbers only grow."""
    low, high = 0, os.fstat(descriptor).st_size
    while low < high:  # lines before `low` are smaller, lines that begin at `high` or later are not
        middle = (low + high) // 2
        start = middle if middle == low else middle - 1 + len(_line_from(descriptor, middle - 1))
        if start >= high:
            high = middle
            continue
        line = _line_from(descriptor, start)
        found = parse_line(line, start)
        if found is not None and found.seq < seq:
            low = start + len(line)
        else:
            high = start
    return low


def find_line(descriptor: int, seq: int) -> PersonalLine | None:
    """The line of record `seq`, None when there is none."""
    start = first_at(descriptor, seq)
    found = parse_line(_line_from(descriptor, start), start)
    return found if found is not None and found.seq == seq else None


class PersonalReader:
    """Looks up personal fields of one segment."""

    def __init__(self, folder: Path, segment: str) -> None:
        self._descriptor: int | None
        try:
            self._descriptor = os.open(personal_path(folder, segment), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._descriptor = None

    def fields(self, seq: int) -> Personal | None:
        """The personal fields of record `seq`, None when there are none or they are erased."""
        if self._descriptor is None:
            return None
        line = find_line(self._descriptor, seq)
        return None if line is None else line.fields

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class _Facts(msgspec.Struct, gc=False):
    time: float
    holder: str | None = None


_decode_facts = msgspec.json.Decoder(_Facts).decode


class Erasure(msgspec.Struct, frozen=True):
    """Lines of one segment that are about to be blanked."""

    segment: str
    reason: str
    number: int
    ranges: tuple[tuple[int, int], ...]
    """As in `records.Erased`."""


def erase_personal(
    folder: Path,
    *,
    older_than: float | None = None,
    party: str | None = None,
    note: Callable[[Erasure], object] | None = None,
) -> int:
    """Blank personal fields of calls before `older_than` (seconds since the epoch) or of the holder `party`.

    `note` (`Notary.erased`) hears of lines before they are blanked; what it raises ends the erasure with these
    lines untouched. Lines blanked without it count as taken away when the journal is proven. Returns how many
    were blanked now. May run beside living writers, and again after a crash in the middle.
    """

    def chosen(payload: bytes) -> bool:
        try:
            facts = _decode_facts(payload)
        except UNREADABLE:
            return False
        if older_than is not None and facts.time < older_than:
            return True
        return party is not None and facts.holder == party

    reason = "age" if older_than is not None else "party"
    names = segments_in(folder)
    if older_than is not None and party is None:
        # A segment that began later holds nothing so old: most of a journal need not be read.
        names = [name for name in names if name.start_ms / 1000 < older_than]
    return sum(_erase_in(folder, str(name), chosen, reason, note) for name in names)


def _erase_in(
    folder: Path,
    segment: str,
    chosen: Callable[[bytes], bool],
    reason: str,
    note: Callable[[Erasure], object] | None,
) -> int:
    try:
        beside = os.open(personal_path(folder, segment), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    erased = 0
    with ExitStack() as opened:
        opened.callback(os.close, beside)
        records = os.open(segment_path(folder, segment), os.O_RDONLY | os.O_CLOEXEC)
        opened.callback(os.close, records)
        for ranges, lines in _to_erase(records, beside, chosen):
            if note is not None:
                note(Erasure(segment, reason, len(lines), tuple(ranges)))
            for offset, size in lines:
                _blank(beside, offset, size)
            erased += len(lines)
        if erased:
            os.fdatasync(beside)
    return erased


def blank_ranges(folder: Path, segment: str, ranges: Iterable[tuple[int, int]]) -> int:
    """Blank all lines that `ranges` hold (first and last number each); return how many were not blank yet."""
    try:
        beside = os.open(personal_path(folder, segment), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    blanked = 0
    try:
        for first, last in ranges:
            for line in personal_lines(beside, first_at(beside, first)):
                if line is None or line.seq > last:
                    break
                if not line.erased:
                    size = len(line.rest)
                    _blank(beside, line.start + line.size - 1 - size, size)
                    blanked += 1
        if blanked:
            os.fdatasync(beside)
    finally:
        os.close(beside)
    return blanked


def _blank(beside: int, offset: int, size: int) -> None:
    blanked = 0
    while blanked < size:
        blanked += _pwrite(beside, b" " * (size - blanked), offset + blanked)


def _to_erase(
    records: int, beside: int, chosen: Callable[[bytes], bool]
) -> Iterator[tuple[list[tuple[int, int]], list[tuple[int, int]]]]:
    """What is to be blanked, in parts: ranges of numbers, and offset and size of each line's blank part.

    A line that is blank already ends a range: if someone else blanked it, no later erasure covers for him.
    """
    wanted = (
        seq
        for line in lines_of(records, 0)
        if (parts := split_line(line)) is not None
        and commitment_of(parts[0]) is not None
        and kind_of(parts[0]) in (b"opened", b"flood")
        and (seq := seq_of(parts[0])) is not None
        and chosen(parts[0])
    )
    ranges: list[tuple[int, int]] = []
    lines: list[tuple[int, int]] = []
    follows = False
    number = next(wanted, None)
    for line in personal_lines(beside):
        while number is not None and line is not None and number < line.seq:
            number = next(wanted, None)
        if number is None or line is None:
            break
        if line.seq != number or line.erased:
            follows = False
            continue
        if follows:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
        follows = True
        size = len(line.rest)
        lines.append((line.start + line.size - 1 - size, size))
        if len(ranges) >= _MOST_RANGES or len(lines) >= _MOST_LINES:
            yield ranges, lines
            ranges, lines, follows = [], [], False
    if lines:
        yield ranges, lines
