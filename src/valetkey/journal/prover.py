"""Makes proofs of single records: finds the records, and the first checkpoint that signs each."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from valetkey.journal.call_id import time_of as time_of_call
from valetkey.journal.chain import (
    Admit,
    SegmentName,
    call_of,
    first_link,
    kind_of,
    lines_of,
    personal_path,
    segment_path,
    segments_in,
    seq_of,
    split_line,
)
from valetkey.journal.checkpoint import signed_by, statement_of
from valetkey.journal.errors import JournalError
from valetkey.journal.personal import PersonalLine, find_line
from valetkey.journal.proof import FORMAT, PersonalProof, Proof, RecordProof, check_proof
from valetkey.journal.records import UNREADABLE, Checkpoint, decode_record, time_of

SLACK = 120.0
"""Seconds before the time of a record from which on a file is read: clocks are set, and records overtake each other."""
_PLACE = re.compile(r"([0-9a-z-]{1,64}):([1-9][0-9]{0,17})", re.ASCII)
_ENTRY = re.compile(r"aud_[0-9A-Za-z]{1,60}", re.ASCII)
_CALL = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


class NotProvable(JournalError):
    """There is no such record, or nothing that proves it. Says which."""


class NotSigned(NotProvable):
    """The record stands there, and no checkpoint signs it yet."""


class _Found(msgspec.Struct, frozen=True):
    """A record where it stands."""

    segment: SegmentName
    seq: int
    payload: bytes
    before: bytes
    behind: int
    """Offset of the line that follows."""


def prove_record(
    folder: Path, public_key: Ed25519PublicKey, which: str, *, admit: Admit, personal: bool = False
) -> Proof:
    """The proof of a call's records (`which` is its id), of a management action (the id of its entry), or of the
    record at ``SEGMENT:NUMBER``. `personal`: with the personal fields, as far as they are not erased.

    Raises `NotProvable`.
    """
    found = _find(folder, which, admit)
    if not found:
        raise NotProvable("There is no such record.")
    made = tuple(_prove(folder, public_key, one, admit, personal) for one in found)
    proof = Proof(FORMAT, public_key.public_bytes_raw().hex(), made)
    if check_proof(proof, public_key).verdict != "ok":
        raise NotProvable("The journal does not prove this record: it was changed.")
    return proof


def _find(folder: Path, which: str, admit: Admit) -> list[_Found]:
    names = [name for name in segments_in(folder) if admit(name)]
    place = _PLACE.fullmatch(which)
    if place is not None:
        named = [name for name in names if str(name) == place[1]]
        return [
            found
            for name in named
            for found in _matching(folder, name, which, b'{"seq":%b,' % place[2].encode())
        ]
    if _ENTRY.fullmatch(which):
        mark = b'"entry":"%b"' % which.encode()
        for name in reversed([name for name in names if name.control]):
            if found := _matching(folder, name, which, mark):
                return found
        return []
    if not _CALL.fullmatch(which):
        raise NotProvable("That is neither the id of a call, nor of an audit entry, nor SEGMENT:NUMBER.")
    return _find_call(folder, [name for name in names if not name.control], which)


def _find_call(folder: Path, names: list[SegmentName], call: str) -> list[_Found]:
    mark = b'"call":"%b"' % call.encode()
    try:
        came = time_of_call(call) / 1000
    except ValueError:
        raise NotProvable("There is no such record.") from None
    likely = [name for name in reversed(names) if name.start_ms / 1000 <= came + SLACK]
    for since in (came, None):  # the whole of all files only where clocks were set
        for name in likely if since is not None else names:
            if found := _matching(folder, name, call, mark, since):
                return found
    return []


def _matching(
    folder: Path, name: SegmentName, which: str, mark: bytes, since: float | None = None
) -> list[_Found]:
    """The records of a segment that are meant; of a call up to the one that closes it."""
    found: list[_Found] = []
    descriptor = os.open(segment_path(folder, name), os.O_RDONLY | os.O_CLOEXEC)
    try:
        offset = 0 if since is None else _begin(descriptor, since - SLACK)
        before = first_link(str(name)) if offset == 0 else b""
        for line in lines_of(descriptor, offset):
            offset += len(line)
            parts = split_line(line)
            if parts is None:
                before = b""
                continue
            payload, link = parts
            if mark in line and before and _is_meant(payload, which):
                seq = seq_of(payload)
                assert seq is not None
                found.append(_Found(name, seq, payload, before, offset))
                if kind_of(payload) != b"opened" or ":" in which:
                    break
            before = link
    finally:
        os.close(descriptor)
    return found


def _is_meant(payload: bytes, which: str) -> bool:
    kind, seq = kind_of(payload), seq_of(payload)
    if seq is None:
        return False
    if kind in (b"opened", b"closed", b"flood") and call_of(payload) == which.encode():
        return True
    place = _PLACE.fullmatch(which)
    if place is not None:
        return seq == int(place[2])
    if kind != b"audit":
        return False
    try:
        return getattr(decode_record(payload), "entry", None) == which
    except UNREADABLE:
        return False


def _begin(descriptor: int, since: float) -> int:
    """Offset of a line before which all is older than `since`, as far as clocks went on; by bisection."""
    low, high = 0, os.fstat(descriptor).st_size
    while high - low > 1 << 16:
        middle = (low + high) // 2
        when, start = _first_time(descriptor, middle, high)
        if when is not None and when < since:
            low = start
        else:
            high = middle
    return low


def _first_time(descriptor: int, offset: int, end: int) -> tuple[float | None, int]:
    """Time and offset of the first whole record behind the line that `offset` is in."""
    lines = lines_of(descriptor, offset, end)
    offset += len(next(lines, b""))
    for line in lines:
        parts = split_line(line)
        if parts is not None:
            try:
                return time_of(decode_record(parts[0])), offset
            except UNREADABLE:
                pass
        offset += len(line)
    return None, offset


def _prove(
    folder: Path, public_key: Ed25519PublicKey, found: _Found, admit: Admit, personal: bool
) -> RecordProof:
    checkpoint = _covering(folder, public_key, found, admit)
    name = str(found.segment)
    count, _ = checkpoint.segments[name]
    after: list[str] = []
    descriptor = os.open(segment_path(folder, name), os.O_RDONLY | os.O_CLOEXEC)
    try:
        for line in lines_of(descriptor, found.behind):
            if len(after) == count - found.seq:
                break
            parts = split_line(line)
            if parts is None:
                raise NotProvable("A record behind this one cannot be read, so that nothing proves it.")
            after.append(sha256(parts[0]).hexdigest())
    finally:
        os.close(descriptor)
    try:
        payload = found.payload.decode()
    except UnicodeDecodeError:
        raise NotProvable("The record cannot be read.") from None
    beside = _personal_line(folder, found)
    return RecordProof(
        name,
        payload,
        found.before.hex(),
        tuple(after),
        statement_of(checkpoint).decode(),
        checkpoint.signature,
        _personal_proof(beside) if personal and beside is not None else None,
        beside is not None and beside.erased,
    )


def _personal_line(folder: Path, found: _Found) -> PersonalLine | None:
    try:
        descriptor = os.open(personal_path(folder, found.segment), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return find_line(descriptor, found.seq)
    finally:
        os.close(descriptor)


def _personal_proof(line: PersonalLine) -> PersonalProof | None:
    if line.commitment is None:
        return None
    salt, _, fields = line.rest.partition(b" ")
    return PersonalProof(salt.decode(), fields.decode())


def _covering(folder: Path, public_key: Ed25519PublicKey, found: _Found, admit: Admit) -> Checkpoint:
    """The first checkpoint that signs the record. Raises `NotSigned`."""
    try:
        written = time_of(decode_record(found.payload))
    except UNREADABLE:
        raise NotProvable("The record cannot be read.") from None
    controls = [name for name in segments_in(folder) if name.control and admit(name)]
    for since in (written, None):  # from the beginning only where clocks were set
        for name, following in zip(controls, [*controls[1:], None], strict=True):
            if since is not None and following is not None and following.start_ms / 1000 < since - SLACK:
                continue
            for checkpoint in _checkpoints(folder, name, str(found.segment), since):
                count, _ = checkpoint.segments[str(found.segment)]
                if count >= found.seq and signed_by(checkpoint, public_key):
                    return checkpoint
    raise NotSigned("No checkpoint signs this record yet.")


def _checkpoints(folder: Path, name: SegmentName, segment: str, since: float | None) -> Iterator[Checkpoint]:
    mark = f'"{segment}":['.encode()
    descriptor = os.open(segment_path(folder, name), os.O_RDONLY | os.O_CLOEXEC)
    try:
        offset = 0 if since is None else _begin(descriptor, since - SLACK)
        for line in lines_of(descriptor, offset):
            parts = split_line(line) if mark in line and kind_of(line) == b"checkpoint" else None
            if parts is None:
                continue
            try:
                record = decode_record(parts[0])
            except UNREADABLE:
                continue
            if isinstance(record, Checkpoint) and segment in record.segments:
                yield record
    finally:
        os.close(descriptor)
