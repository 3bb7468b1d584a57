"""What stands in the journal: one frozen type a kind of record. Fields that nothing fills are left out.

The order of the fields is the order on disk. `seq` and `personal` are put in by the writer. Readers of older
and newer versions meet: unknown fields are ignored, and codes, ends and actions are read as plain text.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

import msgspec


class End(StrEnum):
    """How a call ended."""

    COMPLETE = "complete"
    CLIENT_GONE = "client_gone"
    UPSTREAM_FAILED = "upstream_failed"
    CUT_BY_REVOKE = "cut_by_revoke"
    CUT_BY_BUDGET = "cut_by_budget"
    CUT_BY_QUOTA = "cut_by_quota"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"
    """Found open at recovery: its worker died."""
    REFUSED = "refused"
    """Ended with its decision; nothing went upstream."""


class Record(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag_field="kind"):
    """Base of all records."""


class Segment(Record, frozen=True, gc=False, omit_defaults=True, tag="segment"):
    """First record of every segment."""

    name: str
    writer: str
    generation: int
    format: int
    product: str
    """Version of Valetkey that writes."""
    time: float
    """Seconds since the epoch, UTC, as everywhere in the journal."""
    previous: str | None = None
    """Name of the same writer's previous segment, with its count and head, where they are known."""
    previous_count: int | None = None
    previous_head: str | None = None


class Opened(Record, frozen=True, gc=False, omit_defaults=True, tag="opened"):
    """All that is known of a call at its decision."""

    call: str
    time: float
    code: str
    workspace: str | None = None
    environment: str | None = None
    service: str | None = None
    key_id: str | None = None
    key_kind: str | None = None
    fingerprint: str | None = None
    """HMAC of a key that is not known here; the value itself is nowhere."""
    holder: str | None = None
    agreement: str | None = None
    session: str | None = None
    on_behalf_of: str | None = None
    method: str | None = None
    path: str | None = None
    """The judged path without query, recognised secrets in it ``***``."""
    endpoint: str | None = None
    """Template of the endpoint rule that matched."""
    query_names: tuple[str, ...] = ()
    host: str | None = None
    """Name of the upstream host, where the service has several."""
    operation: str | None = None
    secret: str | None = None
    """Version id of the secret that goes upstream."""
    policy: str | None = None
    role: str | None = None
    limit: str | None = None
    """Which limit refused."""
    cost_reserved: int | None = None
    """Micros of the key's currency; what recovery charges when the call never closed."""
    index_generation: int | None = None
    """Generation of the key index that decided."""
    port: int | None = None
    tls_version: str | None = None
    client_certificate: str | None = None
    personal: str | None = None
    """Commitment to the personal fields beside the segment: set by the writer, leave it None."""


class Closed(Record, frozen=True, gc=False, omit_defaults=True, tag="closed"):
    """How a call went on and ended."""

    call: str
    time: float
    end: str
    code: str | None = None
    """The code the caller got, where it is not the opened record's (UPSTREAM_FAILED and kin)."""
    status: int | None = None
    upstream_status: int | None = None
    bytes_in: int = 0
    """Bytes of body from the caller."""
    bytes_out: int = 0
    """Bytes of body to the caller."""
    first_byte_ms: float | None = None
    """From the call's arrival to the first byte of the answer."""
    last_byte_ms: float | None = None
    cost: int | None = None
    """Micros of the key's currency."""
    cause: str | None = None
    """Why the upstream failed, in words; never anything that it sent."""
    tokens_in: int | None = None
    tokens_out: int | None = None
    given_back: bool = False
    """Whether nothing of the call counts against a limit: it never left, or its failure is refunded."""


