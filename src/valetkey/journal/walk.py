"""Walks one segment for `verify`: checks chain, order and personal commitments record by record, names every
break, and goes on behind it by what the file states, so that one change does not hide another.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

from valetkey.journal.chain import (
    SegmentName,
    commitment_of,
    first_link,
    kind_of,
    lines_of,
    next_link,
    personal_path,
    segment_path,
    seq_of,
    split_line,
)
from valetkey.journal.personal import PersonalLine, personal_lines

Report = Callable[[int | None, str, str], None]
"""``report(seq, what, detail)`` takes a problem of the segment."""

_BEHIND_SEAL = (b"checkpoint", b"recovered", b"sealed")
_MOST_MISSING = 10_000
"""Numbers of missing records kept to tell reordered from removed; beyond, a gap is reported as one."""


class Walker:
    """One segment on the way from its first record to its last."""

    def __init__(self, folder: Path, name: SegmentName, report: Report, limit: int | None = None) -> None:
        """`limit`: the last record to look at; what came later is left alone."""
        self.name = str(name)
        self.count = 0
        """Number of the last record walked."""
        self.records = 0
        self.blank = array("Q")
        """Numbers of the records whose personal fields are blank."""
        self.half_blank = array("Q")
        """Numbers of those that are blank at one end: what a loss of power in the middle of an erasure leaves."""
        self.link = first_link(self.name)
        self.link_before = self.link
        self._other_link: bytes | None = None
        """Of a record whose payload and link do not match: the link that the payload gives."""
        self.first = b""
        """Payload of the first record."""
        self.sealed = False
        self._control = name.control
        self._last = b""
        """Kind of the last record."""
        self._report = report
        self._limit = limit
        self._missing: dict[int, None] = {}
        self._folder = folder
        self._open: list[int] | None = None
        """Descriptors, None before the first step: of a thousand segments only those being walked are open."""
        self._ended = False
        self._lines: Iterator[bytes] = iter(())
        self._ahead: list[bytes] = []
        self._beside = False
        self._personal: Iterator[PersonalLine | None] = iter(())
        self._personal_ahead: PersonalLine | None = None
        self._expected: dict[int, list[tuple[str, str, int | None]]] = {}

    def expect(self, count: int, head: str, source: str, first: int | None = None) -> None:
        """Compare the head when `count` is reached; `source` says who knows it. With `first` another head means
        that the records from there on were written anew, else that this one was changed."""
        self._expected.setdefault(count, []).append((head, source, first))

    def advance(self, count: int) -> bytes | None:
        """Walk to record `count` and return its link, None when it is not met. A sealed segment is walked on
        to its end, so that its files need not stay open."""
        while self.count < count and self.step() is not None:
            continue
        link = self.link if self.count == count else None
        while self.sealed and self.step() is not None:
            continue
        return link

    def finish(self) -> None:
        """Walk to the end and report what only the end shows."""
        while self.step() is not None:
            continue

    def _begin(self) -> None:
        flags = os.O_RDONLY | os.O_CLOEXEC
        self._open = [os.open(segment_path(self._folder, self.name), flags)]
        self._lines = lines_of(self._open[0], 0)
        try:
            self._open.append(os.open(personal_path(self._folder, self.name), flags))
        except FileNotFoundError:
            return
        self._beside = True
        self._personal = personal_lines(self._open[1])

    def _end(self) -> None:
        """Report what only the end shows, once, and let go of the files."""
        if self._ended:
            return
        self._ended = True
        for seq in self._missing:
            self._report(seq, "removed", "The record is missing.")
        self._missing.clear()
        if self._expected:
            count = max(self._expected)
            source = self._expected[count][0][1]
            self._report(
                self.count + 1,
                "truncated",
                f"The segment ends at record {self.count}, but {source} knows {count} records.",
            )
        self._finish_personal()
        for descriptor in self._open or []:
            os.close(descriptor)

    def step(self) -> bytes | None:
        """Walk one record and return its payload (b"" for an unreadable line); None at the end."""
        if self._ended:
            return None
        if self._open is None:
            self._begin()
        line = self._next() if self._limit is None or self.count < self._limit else None
        if line is None:
            self._end()
            return None
        if not line.endswith(b"\n"):
            # Right behind the seal of a control segment one last checkpoint may have been on its way.
            on_its_way = not self.sealed or (self._control and self._last == b"sealed")
            what = "unproven" if on_its_way else "changed"
            self._report(self.count + 1, what, f"{len(line)} bytes of an unfinished record stand at the end.")
            self._end()
            return None
        expected = self.count + 1
        parts = split_line(line)
        if parts is None:
            self._report(expected, "changed", "The line cannot be read.")
            self._arrive(expected, self._stated(line), b"")
            return b""
        payload, stated = parts
        other = None
        seq = seq_of(payload)
        if seq != expected and (
            self._continues(_numbered(payload, expected), stated) or self._follows(expected + 1, stated)
        ):
            self._report(expected, "changed", "The number of the record was changed.")
            seq = expected
        elif seq is None:
            self._report(expected, "changed", "The record does not begin with its number.")
            seq = expected
        elif seq > expected:
            self._gap(expected, seq)
        elif seq < expected:
            moved = seq in self._missing
            self._missing.pop(seq, None)
            detail = (
                "The record does not stand in its place."
                if moved
                else "The record stands here a second time."
            )
            self._report(seq, "reordered", detail)
            return payload  # the chain goes on from the record before it
        elif not self._continues(payload, stated):
            self._report(seq, "changed", "The record does not match its link of the chain.")
            other = next_link(self.link, payload)
        self._arrive(seq, stated, payload)
        self._other_link = other
        return payload

    def _next(self) -> bytes | None:
        return self._ahead.pop() if self._ahead else next(self._lines, None)

    def _continues(self, payload: bytes, stated: bytes) -> bool:
        """Whether a record follows the one before it; where that one's own link does not match it, one of the
        two that it may have had."""
        return next_link(self.link, payload) == stated or (
            self._other_link is not None and next_link(self._other_link, payload) == stated
        )

    def _follows(self, seq: int, link: bytes) -> bool:
        """Whether the next line is record `seq` and continues `link`: then only this line is wrong."""
        line = self._next()
        if line is None:
            return False
        self._ahead.append(line)
        parts = split_line(line)
        return parts is not None and seq_of(parts[0]) == seq and next_link(link, parts[0]) == parts[1]

    def _stated(self, line: bytes) -> bytes:
        """What an unreadable line gives as its link, as far as that can be told."""
        try:
            return bytes.fromhex(line[-65:-1].decode("ascii"))
        except ValueError:
            return b""

    def _gap(self, expected: int, seq: int) -> None:
        if seq - expected + len(self._missing) > _MOST_MISSING:
            self._report(expected, "removed", f"The records from {expected} to {seq - 1} are missing.")
            return
        for missing in range(expected, seq):
            self._missing[missing] = None

    def _arrive(self, seq: int, link: bytes, payload: bytes) -> None:
        self.count = seq
        self.records += 1
        self.link_before = self.link
        self.link = link
        self._other_link = None
        kind = self._last = kind_of(payload)
        if self.sealed and kind not in _BEHIND_SEAL:
            self._report(seq, "changed", "The record stands behind the seal.")
        if kind == b"sealed":
            self.sealed = True
        if self._expected:
            self._meet(seq, link)
        if seq == 1:
            self.first = payload
            if kind != b"segment":
                self._report(1, "changed", "The first record does not describe the segment.")
        commitment = commitment_of(payload)
        if commitment is not None:
            self._check_personal(seq, commitment)

    def _meet(self, seq: int, link: bytes) -> None:
        for count in [count for count in self._expected if count <= seq]:
            for head, source, first in self._expected.pop(count):
                if count != seq or head == link.hex():
                    continue
                if first is None:
                    self._report(
                        seq, "changed", f"The head at this record is not the one that {source} knows."
                    )
                else:
                    self._report(
                        first, "rewritten", f"Records {first} to {count} are not those that {source} signs."
                    )

    def _check_personal(self, seq: int, commitment: str) -> None:
        if not self._beside:
            self._report(seq, "personal removed", "The file of the fields beside the record is gone.")
            return
        while True:
            line = self._personal_ahead or next(self._personal, _END)
            self._personal_ahead = None
            if line is _END:
                self._report(seq, "personal removed", "The fields beside the record are gone.")
                return
            if line is None:
                self._report(seq, "personal changed", "The line beside the record cannot be read.")
                return
            if line.seq < seq:
                self._report(line.seq, "personal changed", "Fields stand beside that no record commits to.")
                continue
            if line.seq > seq:
                self._personal_ahead = line
                self._report(seq, "personal removed", "The fields beside the record are gone.")
                return
            break
        if line.erased:
            self.blank.append(seq)
        elif line.half_erased:
            self.half_blank.append(seq)
        elif line.commitment != commitment:
            self._report(seq, "personal changed", "The fields beside the record are not those it commits to.")

    def _finish_personal(self) -> None:
        left: list[PersonalLine | None] = []
        if self._personal_ahead is not None:
            left.append(self._personal_ahead)
        for line in self._personal:
            if line is not None and self._limit is not None and line.seq > self._limit:
                break
            left.append(line)
            if len(left) > 1:
                break
        if not left:
            return
        if len(left) == 1 and not self.sealed and (left[0] is None or left[0].seq == self.count + 1):
            self._report(self.count + 1, "unproven", "Fields stand beside a record that was not written.")
        else:
            seq = None if left[0] is None else left[0].seq
            self._report(seq, "personal changed", "Fields stand beside that no record commits to.")


def _numbered(payload: bytes, seq: int) -> bytes:
    """The payload with another number."""
    return b'{"seq":%d%b' % (seq, payload[payload.find(b",") :])


_END = PersonalLine(0, 0, 0, b"")
