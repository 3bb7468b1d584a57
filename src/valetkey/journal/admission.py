"""Which segments belong to the journal: those of writers that the control process announced with a signature.

A file that someone else puts into the folder has a right name and a right chain, but no announcement.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from valetkey.journal.chain import (
    SegmentName,
    kind_of,
    lines_of,
    personal_path,
    segment_path,
    segments_in,
    split_line,
)
from valetkey.journal.checkpoint import signed_by
from valetkey.journal.notes import Keys, by_id, records_marked, started_in
from valetkey.journal.records import Checkpoint, Started

Pair = tuple[str, int]
"""Writer and generation: a writer has one segment a generation."""

_SAYS_NOTHING = (b"segment", b"recovered", b"sealed")

_FEW = 4096
"""Bytes looked at first: nearly always enough to find a record that says something."""


class Admission:
    """Knows the announced segments; call it with a name. Of two segments of one writer and generation the
    first one known is the writer's. May be called from several threads."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        """Control segments."""
        self._bound: dict[Pair, str] = {}
        """The one segment of a writer and generation."""
        self._since: dict[Pair, int] = {}
        """Announced without a name: the segment begins then or later."""

    def announce(self, started: Started) -> None:
        """Take in an announcement whose signature is known to be good."""
        pair = (started.writer, started.generation)
        if started.segment is None:
            self._since[pair] = min(started.start_not_before_ms, self._since.get(pair, 1 << 63))
            return
        try:
            name = SegmentName.parse(started.segment)
        except ValueError:
            return
        if (name.writer, name.generation) == pair:
            self.know(name)

    def know(self, name: SegmentName) -> None:
        """Admit exactly this segment: an announcement or a checkpoint named it."""
        if name.control:
            self._names.add(str(name))
        else:
            self._bound.setdefault((name.writer, name.generation), str(name))

    def ended(self, writer: str, generation: int) -> None:
        """The worker is dead and recovered: no segment of it comes any more."""
        self._since.pop((writer, generation), None)

    def announced(self, name: SegmentName) -> bool:
        """Whether the segment's writer and generation are known, without deciding on the segment."""
        if name.control:
            return str(name) in self._names
        pair = (name.writer, name.generation)
        return pair in self._bound or pair in self._since

    def __call__(self, name: SegmentName) -> bool:
        """Whether the segment belongs to the journal."""
        if name.control:
            return str(name) in self._names
        pair = (name.writer, name.generation)
        bound = self._bound.get(pair)
        if bound is None:
            since = self._since.get(pair)
            if since is None or name.start_ms < since:
                return False
            bound = self._bound.setdefault(pair, str(name))
        return bound == str(name)


def announced(folder: Path, public_keys: Iterable[Ed25519PublicKey]) -> set[Pair]:
    """Every writer and generation that a signed record of the journal announces."""
    keys = by_id(public_keys)
    return {
        (started.writer, started.generation)
        for name in _control_segments(folder)
        for started in started_in(segment_path(folder, name), keys)
    }


def read_admission(folder: Path, public_keys: Iterable[Ed25519PublicKey]) -> Admission:
    """What a journal's signed records admit; for the start of a control process.

    Reads control segments from the newest on until every segment of the folder is accounted for: the first
    checkpoint of each names all segments of before, so that this is one or two, however old the journal is.
    """
    admission = Admission()
    keys = by_id(public_keys)
    names = segments_in(folder) if folder.is_dir() else []
    unknown = names
    for control in _control_segments(folder):
        path = segment_path(folder, control)
        for started in started_in(path, keys):
            admission.announce(started)
        for checkpoint in _checkpoints(path, keys, b""):
            _know(admission, checkpoint)
            break
        unknown = [name for name in unknown if not admission.announced(name)]
        if all(says_nothing(folder, name) for name in unknown):
            break
    _settle(admission, folder, keys, names)
    return admission


def says_nothing(folder: Path, name: SegmentName) -> bool:
    """Whether a segment holds nothing but its own description: no call, no action, no personal field.

    A writer that is killed before it was announced leaves such a one. Raises `FileNotFoundError`.
    """
    try:
        if os.stat(personal_path(folder, name)).st_size:
            return False
    except FileNotFoundError:
        pass
    descriptor = os.open(segment_path(folder, name), os.O_RDONLY | os.O_CLOEXEC)
    try:
        for end in (_FEW, None):
            for line in lines_of(descriptor, 0, end):
                if not line.endswith(b"\n"):
                    break  # unfinished: no reader takes it for a record
                parts = split_line(line)
                if parts is None or kind_of(parts[0]) not in _SAYS_NOTHING:
                    return False
    finally:
        os.close(descriptor)
    return True


def _control_segments(folder: Path) -> list[SegmentName]:
    """Newest first."""
    return [name for name in reversed(segments_in(folder)) if name.control] if folder.is_dir() else []


def in_order(folder: Path, controls: Iterable[SegmentName], keys: Keys) -> list[SegmentName]:
    """Control segments in the order in which they were written: that of the numbers of their checkpoints.

    Their names have it too, unless the clock was set back between two starts. One without a good checkpoint stands
    behind the one before it by name.
    """
    order = []
    number = 0
    for name in sorted(controls):
        first = next(iter(_checkpoints(segment_path(folder, name), keys, b"")), None)
        number = number if first is None else first.number
        order.append((number, name))
    return [name for _, name in sorted(order)]


def _checkpoints(path: Path, keys: Keys, mark: bytes) -> Iterable[Checkpoint]:
    for record in records_marked(path, mark, (b"checkpoint",)):
        if isinstance(record, Checkpoint):
            key = keys.get(record.key_id)
            if key is not None and signed_by(record, key):
                yield record


def _know(admission: Admission, checkpoint: Checkpoint) -> None:
    for stem in checkpoint.segments:
        try:
            admission.know(SegmentName.parse(stem))
        except ValueError:
            continue


def _settle(admission: Admission, folder: Path, keys: Keys, names: list[SegmentName]) -> None:
    """Where several segments claim one writer and generation, the one that a checkpoint names is the writer's,
    even if another one begins earlier."""
    claims: dict[Pair, list[SegmentName]] = {}
    for name in names:
        if not name.control and admission.announced(name):
            claims.setdefault((name.writer, name.generation), []).append(name)
    for pair, claimants in claims.items():
        if len(claimants) < 2:
            continue
        mark = f'-{pair[0]}-{pair[1]}":['.encode()
        for control in _control_segments(folder):
            for checkpoint in _checkpoints(segment_path(folder, control), keys, mark):
                _know(admission, checkpoint)
                break