class Flood(Record, frozen=True, gc=False, omit_defaults=True, tag="flood"):
    """Refused calls of one address (IPv6: of its /64) or with one key, counted instead of recorded one by one."""

    call: str
    """An id of its own, so that every event has one."""
    time: float
    """When the counting ended."""
    code: str
    count: int
    since: float
    """When the first counted call came."""
    service: str | None = None
    key_id: str | None = None
    """Whose key it was, where it was one of the service's."""
    personal: str | None = None
    """Commitment to the address, set by the writer."""


class Audit(Record, frozen=True, gc=False, omit_defaults=True, tag="audit"):
    """A management action (control segments only)."""

    time: float
    action: str
    """One of `actions.AuditAction`."""
    actor: str
    entry: str | None = None
    """Id of the audit entry in the store, written in the action's own transaction."""
    subject: str | None = None
    workspace: str | None = None
    environment: str | None = None
    door: str | None = None
    """``cli``, ``console`` or ``api``."""
    detail: dict[str, str | int | float | bool | None] = {}
    """What changed, without plain secrets and without personal fields."""


class Checkpoint(Record, frozen=True, gc=False, omit_defaults=True, tag="checkpoint"):
    """All heads at one instant, signed (control segments only); `checkpoint.statement` is what is signed."""

    number: int
    time_ms: int
    previous: str | None
    """SHA-256 of the previous checkpoint's statement."""
    segments: dict[str, tuple[int, str]]
    """Segment name -> count and head. The first one of a control segment names all segments, later ones
    those that changed since."""
    key_id: str
    signature: str


class Started(Record, frozen=True, gc=False, omit_defaults=True, tag="started"):
    """A writer may start a segment (control segments only); `notes.statement_of` is what is signed."""

    time_ms: int
    writer: str
    generation: int
    start_not_before_ms: int
    """The segment's name begins with this instant or a later one."""
    key_id: str
    signature: str
    segment: str | None = None
    """The segment's name, where it is known already: then no other one is meant. Always for `control`."""


class Erased(Record, frozen=True, gc=False, omit_defaults=True, tag="erased"):
    """Personal fields are about to be blanked (control segments only); signed like `Started`."""

    time_ms: int
    segment: str
    reason: str
    """``age`` or ``party``."""
    number: int
    """How many lines."""
    ranges: tuple[tuple[int, int], ...]
    """First and last `seq` of lines that follow one another in the file and are all blanked."""
    key_id: str
    signature: str


class Recovered(Record, frozen=True, gc=False, omit_defaults=True, tag="recovered"):
    """The segment's writer died; recovery goes on from here. The tear is named where there was one."""

    time: float
    torn_offset: int | None = None
    torn_bytes: int | None = None
    torn_sha256: str | None = None


class Sealed(Record, frozen=True, gc=False, omit_defaults=True, tag="sealed"):
    """The segment has ended. Only a last checkpoint may stand behind it."""

    time: float


class Personal(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The fields of a call that can be erased. They stand beside the segment, never in it."""

    address: str | None = None
    user_agent: str | None = None
    origin: str | None = None
    referer: str | None = None
    forwarded: str | None = None
    """The chain of trusted forwarding headers, where trusted proxies are configured."""

    def cleaned(self) -> Personal:
        """The same with everything that is not Unicode text replaced, so that it can always be written."""
        return Personal(*(None if text is None else _clean(text) for text in msgspec.structs.astuple(self)))


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def time_of(record: AnyRecord) -> float:
    """The instant that a record names, in seconds since the epoch."""
    if isinstance(record, Checkpoint | Started | Erased):
        return record.time_ms / 1000
    return record.time


AnyRecord: TypeAlias = (
    Segment | Opened | Closed | Flood | Audit | Checkpoint | Started | Erased | Recovered | Sealed
)

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that are no record, or one of a kind that this version does not know."""

encode_record = msgspec.json.Encoder().encode
decode_record = msgspec.json.Decoder(AnyRecord).decode
"""Payload -> record. Raises what `UNREADABLE` lists."""
encode_personal = msgspec.json.Encoder().encode
decode_personal = msgspec.json.Decoder(Personal).decode
