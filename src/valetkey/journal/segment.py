"""The writer of one segment: encode, chain, write(2). What `append` returned from outlives `kill -9`.

One writer a segment, one thread a writer; only `sync` may run in another thread.
"""

from __future__ import annotations

import fcntl
import functools
import importlib.metadata
import os
from binascii import hexlify
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import NoReturn, TypeAlias

import valetkey.journal.records as records
from valetkey import syscalls
from valetkey.journal.chain import (
    FORMAT,
    SegmentName,
    first_link,
    line_of,
    next_link,
    payload_of,
    personal_path,
    segment_path,
)
from valetkey.journal.errors import JournalFailed
from valetkey.journal.personal import SALT_BYTES
from valetkey.journal.randomness import RandomPool

_encode = records.encode_record
_encode_personal = records.encode_personal
_write = syscalls.write
_NOBODY = records.Personal()

Entry: TypeAlias = tuple[tuple[records.Record, ...], records.Personal | None]
"""Records of one call, and the personal fields of the first."""


@functools.cache
def product_version() -> str:
    """Version of Valetkey that writes."""
    return importlib.metadata.version("valetkey")


class SegmentWriter:
    """Appends records to a new segment and keeps its chain."""

    __slots__ = (
        "_descriptor",
        "_durable",
        "_failed",
        "_head",
        "_personal",
        "_personal_size",
        "_random",
        "_seq",
        "_size",
        "folder",
        "name",
    )

    def __init__(
        self,
        folder: Path,
        name: SegmentName,
        *,
        time: float,
        random: RandomPool,
        previous: tuple[str, int, str] | None = None,
        durable: bool = False,
    ) -> None:
        """Create the segment and write its first record.

        `time` in seconds since the epoch; `previous` is name, count and head of the writer's previous
        segment, where they are known. The folder is made when it is missing. Raises `JournalFailed`.
        """
        self.folder = folder
        self.name = str(name)
        self._failed: str | None = None
        self._durable = durable
        self._random = random
        self._seq = 0
        self._size = 0
        self._personal_size = 0
        self._head = first_link(self.name)
        self._descriptor = self._personal = -1
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # The segment first: personal fields without one would look like a segment that was taken away.
            self._descriptor = os.open(segment_path(folder, name), flags, 0o600)
            self._personal = os.open(personal_path(folder, name), flags, 0o600)
            # Held until this process is gone: recovery refuses a segment whose writer lives.
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            listing = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(listing)
            finally:
                os.close(listing)
        except OSError as error:
            self._drop()
            raise JournalFailed(
                f"The journal segment {name} could not be created ({error.strerror}). "
                "Check the space and the permissions of the journal folder."
            ) from error
        known = previous or (None, None, None)
        begin = records.Segment(
            self.name, name.writer, name.generation, FORMAT, product_version(), time, *known
        )
        try:
            self.append(begin)
        except JournalFailed:
            self._drop()
            raise

    @property
    def count(self) -> int:
        """Records written; also the number of the last one."""
        return self._seq

    @property
    def head(self) -> str:
        """The last link, in hex."""
        return self._head.hex()

    @property
    def failed(self) -> bool:
        """Whether this writer refuses everything from now on."""
        return self._failed is not None

    @property
    def reason(self) -> str:
        """Why it failed; empty while it has not."""
        return self._failed or ""

    def append(self, *appended: records.Record, personal: records.Personal | None = None) -> None:
        """Append records in one write: all of them, or none. Raises `JournalFailed`: then it is none.

        The personal fields are the first one's.
        """
        self.append_all(((appended, personal),))

    def append_all(self, entries: Iterable[Entry]) -> None:
        """Append many calls' records in one write, each with personal fields beside the segment.

        Raises `JournalFailed`: none of them is in the journal.
        """
        if self._failed is not None:
            self._refuse()
        seq, head = self._seq, self._head
        lines: list[bytes] = []
        beside: list[bytes] = []
        for appended, personal in entries:
            for record in appended:
                seq += 1
                payload = payload_of(seq, _encode(record))
                if personal is not None:
                    if personal != _NOBODY:
                        payload = self._commit(seq, payload, personal, beside)
                    personal = None
                head = next_link(head, payload)
                lines.append(line_of(payload, head))
        fields, text = b"".join(beside), b"".join(lines)
        try:
            # The fields first: a record must never commit to what is not there.
            if (fields and _write(self._personal, fields) != len(fields)) or _write(
                self._descriptor, text
            ) != len(text):
                self._fail("the disk took only a part of it")
            if self._durable:
                self._to_disk()
        except OSError as error:
            self._fail(error.strerror or str(error))
        self._size += len(text)
        self._personal_size += len(fields)
        self._head = head
        self._seq = seq

    def _commit(self, seq: int, payload: bytes, personal: records.Personal, beside: list[bytes]) -> bytes:
        """Add the personal line to those beside; return the payload with its commitment."""
        try:
            fields = _encode_personal(personal)
        except UnicodeEncodeError:  # bytes of a caller's header that are no text
            fields = _encode_personal(personal.cleaned())
        salt = self._random.take(SALT_BYTES)
        beside.append(b"%d %b %b\n" % (seq, hexlify(salt), fields))
        return b'%b,"personal":"%b"}' % (payload[:-1], hexlify(sha256(salt + fields).digest()))

    def sync(self) -> None:
        """Bring everything appended so far to the disk. May run in another thread. Raises `JournalFailed`."""
        try:
            self._to_disk()
        except OSError as error:
            # After a failed sync the system may have dropped the pages: nothing later can be promised.
            self._failed = error.strerror or str(error)
            self._refuse(error)

    def _to_disk(self) -> None:
        os.fdatasync(self._personal)
        os.fdatasync(self._descriptor)

    def seal(self, time: float) -> None:
        """End the segment properly: append `sealed` and bring it to the disk. Raises `JournalFailed`.

        The writer stays open, because a control segment's last checkpoint stands behind the seal.
        """
        self.append(records.Sealed(time))
        self.sync()

    def close(self) -> None:
        """Let go of the files. Nothing can be appended afterwards."""
        if self._failed is None:
            self._failed = "it was closed"
        for descriptor in (self._descriptor, self._personal):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._personal = -1

    def _drop(self) -> None:
        """Leave no segment that never began: whoever starts again and again on a full disk would leave thousands."""
        made = (
            (self._personal, personal_path(self.folder, self.name)),
            (self._descriptor, segment_path(self.folder, self.name)),
        )
        for descriptor, path in made:
            if descriptor >= 0:  # else it is not there, or another's
                path.unlink(missing_ok=True)
        self.close()

    def _fail(self, reason: str) -> NoReturn:
        self._failed = reason
        for descriptor, size in ((self._descriptor, self._size), (self._personal, self._personal_size)):
            try:
                os.ftruncate(descriptor, size)
            except OSError:
                continue  # recovery cuts the tear off when the next worker starts
        self._refuse()

    def _refuse(self, cause: Exception | None = None) -> NoReturn:
        raise JournalFailed(
            f"The journal segment {self.name} cannot be written: {self._failed}. "
            "Check the disk of the data folder."
        ) from cause

    def __repr__(self) -> str:
        return f"SegmentWriter({self.name!r}, count={self._seq}, failed={self._failed is not None})"
