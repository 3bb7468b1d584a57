"""What a witness outside holds: one JSON object a line, the statement and the signature of a checkpoint.

Against someone who holds the signing key only this is proof: a journal written anew cannot have the same statements.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from pathlib import Path

import msgspec

from valetkey.journal.checkpoint import read_statement, statement_of
from valetkey.journal.records import UNREADABLE, Checkpoint


class Line(msgspec.Struct, frozen=True):
    """One checkpoint as a witness gets it: a line of its file, or the body of a request to it."""

    statement: str
    """The text that is signed, as docs/formats/journal.md has it."""
    signature: str
    """Ed25519 over the statement, in hex."""


_decode = msgspec.json.Decoder(Line).decode


def line_of(checkpoint: Checkpoint) -> bytes:
    """What the witness gets of a checkpoint, without newline."""
    return msgspec.json.encode(Line(statement_of(checkpoint).decode(), checkpoint.signature))


def read_line(line: bytes) -> Checkpoint | None:
    """The checkpoint of a line; None for one that is none, such as one that a full disk cut off."""
    try:
        found = _decode(line)
        return read_statement(found.statement, found.signature)
    except (*UNREADABLE, ValueError):
        return None


class WitnessFile:
    """A witness's file, read by the numbers of its checkpoints. Lines that state none are passed by.

    What is appended later is not seen. Raises `OSError` when the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._numbers = array("Q")
        self._offsets = array("Q")
        self._lines = array("Q")
        """Which line of the file each one is, from 1 on."""
        offset = last = 0
        ordered = True
        for place, line in enumerate(self._file, start=1):
            checkpoint = read_line(line)
            if checkpoint is not None:
                ordered = ordered and checkpoint.number >= last
                last = checkpoint.number
                for kept, value in ((self._numbers, last), (self._offsets, offset), (self._lines, place)):
                    kept.append(value)
            offset += len(line)
        if not ordered:  # put together from several files, or by a program that takes requests
            found = sorted(zip(self._numbers, self._offsets, self._lines, strict=True))
            self._numbers, self._offsets, self._lines = (
                array("Q", column) for column in zip(*found, strict=True)
            )

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def newest(self) -> int:
        """The highest number, 0 without any."""
        return self._numbers[-1] if self._numbers else 0

    def between(self, first: int, last: int) -> Iterator[tuple[int, Checkpoint]]:
        """Line number and checkpoint of all whose numbers are `first` to `last`, in the order of these."""
        start, end = bisect_left(self._numbers, first), bisect_right(self._numbers, last)
        for index in range(start, end):
            self._file.seek(self._offsets[index])
            checkpoint = read_line(self._file.readline())
            if checkpoint is not None:
                yield self._lines[index], checkpoint

    def close(self) -> None:
        self._file.close()
