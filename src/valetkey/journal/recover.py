"""Ends a segment whose writer died: cuts off a torn tail and names it, closes calls found open, seals.

Safe to be killed at any instant and run again. A chain that is broken in the middle is no tear: it is
reported and left as it is, for `verify` and for a person to look at.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from valetkey.decision.codes import Code
from valetkey.journal.backward import lines_backward
from valetkey.journal.chain import (
    FORMAT,
    SEGMENT_SUFFIX,
    Problem,
    SegmentName,
    call_of,
    first_link,
    kind_of,
    line_of,
    lines_of,
    next_link,
    payload_of,
    personal_path,
    segment_path,
    segments_in,
    seq_of,
    split_line,
)
from valetkey.journal.errors import SegmentLive
from valetkey.journal.notes import by_id, erased_in
from valetkey.journal.personal import blank_ranges, first_at, personal_lines
from valetkey.journal.records import (
    UNREADABLE,
    Closed,
    End,
    Opened,
    Record,
    Recovered,
    Sealed,
    Segment,
    decode_record,
    encode_record,
)
from valetkey.journal.segment import product_version
from valetkey.journal.tail import Position

_pwrite = os.pwrite
_truncate = os.ftruncate


class Recovery(msgspec.Struct, frozen=True):
    """What recovery found and did."""

    segment: str
    count: int
    """Records the segment has now; with `head`, what the store keeps."""
    head: str
    interrupted: tuple[Opened, ...] = ()
    """VALID calls that were found open and are closed now: charge each its `cost_reserved`."""
    torn_bytes: int = 0
    already_sealed: bool = False
    problem: Problem | None = None
    """Set when the chain is broken in the middle: then nothing was changed."""


def unfinished(folder: Path) -> list[Path]:
    """Segments that do not end in a seal: each is still written or must be recovered. Reads only their ends."""
    found = []
    for name in segments_in(folder) if folder.is_dir() else []:
        path = segment_path(folder, name)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if not _ends_sealed(descriptor):
                found.append(path)
        finally:
            os.close(descriptor)
    return found


def finish_erasures(folder: Path, public_keys: Iterable[Ed25519PublicKey]) -> int:
    """Blank what a killed control process had noted but not yet blanked; return how many lines.

    Only notes in control segments that are not sealed are looked at: call it before such a one is recovered.
    """
    keys = by_id(public_keys)
    return sum(
        blank_ranges(folder, note.segment, note.ranges)
        for path in unfinished(folder)
        if SegmentName.parse(path.stem).control
        for note in erased_in(path, keys)
    )


def _ends_sealed(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    if size == 0 or os.pread(descriptor, 1, size - 1) != b"\n":
        return False
    for _, line in lines_backward(descriptor, size):
        kind = kind_of(line)
        if kind != b"checkpoint":  # a control segment's last checkpoint stands behind its seal
            return kind == b"sealed"
    return False


class _State:
    """The chain while the segment is walked and continued."""

    def __init__(self, name: str, resume: Position | None, open_calls: Mapping[str, Opened]) -> None:
        start = resume if resume is not None and resume.count else Position()
        self.end = start.offset
        self.count = start.count
        self.link = bytes.fromhex(start.head) if start.count else first_link(name)
        self.sealed = start.sealed
        self.open_calls: dict[str, Opened] = dict(open_calls) if start.count else {}
        self.added = b""

    def take(self, payload: bytes, link: bytes, size: int) -> None:
        self.count += 1
        self.link = link
        self.end += size
        kind = kind_of(payload)
        if kind == b"opened":
            record = decode_record(payload)
            if isinstance(record, Opened) and record.code == Code.VALID:
                self.open_calls[record.call] = record
        elif kind == b"closed":
            self.open_calls.pop(call_of(payload).decode(), None)
        elif kind == b"sealed":
            self.sealed = True

    def add(self, record: Record) -> None:
        payload = payload_of(self.count + 1, encode_record(record))
        self.link = next_link(self.link, payload)
        self.count += 1
        self.added += line_of(payload, self.link)


def recover_segment(
    path: Path,
    *,
    time: float,
    resume: Position | None = None,
    open_calls: Mapping[str, Opened] | None = None,
) -> Recovery:
    """Recover the segment at `path` (a ``.seg`` file); `time` is now, in seconds since the epoch.

    With `resume` and `open_calls` of a `Tailer` that read the segment, only what is behind is read. Raises
    `SegmentLive` when its writer still lives and `OSError` when the disk refuses; run it again after that.
    """
    name = SegmentName.parse(path.name.removesuffix(SEGMENT_SUFFIX))
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SegmentLive(f"The journal segment {name} is still written; end its worker first.") from None
        state = _State(str(name), resume, open_calls or {})
        torn = _walk(descriptor, state)
        if isinstance(torn, Problem):
            problem = msgspec.structs.replace(torn, segment=str(name))
            return Recovery(str(name), state.count, state.link.hex(), problem=problem)
        if state.sealed and not torn:
            return Recovery(str(name), state.count, state.link.hex(), already_sealed=True)
        _cut_orphans(path, name, state.count)
        interrupted = tuple(state.open_calls.values())
        _continue(descriptor, name, state, torn, interrupted, time)
        return Recovery(str(name), state.count, state.link.hex(), interrupted, len(torn))
    finally:
        os.close(descriptor)


def _walk(descriptor: int, state: _State) -> bytes | Problem:
    """Walk to the end of the good records; return the torn bytes behind them, or the break."""
    lines = lines_of(descriptor, state.end)
    for line in lines:
        parts = split_line(line)
        if (
            parts is not None
            and seq_of(parts[0]) == state.count + 1
            and next_link(state.link, parts[0]) == parts[1]
        ):
            try:
                state.take(parts[0], parts[1], len(line))
            except UNREADABLE:  # written by a later version: nobody here can tell what it reserved
                return Problem("", state.count, "unreadable", "A record of a kind not known here.")
            continue
        tail = [line, *lines]
        # A tear holds no record: a line of the right shape that does not continue the chain was put there.
        for piece in tail:
            shape = split_line(piece)
            if shape is not None and seq_of(shape[0]) is not None:
                return Problem("", state.count + 1, "changed", "The chain is broken before its end.")
        return b"".join(tail)
    return b""


def _cut_orphans(path: Path, name: SegmentName, count: int) -> None:
    """Cut off personal lines behind the last record: theirs never came to be. Done before the segment is
    touched, so that `count` still is the writer's own."""
    try:
        beside = os.open(personal_path(path.parent, name), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        end = first_at(beside, count + 1)
        for line in personal_lines(beside, end):
            if (
                line is not None and line.seq <= count
            ):  # a damaged line misled the search: keep what has a record
                end = line.start + line.size
        if end < os.fstat(beside).st_size:
            _truncate(beside, end)
            os.fdatasync(beside)
    finally:
        os.close(beside)


def _continue(
    descriptor: int,
    name: SegmentName,
    state: _State,
    torn: bytes,
    interrupted: tuple[Opened, ...],
    time: float,
) -> None:
    """Write over the tear what ends the segment, then cut off what is left of the tear.

    Writing before cutting keeps the tear named: whatever a crash leaves here is a tear again.
    """
    start = state.end
    if state.count == 0:
        state.add(Segment(str(name), name.writer, name.generation, FORMAT, product_version(), time))
    if torn:
        state.add(Recovered(time, start, len(torn), sha256(torn).hexdigest()))
    else:
        state.add(Recovered(time))
    for opened in interrupted:
        cost = opened.cost_reserved
        state.add(Closed(opened.call, time, End.INTERRUPTED, cost=cost))
    state.add(Sealed(time))
    written = 0
    while written < len(state.added):
        written += _pwrite(descriptor, state.added[written:], start + written)
    if written < len(torn):
        _truncate(descriptor, start + written)
    os.fdatasync(descriptor)
