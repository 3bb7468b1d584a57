"""Whether a key lives, as a call would find: by itself, by all that it comes from, by what was agreed with holders.

Said twice: once of a row that was read, with the reason, and once in SQL, so that lists can be narrowed by it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import and_, false, func, not_, or_

from valetkey.access.sessions import words
from valetkey.agreements.agreement import AgreementState, state_of
from valetkey.decision.policy import MAX_DEPTH, State
from valetkey.durations import as_day
from valetkey.store import tables


class KeyState(StrEnum):
    """A key's state as people mean it: past its end it is expired, whatever else it was."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    REVOKED = "revoked"
    EXPIRED = "expired"
    EXPOSED = "exposed"
    """Others may have read it, and it still works or can be made to."""


_LINE = (tables.keys, *(tables.keys.alias(f"above_{level}") for level in range(1, MAX_DEPTH)))
"""The key and what it comes from."""
_AGREED = tuple(tables.agreements.alias(f"agreed_{level}") for level in range(MAX_DEPTH))
"""What was agreed with the holder of each of them."""
_PARTNERS = tuple(tables.parties.alias(f"partner_{level}") for level in range(MAX_DEPTH))


def joined(query: Any) -> Any:
    """The query of keys with all that their life hangs on beside."""
    for level in range(1, MAX_DEPTH):
        query = query.outerjoin(_LINE[level], _LINE[level].c.id == _LINE[level - 1].c.parent_id)
    for level in range(MAX_DEPTH):
        query = query.outerjoin(_AGREED[level], _AGREED[level].c.party_id == _LINE[level].c.holder_id)
        query = query.outerjoin(_PARTNERS[level], _PARTNERS[level].c.id == _AGREED[level].c.party_id)
    for level, (link, agreement, partner) in enumerate(zip(_LINE, _AGREED, _PARTNERS, strict=True)):
        columns = [link.c.id, link.c.state, link.c.expires, link.c.ended]
        columns += [agreement.c.begins, agreement.c.ends, agreement.c.policies, agreement.c.latched]
        query = query.add_columns(
            *(column.label(f"{level}_{column.name}") for column in columns),
            agreement.c.ended.label(f"{level}_agreement_ended"),
            partner.c.name.label(f"{level}_partner"),
        )
    return query


class Life(msgspec.Struct, frozen=True):
    """How a key stands, and why, where that is not of its own doing."""

    state: str
    because: str | None = None


_ORDER = (KeyState.REVOKED, KeyState.EXPIRED, KeyState.SUSPENDED)
"""What counts before what."""


def own_state(row: Any, now: float | None) -> str:
    """What a key is by itself."""
    if row.state == State.REVOKED:
        return KeyState.REVOKED
    over = row.ended is not None or (now is not None and row.expires is not None and row.expires <= now)
    return KeyState.EXPIRED if over else str(row.state)


def life_of(row: Any, now: float) -> Life:
    """How the key of a `joined` row stands."""
    own = own_state(row, now)
    found: dict[str, str | None] = {own: None}
    if own == KeyState.REVOKED and row.session_id is not None:
        # Whoever is revoked by hand is tied to nothing any more.
        found[own] = f"It ended with {words(row.session_id)}."
    read = row._mapping
    for level in range(MAX_DEPTH):
        identifier = read[f"{level}_id"]
        if level > 0 and identifier is not None:
            state, expires = read[f"{level}_state"], read[f"{level}_expires"]
            if state != State.REVOKED and (
                read[f"{level}_ended"] is not None or (expires is not None and expires <= now)
            ):
                state = KeyState.EXPIRED
            found.setdefault(state, f"{identifier}, which it comes from, is {state}.")
        for state, because in _agreed(read, level, row.service_id, now):
            found.setdefault(state, because)
    for state in _ORDER:
        if state in found:
            return Life(state, found[state])
    return Life(own)


def _agreed(read: Any, level: int, service_id: str, now: float) -> list[tuple[KeyState, str]]:
    partner = read[f"{level}_partner"]
    if partner is None:
        return []
    state = state_of(
        begins=read[f"{level}_begins"],
        ends=read[f"{level}_ends"],
        ended=read[f"{level}_agreement_ended"],
        latched=read[f"{level}_latched"],
        now=now,
    )
    if state is AgreementState.ENDED:
        return [(KeyState.REVOKED, f"The agreement with {partner} was ended.")]
    if service_id not in msgspec.json.decode(read[f"{level}_policies"], type=dict[str, str]):
        return [(KeyState.REVOKED, f"The agreement with {partner} does not name the service.")]
    if state is AgreementState.EXPIRED:
        return [(KeyState.EXPIRED, f"The agreement with {partner} is over.")]
    if state is AgreementState.UPCOMING:
        begins = as_day(read[f"{level}_begins"])
        return [(KeyState.SUSPENDED, f"The agreement with {partner} begins on {begins}.")]
    return []


def in_state(state: KeyState, now: float) -> Any:
    """The condition that keys of a `joined` query are in a state."""
    keys = tables.keys
    if state is KeyState.EXPOSED:
        return and_(keys.c.state != State.REVOKED.value, keys.c.exposed.is_not(None))
    revoked = or_(
        *(link.c.state == State.REVOKED.value for link in _LINE),
        *(
            and_(
                agreement.c.id.is_not(None),
                or_(
                    agreement.c.ended.is_not(None),
                    not_(agreement.c.policies.like('%"' + keys.c.service_id + '":%')),
                ),
            )
            for agreement in _AGREED
        ),
    )
    expired = or_(
        *(or_(link.c.ended.is_not(None), link.c.expires <= now) for link in _LINE),
        *(or_(agreement.c.latched.is_not(None), agreement.c.ends <= now) for agreement in _AGREED),
    )
    suspended = or_(
        *(link.c.state == State.SUSPENDED.value for link in _LINE),
        *(agreement.c.begins > now for agreement in _AGREED),
    )
    # A comparison with what is not there is neither true nor false: as false, also where it is denied.
    revoked, expired, suspended = (func.coalesce(one, false()) for one in (revoked, expired, suspended))
    return {
        KeyState.REVOKED: revoked,
        KeyState.EXPIRED: and_(not_(revoked), expired),
        KeyState.SUSPENDED: and_(not_(or_(revoked, expired)), suspended),
        KeyState.ACTIVE: not_(or_(revoked, expired, suspended)),
    }[state]
