"""Signed checkpoints: one Ed25519 signature over the heads of all segments at one instant.

Whoever keeps a checkpoint outside can prove later that nothing before it was changed, removed or reordered.
What is signed is plain text (`statement`), so that any language can check it without re-encoding JSON.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from valetkey.journal.backward import lines_backward
from valetkey.journal.chain import Admit, kind_of, segment_path, segments_in, split_line
from valetkey.journal.records import UNREADABLE, Checkpoint, decode_record
from valetkey.journal.segment import SegmentWriter

Heads = Mapping[str, tuple[int, str]]
"""Segment name -> count and head."""

INTERVAL_NS = 1_000_000_000
"""A checkpoint is made when this has passed since the last one and something changed, ..."""
RECORDS = 1_000
"""... or when so many records have come."""


def key_id(public_key: Ed25519PublicKey) -> str:
    """Name of a signing key: the first 16 hex digits of SHA-256 of its 32 bytes."""
    return sha256(public_key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def statement(number: int, time_ms: int, previous: str | None, segments: Heads, key: str) -> bytes:
    """The text that is signed: one fact a line, segments in the order of their names."""
    lines = [
        "valetkey-checkpoint-1",
        f"number {number}",
        f"time {time_ms}",
        f"previous {previous or '-'}",
        f"key {key}",
    ]
    lines += [f"segment {name} {count} {head}" for name, (count, head) in sorted(segments.items())]
    return ("\n".join(lines) + "\n").encode("utf-8")


def statement_of(checkpoint: Checkpoint) -> bytes:
    """The statement of a checkpoint record."""
    return statement(
        checkpoint.number, checkpoint.time_ms, checkpoint.previous, checkpoint.segments, checkpoint.key_id
    )


_STATEMENT = re.compile(
    r"valetkey-checkpoint-1\nnumber ([1-9][0-9]{0,17})\ntime ([0-9]{1,18})\nprevious (-|[0-9a-f]{64})\n"
    r"key ([0-9a-f]{16})\n((?:segment [0-9a-z-]{1,64} [0-9]{1,18} [0-9a-f]{64}\n)*)",
    re.ASCII,
)


def read_statement(text: str, signature: str) -> Checkpoint:
    """The checkpoint that a statement states. Raises ValueError when it is not the text of one.

    Says nothing about the signature.
    """
    found = _STATEMENT.fullmatch(text)
    if found is None:
        raise ValueError("not the statement of a checkpoint")
    segments = {}
    for line in found[5].splitlines():
        _, name, count, head = line.split(" ")
        segments[name] = (int(count), head)
    previous = None if found[3] == "-" else found[3]
    checkpoint = Checkpoint(int(found[1]), int(found[2]), previous, segments, found[4], signature)
    if statement_of(checkpoint) != text.encode():
        raise ValueError("not the plain form of a statement")
    return checkpoint


def digest(checkpoint: Checkpoint) -> str:
    """What the next checkpoint names as its previous one."""
    return sha256(statement_of(checkpoint)).hexdigest()


def sign(
    private_key: Ed25519PrivateKey, number: int, time_ms: int, previous: str | None, segments: Heads
) -> Checkpoint:
    """Make a checkpoint."""
    key = key_id(private_key.public_key())
    ordered = dict(sorted(segments.items()))
    signature = private_key.sign(statement(number, time_ms, previous, ordered, key))
    return Checkpoint(number, time_ms, previous, ordered, key, signature.hex())


def signed_by(checkpoint: Checkpoint, public_key: Ed25519PublicKey) -> bool:
    """Whether the signature is that key's over exactly this checkpoint."""
    try:
        public_key.verify(bytes.fromhex(checkpoint.signature), statement_of(checkpoint))
    except (InvalidSignature, ValueError):
        return False
    return True


class Checkpointer:
    """Makes the checkpoints of one control process and appends them to its control segment."""

    def __init__(
        self, private_key: Ed25519PrivateKey, writer: SegmentWriter, last: Checkpoint | None, monotonic: int
    ) -> None:
        """`last` is what `last_checkpoint` found; `monotonic` is now, in nanoseconds."""
        self._private_key = private_key
        self._writer = writer
        self._number = last.number if last is not None else 0
        self._previous = digest(last) if last is not None else None
        self._signed: dict[str, tuple[int, str]] = {}
        self._made = monotonic

    @property
    def signed(self) -> Heads:
        """All heads that this instance has signed: the store keeps them, and `verify_journal` takes them as
        `upto` on a home that is being written."""
        return dict(self._signed)

    def due(self, heads: Heads, monotonic: int) -> bool:
        """Whether it is time: something changed, and a second has passed or a thousand records have come."""
        changed = self._changed(heads)
        if not changed:
            return False
        if monotonic - self._made >= INTERVAL_NS:
            return True
        signed = self._signed
        return sum(count - signed.get(name, (0, ""))[0] for name, (count, _) in changed.items()) >= RECORDS

    def make(self, heads: Heads, time_ms: int, monotonic: int) -> Checkpoint | None:
        """Sign what changed among `heads` and append it; None when nothing did.

        `heads` must come from a `Tailer`, so that only what was verified is signed. The writer's own segment
        is signed as it stands in the writer. Raises `JournalFailed`.
        """
        changed = self._changed(heads)
        if not changed:
            return None
        own = self._writer
        changed[own.name] = (own.count, own.head)
        checkpoint = sign(self._private_key, self._number + 1, time_ms, self._previous, changed)
        own.append(checkpoint)
        self._number = checkpoint.number
        self._previous = digest(checkpoint)
        self._signed |= changed
        # The record of the checkpoint itself is no change that asks for another one.
        self._signed[own.name] = (own.count, own.head)
        self._made = monotonic
        return checkpoint

    def _changed(self, heads: Heads) -> dict[str, tuple[int, str]]:
        signed = self._signed
        own = self._writer
        changed = {
            name: head for name, head in heads.items() if name != own.name and signed.get(name) != head
        }
        if signed.get(own.name) != (own.count, own.head):
            changed[own.name] = (own.count, own.head)
        return changed


def last_checkpoint(
    folder: Path, public_key: Ed25519PublicKey | None = None, *, admit: Admit | None = None
) -> Checkpoint | None:
    """The newest checkpoint in the journal, None when there is none.

    With `public_key` only those that it signed count, with `admit` only those in admitted segments. The newest is the
    one with the highest number: the clock may have been set back since a segment with a later start was written.
    """
    newest: Checkpoint | None = None
    for name in reversed([name for name in segments_in(folder) if name.control]):
        if admit is not None and not admit(name):
            continue
        descriptor = os.open(segment_path(folder, name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            for record in _backward(descriptor):
                if newest is not None and record.number <= newest.number:
                    break  # those before it are older still
                if public_key is None or signed_by(record, public_key):
                    newest = record
                    break
        finally:
            os.close(descriptor)
    return newest


def _backward(descriptor: int) -> Iterator[Checkpoint]:
    """Checkpoints of a control segment, the last one first."""
    for _, line in lines_backward(descriptor, os.fstat(descriptor).st_size):
        parts = split_line(line)
        if parts is not None and kind_of(parts[0]) == b"checkpoint":
            try:
                record = decode_record(parts[0])
            except UNREADABLE:
                continue
            if isinstance(record, Checkpoint):
                yield record
