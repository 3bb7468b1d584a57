"""Proving a journal as doors ask for it: up to a checkpoint, against the store's heads, against a witness's file."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from valetkey.errors import Conflict, Invalid, NotFound
from valetkey.journal.chain import Admit
from valetkey.journal.prover import NotProvable, NotSigned, prove_record
from valetkey.journal.verify import verify_journal
from valetkey.journal.witness import WitnessFile

Heads = Mapping[str, tuple[int, str]]


def prove(
    journal: Path, public_key: Ed25519PublicKey, stored: Heads, upto: Heads | None, witness: Path | None
) -> dict[str, Any]:
    """The report of a proof, as the API gives it. Raises `Invalid` when the witness's file cannot be used."""
    if witness is None:
        report = verify_journal(journal, [public_key], stored, upto=upto)
    else:
        with closing(_read_witness(witness)) as held:
            report = verify_journal(journal, [public_key], stored, upto=upto, witness=held)
    answer: dict[str, Any] = msgspec.to_builtins(report)
    return {**answer, "public_key": public_key.public_bytes_raw().hex()}


def proof_of(
    journal: Path, public_key: Ed25519PublicKey, which: str, admit: Admit, *, personal: bool
) -> dict[str, Any]:
    """The proof of one call or record, as the API gives it. Raises `NotFound` and `Conflict`."""
    try:
        proof = prove_record(journal, public_key, which, admit=admit, personal=personal)
    except NotSigned as error:
        raise Conflict(
            str(error), "Start the server: it signs within a second what was recorded.", field="record"
        ) from None
    except NotProvable as error:
        raise NotFound(
            str(error),
            "Name the id of a call (valetkey events --json) or of an audit entry (valetkey audit list --json), or "
            "SEGMENT:NUMBER. What was changed is named by: valetkey audit verify",
            field="record",
        ) from None
    answer: dict[str, Any] = msgspec.to_builtins(proof)
    return answer


def read_public_key(text: str) -> Ed25519PublicKey:
    """The public key of a journal, from 64 hex digits. Raises `Invalid`."""
    try:
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text.strip()))
    except ValueError:
        raise Invalid(
            "That is not the public key of a journal.",
            "It is 64 hex digits, which `valetkey audit verify` shows on the machine itself.",
            field="key",
        ) from None


def _read_witness(path: Path) -> WitnessFile:
    try:
        held = WitnessFile(path)
    except OSError as error:
        raise Invalid(
            f"The witness's file {path} cannot be read: {(error.strerror or 'unknown error').lower()}.",
            "Name the file that `valetkey serve --witness` writes, or a copy of it.",
            field="witness",
        ) from None
    if not len(held):
        held.close()
        raise Invalid(
            f"{path} holds no checkpoint.",
            "Name the file that `valetkey serve --witness` writes, or a copy of it.",
            field="witness",
        )
    return held
