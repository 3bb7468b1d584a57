"""Names, lines and the hash chain of a segment: the part of the format that everything else builds on.

A line is ``<payload JSON> <64 hex digits>\\n``; the digits are SHA-256(previous link || SHA-256(payload)), so that
one record can be proven without showing those beside it. The link before the first record is
SHA-256("valetkey-journal-1" || segment name), so that a renamed file breaks too.
"""

from __future__ import annotations

import os
import re
from binascii import hexlify
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import msgspec

FORMAT = 1
GENESIS = b"valetkey-journal-1"
SEGMENT_SUFFIX = ".seg"
PERSONAL_SUFFIX = ".personal"
CONTROL = "control"
BLOCK = 1 << 20
"""Bytes read at once by everything that walks a segment."""

LINK_BYTES = 66
"""Space, 64 hex digits, newline: what stands behind each payload."""

_NAME = re.compile(r"([0-9]{20})-(control|w(?:[0-9]|1[0-5]))-([0-9]{1,10})", re.ASCII)
_SEQ = re.compile(rb'\{"seq":([1-9][0-9]{0,17}),')
_HEX = re.compile(rb"[0-9a-f]{64}")
_COMMITMENT = b',"personal":"'


class SegmentName(msgspec.Struct, frozen=True, order=True):
    """``<20-digit start in ms>-<writer>-<generation>``. Sorts by start, as the clock said then."""

    start_ms: int
    writer: str
    generation: int

    def __post_init__(self) -> None:
        if _NAME.fullmatch(str(self)) is None:
            raise ValueError("not the name of a journal segment")

    def __str__(self) -> str:
        return f"{self.start_ms:020d}-{self.writer}-{self.generation}"

    @classmethod
    def parse(cls, text: str) -> SegmentName:
        """Read a name. Raises ValueError when it is none."""
        found = _NAME.fullmatch(text)
        if found is None:
            raise ValueError("not the name of a journal segment")
        name = cls(int(found[1]), found[2], int(found[3]))
        if str(name) != text:
            raise ValueError("not the plain form of a segment name")
        return name

    @property
    def control(self) -> bool:
        return self.writer == CONTROL


Admit = Callable[[SegmentName], bool]
"""Whether a segment belongs to the journal; `admission.Admission` is one."""


class Problem(msgspec.Struct, frozen=True):
    """Something that is not as it should be, and where."""

    segment: str
    seq: int | None
    what: str
    """One word or two that programs rely on, such as ``changed``; all stand in `verdict.VERDICTS`."""
    detail: str


def segments_in(folder: Path) -> list[SegmentName]:
    """Names of all segments of a folder, oldest first, as far as the clock was not set back between two starts."""
    names = []
    for entry in os.scandir(folder):
        if entry.name.endswith(SEGMENT_SUFFIX):
            try:
                names.append(SegmentName.parse(entry.name[: -len(SEGMENT_SUFFIX)]))
            except ValueError:
                continue  # verify reports strangers; readers pass them by
    names.sort()
    return names


def segment_path(folder: Path, name: SegmentName | str) -> Path:
    return folder / f"{name}{SEGMENT_SUFFIX}"


def personal_path(folder: Path, name: SegmentName | str) -> Path:
    return folder / f"{name}{PERSONAL_SUFFIX}"


def first_link(name: str) -> bytes:
    """The link before the first record of a segment."""
    return sha256(GENESIS + name.encode("ascii")).digest()


def next_link(previous: bytes, payload: bytes) -> bytes:
    return link_over(previous, sha256(payload).digest())


def link_over(previous: bytes, digest: bytes) -> bytes:
    """The link of a record of which no more is known than the SHA-256 of its payload."""
    return sha256(previous + digest).digest()


def payload_of(seq: int, record: bytes) -> bytes:
    """The payload of record `seq`, from its JSON object."""
    return b'{"seq":%d,' % seq + record[1:]


def line_of(payload: bytes, link: bytes) -> bytes:
    """A payload with its link as a whole line: what `split_line` takes apart."""
    return b"%b %b\n" % (payload, hexlify(link))


def split_line(line: bytes) -> tuple[bytes, bytes] | None:
    """Payload and stated link of a whole line (with its newline); None when it does not look like one."""
    if len(line) <= LINK_BYTES or line[-1] != 10 or line[-LINK_BYTES] != 32:
        return None
    digits = line[-65:-1]
    if _HEX.fullmatch(digits) is None:
        return None
    return line[:-LINK_BYTES], bytes.fromhex(digits.decode("ascii"))


def seq_of(payload: bytes) -> int | None:
    """The number a payload begins with, None when it does not begin with one."""
    found = _SEQ.match(payload)
    return int(found[1]) if found else None


def kind_of(payload: bytes) -> bytes:
    """The kind of a payload, empty when it states none where it must."""
    comma = payload.find(b",", 7)
    if payload[comma + 1 : comma + 9] != b'"kind":"':
        return b""
    return payload[comma + 9 : payload.find(b'"', comma + 9)]


def call_of(payload: bytes) -> bytes:
    """The call id of an opened, closed or flood payload: always the field behind the kind."""
    start = payload.find(b'"call":"', 7, 64) + 8
    return payload[start : start + 36]


def commitment_of(payload: bytes) -> str | None:
    """The commitment to personal fields, always the last field; no JSON string can hold its mark."""
    if payload[-79:-66] == _COMMITMENT:
        return payload[-66:-2].decode("ascii", "replace")
    return None


def lines_of(descriptor: int, offset: int, end: int | None = None) -> Iterator[bytes]:
    """Lines from `offset` on, each with its newline; the last one may be without (unfinished)."""
    rest = b""
    while True:
        size = BLOCK if end is None else min(BLOCK, end - offset)
        block = os.pread(descriptor, size, offset) if size > 0 else b""
        if not block:
            break
        offset += len(block)
        pieces = (rest + block).split(b"\n")
        rest = pieces.pop()
        for piece in pieces:
            yield piece + b"\n"
    if rest:
        yield rest
