"""A derivation that a key's holder asks for at the gateway: the one operation, by an actor who may do nothing else."""

from __future__ import annotations

from typing import Any

import msgspec

from valetkey.access.actor import Actor, ActorKind
from valetkey.errors import Invalid, Unavailable, ValetkeyError
from valetkey.keys.derivation import DeriveKey, derive_key
from valetkey.keys.drafting import Terms
from valetkey.log import note_failure
from valetkey.server.desk import Desk


class Derivation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a key's holder may say. The holder of the new key is theirs: parties are for whoever manages."""

    label: str = ""
    expires: str | None = None
    terms: Terms = Terms()


async def derive_with_key(desk: Desk, key_id: str, body: bytes) -> tuple[int, bytes]:
    """Status and body of the answer; never raises."""
    try:
        asked = _read(body)
        request = DeriveKey(key_id, label=asked.label, expires=asked.expires, terms=asked.terms)
        outcome = await desk.perform(derive_key, request, Actor(ActorKind.KEY, key_id))
        return 201, msgspec.json.encode(outcome.answer)
    except ValetkeyError as error:
        return error.status, _problem(error)
    except Exception as error:
        note_failure(error)
        unknown = Unavailable("The server failed at this request.", "Try again in a moment.")
        return unknown.status, _problem(unknown)


def _read(body: bytes) -> Derivation:
    try:
        return msgspec.json.decode(body or b"{}", type=Derivation)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # Its words name fields and types, never a value.
        raise Invalid(f"The body cannot be read: {error}.", 'Send {"expires": "1h", "terms": {…}}.') from None


def _problem(error: ValetkeyError) -> bytes:
    document: dict[str, Any] = {
        "title": error.sentence,
        "status": error.status,
        "code": error.code,
        "detail": error.sentence,
        "next_step": error.next_step,
    }
    if error.field is not None:
        document["field"] = error.field
    return msgspec.json.encode(document)
