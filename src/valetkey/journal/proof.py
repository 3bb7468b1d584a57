"""The proof of single records: what whoever has no server, no data folder and no other record can check.

The signed statement of a checkpoint gives a segment's head; from the record to that head stand the digests of the
records between, which tell nothing of them. Pure; docs/formats/proof.md has test vectors.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from valetkey.journal.chain import commitment_of, first_link, link_over, next_link, seq_of
from valetkey.journal.checkpoint import key_id, read_statement, signed_by
from valetkey.journal.records import UNREADABLE, Checkpoint
from valetkey.journal.verdict import Verdict

FORMAT = "valetkey-proof-1"
MAX_BYTES = 1 << 26
"""A proof is a few kilobytes; under the heaviest load, with a second's records behind the record, some megabytes."""


class BadProof(ValueError):
    """The text is no proof, or the proof of nothing. Says why."""


class PersonalProof(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The personal fields that a record commits to."""

    salt: str
    fields: str
    """JSON, byte for byte as it was hashed."""


class RecordProof(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One record, and the way from it to a signature."""

    segment: str
    payload: str
    """The record, byte for byte as it was hashed."""
    before: str
    """The link before it."""
    after: tuple[str, ...]
    """SHA-256 of the payload of each record that follows, up to the head that is signed."""
    statement: str
    """The text of the checkpoint that is signed."""
    signature: str
    personal: PersonalProof | None = None
    erased: bool = False
    """Whether the personal fields were erased. Who made the proof says so; nothing of it is signed."""


class Proof(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The proof of a call's records, or of one record."""

    format: str
    public_key: str
    records: tuple[RecordProof, ...]


class ProvenRecord(msgspec.Struct, frozen=True):
    """A record that a proof proves."""

    segment: str
    seq: int
    record: dict[str, Any]
    personal: dict[str, Any] | None
    erased: bool
    """Whether its personal fields were erased, as who made the proof says."""
    checkpoint: int
    """Number of the checkpoint that signs it."""
    signed: float
    """When that was signed, as the signer's clock said; seconds since the epoch."""


class Checked(msgspec.Struct, frozen=True):
    """What a proof says."""

    verdict: Verdict
    """``ok``: signed by the key that is trusted. ``unproven``: it holds under the key that it names itself, and
    nobody said which key is trusted. ``broken``: it does not hold."""
    public_key: str
    records: list[ProvenRecord]
    detail: str = ""
    """What does not hold, where something does not."""


def read_proof(text: bytes) -> Proof:
    """Read a proof. Raises `BadProof`."""
    if len(text) > MAX_BYTES:
        raise BadProof("It is too long for a proof.")
    try:
        proof = msgspec.json.decode(text, type=Proof)
    except UNREADABLE:
        raise BadProof("It is not the JSON of a proof.") from None
    if proof.format != FORMAT:
        raise BadProof("It is a proof of another format.")
    return proof


def check_proof(proof: Proof, trusted: Ed25519PublicKey | None = None) -> Checked:
    """Whether the proof holds, under `trusted` or else under the key that it names itself."""
    try:
        key = trusted or Ed25519PublicKey.from_public_bytes(bytes.fromhex(proof.public_key))
        public_key = key.public_bytes_raw().hex()
        if trusted is not None and proof.public_key != public_key:
            raise BadProof("It names another key than the one that is trusted.")
        if not proof.records:
            raise BadProof("It proves no record.")
        records = [_check(one, key) for one in proof.records]
    except BadProof as error:
        return Checked("broken", proof.public_key, [], str(error))
    except ValueError:
        return Checked("broken", proof.public_key, [], "Its public key cannot be read.")
    return Checked("unproven" if trusted is None else "ok", public_key, records)


def _check(proof: RecordProof, key: Ed25519PublicKey) -> ProvenRecord:
    payload = proof.payload.encode()
    seq = seq_of(payload)
    try:
        record = msgspec.json.decode(payload, type=dict[str, Any])
    except UNREADABLE:
        record = {}
    if seq is None or record.get("seq") != seq or not isinstance(record.get("kind"), str):
        raise BadProof("What it shows is no record.")
    where = f"Record {seq}"
    link = _hash(proof.before, where)
    if seq == 1 and link != _first(proof.segment):
        raise BadProof(f"{where} does not begin the segment that it is said to stand in.")
    link = next_link(link, payload)
    for digest in proof.after:
        link = link_over(link, _hash(digest, where))
    checkpoint = _signed(proof, key, where)
    if checkpoint.segments.get(proof.segment) != (seq + len(proof.after), link.hex()):
        raise BadProof(f"{where} does not lead to the head that the checkpoint signs: it was changed.")
    return ProvenRecord(
        proof.segment,
        seq,
        record,
        _personal(proof, payload, where),
        proof.erased,
        checkpoint.number,
        checkpoint.time_ms / 1000,
    )


def _signed(proof: RecordProof, key: Ed25519PublicKey, where: str) -> Checkpoint:
    try:
        checkpoint = read_statement(proof.statement, proof.signature)
    except ValueError:
        raise BadProof(f"{where}: the checkpoint's statement cannot be read.") from None
    if checkpoint.key_id != key_id(key) or not signed_by(checkpoint, key):
        raise BadProof(f"{where}: the checkpoint's signature is not that of the key.")
    return checkpoint


def _personal(proof: RecordProof, payload: bytes, where: str) -> dict[str, Any] | None:
    if proof.erased and (proof.personal is not None or commitment_of(payload) is None):
        raise BadProof(f"{where}: it is said to be erased what is there, or never was.")
    if proof.personal is None:
        return None
    fields = proof.personal.fields.encode()
    committed = sha256(_hash(proof.personal.salt, where, 16) + fields).hexdigest()
    if commitment_of(payload) != committed:
        raise BadProof(f"{where}: the personal fields are not those that it commits to.")
    try:
        return msgspec.json.decode(fields, type=dict[str, Any])
    except UNREADABLE:
        raise BadProof(f"{where}: the personal fields cannot be read.") from None


def _first(segment: str) -> bytes:
    try:
        return first_link(segment)
    except UnicodeEncodeError:
        raise BadProof("The name of the segment cannot be read.") from None


def _hash(text: str, where: str, size: int = 32) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != size or found.hex() != text:
        raise BadProof(f"{where}: a hash cannot be read.")
    return found
