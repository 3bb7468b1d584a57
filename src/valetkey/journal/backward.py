"""Walks a segment from its end to its beginning in blocks: the newest records come first."""

from __future__ import annotations

import os
from collections.abc import Iterator

STEP = 1 << 18
"""Bytes read at once: some 400 records, a page of events costs one or two reads."""


def lines_backward(descriptor: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield offset and bytes (with newline) of each whole line before `end`, the last one first.

    What stands between the last newline before `end` and `end` is unfinished and passed by.
    """
    rest = b""  # beginning of what was read so far, up to its first newline
    whole = False  # whether `rest` ends with a newline
    start = end
    while start > 0:
        size = min(STEP, start)
        start -= size
        pieces = (os.pread(descriptor, size, start) + rest).split(b"\n")
        # pieces[0] may begin in the middle of a line; the last piece is what follows the last newline.
        ends = whole
        offset = start + sum(map(len, pieces)) + len(pieces) - 1
        for index in range(len(pieces) - 1, 0, -1):
            piece = pieces[index]
            offset -= len(piece)
            if ends:
                yield offset, piece + b"\n"
            ends = True
            offset -= 1
        rest, whole = pieces[0], ends
    if whole:
        yield 0, rest + b"\n"
