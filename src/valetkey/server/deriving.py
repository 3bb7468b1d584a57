"""A derivation that a key's holder asks for at the gateway: the one operation, by an actor who may do nothing else."""

from __future__ import annotations

import msgspec

from valetkey.access.actor import Actor, ActorKind
from valetkey.errors import Invalid
from valetkey.keys.derivation import Derivation, DeriveKey, derive_key
from valetkey.keys.drafting import Terms
from valetkey.server.desk import Desk

_FIELDS = (
    f"A derivation takes {', '.join(Derivation.__struct_fields__)}; "
    f"and terms takes {', '.join(name for name in Terms.__struct_fields__ if name != 'clear')}."
)


async def derive_with_key(desk: Desk, key_id: str, call: str, body: bytes) -> tuple[int, bytes]:
    """Status and body of the answer, errors as the API tells them; never raises.

    The holder of the new key is the key's own: parties are for whoever manages.
    """
    # Not at the start, where the workers' first decision waits for this process.
    from valetkey.api.problems import problem, told

    try:
        request = DeriveKey(id=key_id, call=call, **msgspec.structs.asdict(_read(body)))
        outcome = await desk.perform(derive_key, request, Actor(ActorKind.KEY, key_id))
        return 201, msgspec.json.encode(outcome.answer)
    except Exception as error:
        status, _, answer = problem(told(error), call)
        return status, answer


def _read(body: bytes) -> Derivation:
    from valetkey.api.reading import decode

    try:
        asked: Derivation = decode(body or b"{}", Derivation)
        return asked
    except Invalid as fault:
        # The description of the API is at the other port, which holders of keys have no business at.
        fault.next_step = _FIELDS
        raise
