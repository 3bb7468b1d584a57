"""Looking keys up. No query returns a key's value or its fingerprint."""

from __future__ import annotations

import base64
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, and_, func, or_, select

from valetkey.access.sessions import words
from valetkey.agreements.queries import find_agreed
from valetkey.decision.policy import Policy
from valetkey.errors import Invalid, NotFound
from valetkey.keys.format import parse
from valetkey.keys.kinds import CredentialKind
from valetkey.keys.life import KeyState, Life, in_state, joined, life_of, own_state
from valetkey.store import tables
from valetkey.store.standing import still_living
from valetkey.vault.fingerprint import fingerprint

MAX_PAGE = 200
"""Most rows of one page: a page is for a person or for one step of a loop."""
MOST_DERIVED = 20
"""Derived keys that one key shows."""


class DerivedKey(msgspec.Struct, frozen=True):
    """A living key that comes from another."""

    id: str
    holder: str
    label: str
    expires: float | None


class Within(msgspec.Struct, frozen=True):
    """What a key is held to beside its own sentences."""

    what: Literal["agreement", "key"]
    name: str
    """Of the partner, or the id of the key that it comes from."""
    sentences: tuple[str, ...]


class KeyView(msgspec.Struct, frozen=True):
    """A key as doors show it."""

    id: str
    kind: str
    service: str
    holder: str
    environment: str
    label: str
    state: str
    last4: str
    created: float
    expires: float | None
    review: float | None
    ended: float | None
    secret: str
    parent: str | None
    policy: Policy
    sentences: tuple[str, ...]
    exposed: float | None = None
    """Since when others may have read it: it came in plain text over a network."""
    pinned: str | None = None
    """Of a sticky key: the address (IPv6: the /64) of its first call."""
    session: str | None = None
    """What it ends with: ``process 4711`` or ``token tok_…``."""
    because: str | None = None
    """Why it stands so, where that is not of its own doing: what it comes from, or an agreement."""
    dropped: float | None = None
    """Since when a call with it is answered UNKNOWN_KEY: a derived key that has long been dead."""
    within: tuple[Within, ...] = ()
    """Agreements and keys whose sentences hold for it too; only when one key is shown."""
    derived: tuple[DerivedKey, ...] = ()
    """Living keys that come from it, the newest; only when one key is shown."""
    derived_count: int = 0
    """How many there are."""


class KeyPage(msgspec.Struct, frozen=True):
    """A page of keys, newest first."""

    items: list[KeyView]
    next: str | None


def _selected() -> Any:
    keys = tables.keys
    return joined(
        select(
            keys,
            tables.services.c.name.label("service"),
            tables.parties.c.name.label("holder"),
            tables.environments.c.name.label("environment"),
            tables.policies.c.document,
        )
        .join(tables.services, tables.services.c.id == keys.c.service_id)
        .join(tables.parties, tables.parties.c.id == keys.c.holder_id)
        .join(tables.environments, tables.environments.c.id == keys.c.environment_id)
        .join(tables.policies, tables.policies.c.id == keys.c.policy_id)
    )


def _view(row: Any, now: float | None) -> KeyView:
    policy = msgspec.json.decode(row.document, type=Policy)
    life = Life(own_state(row, None)) if now is None else life_of(row, now)
    return KeyView(
        id=row.id,
        kind=row.kind,
        service=row.service,
        holder=row.holder,
        environment=row.environment,
        label=row.label,
        state=life.state,
        last4=row.last4,
        created=row.created,
        expires=row.expires,
        review=row.review,
        ended=row.ended,
        secret=row.secret_name,
        parent=row.parent_id,
        policy=policy,
        sentences=policy.sentences(),
        exposed=row.exposed,
        pinned=row.pinned or None,
        session=None if row.session_id is None else words(row.session_id),
        because=life.because,
        dropped=row.dropped,
    )


def get_key(connection: Connection, workspace: str, key_id: str, now: float | None = None) -> KeyView:
    """One key. With `now` its state is the one that a call finds, else its own. Raises `NotFound`."""
    row = connection.execute(
        _selected().where(tables.keys.c.workspace_id == workspace, tables.keys.c.id == key_id)
    ).first()
    if row is None:
        raise NotFound("There is no key with that id.", "See: valetkey key list", field="id")
    return _view(row, now)


def show_key(connection: Connection, workspace: str, key_id: str, now: float) -> KeyView:
    """One key with all that it is held to and the living ones that come from it. Raises `NotFound`."""
    view = get_key(connection, workspace, key_id, now)
    view = msgspec.structs.replace(view, within=_held_to(connection, workspace, view))
    if view.state in (KeyState.REVOKED, KeyState.EXPIRED):
        return view  # nothing lives that comes from it
    keys, parties = tables.keys, tables.parties
    living = living_children(key_id, now)
    count = connection.execute(select(func.count()).select_from(keys).where(*living)).scalar_one()
    rows = connection.execute(
        select(keys.c.id, parties.c.name, keys.c.label, keys.c.expires)
        .join(parties, parties.c.id == keys.c.holder_id)
        .where(*living)
        .order_by(keys.c.created.desc(), keys.c.id)
        .limit(MOST_DERIVED)
    )
    derived = tuple(DerivedKey(*row) for row in rows)
    return msgspec.structs.replace(view, derived=derived, derived_count=count)


def _held_to(connection: Connection, workspace: str, key: KeyView) -> tuple[Within, ...]:
    keys = tables.keys
    service_id = connection.execute(select(keys.c.service_id).where(keys.c.id == key.id)).scalar_one()
    line = [key]
    while (above := line[-1].parent) is not None:
        line.append(get_key(connection, workspace, above))
    found = [Within("key", link.id, link.sentences) for link in line[1:] if link.sentences]
    for name in dict.fromkeys(link.holder for link in line):
        agreed = find_agreed(connection, workspace, name, service_id)
        if agreed is not None:
            found.append(Within("agreement", name, agreed.sentences()))
    return tuple(found)


def living_children(key_id: str, now: float) -> tuple[Any, ...]:
    """The condition that keys come from this one and do not stand still for good by themselves."""
    return (tables.keys.c.parent_id == key_id, *still_living(now))


def find_key(connection: Connection, workspace: str, index_key: bytes, value: bytes, now: float) -> KeyView:
    """The key with this value, dead ones too. Raises `NotFound`, and `Invalid` for what can be no key."""
    row = connection.execute(
        _selected().where(
            tables.keys.c.workspace_id == workspace,
            tables.keys.c.fingerprint == fingerprint(value, index_key),
        )
    ).first()
    if row is not None:
        return _view(row, now)
    kind = parse(value).kind
    if kind is CredentialKind.SERVICE:
        raise NotFound(
            "That is a service credential, no key.",
            "Find it by its last four characters: valetkey service credentials NAME",
        )
    if kind is CredentialKind.TOKEN:
        raise NotFound(
            "That is an API token, no key.", "Find it by its last four characters: valetkey token list"
        )
    raise NotFound(
        "No key of this server has that value.", "It may be another server's; see: valetkey key list"
    )


def list_keys(
    connection: Connection,
    workspace: str,
    *,
    service: str | None = None,
    holder: str | None = None,
    state: KeyState | None = None,
    last4: str | None = None,
    now: float = 0.0,
    limit: int = 50,
    cursor: str | None = None,
) -> KeyPage:
    """A page of keys, newest first; `now` decides which have expired. Raises `Invalid` for a cursor that is none."""
    keys = tables.keys
    limit = max(1, min(limit, MAX_PAGE))
    query = _selected().where(keys.c.workspace_id == workspace)
    if service is not None:
        query = query.where(tables.services.c.name == service)
    if holder is not None:
        query = query.where(tables.parties.c.name == holder)
    if last4 is not None:
        query = query.where(keys.c.last4 == last4)
    if state is not None:
        query = query.where(in_state(state, now))
    if cursor is not None:
        created, identifier = _read_cursor(cursor)
        query = query.where(
            or_(keys.c.created < created, and_(keys.c.created == created, keys.c.id < identifier))
        )
    rows = connection.execute(query.order_by(keys.c.created.desc(), keys.c.id.desc()).limit(limit + 1)).all()
    following = None
    if len(rows) > limit:
        last = rows[limit - 1]
        following = base64.urlsafe_b64encode(msgspec.json.encode([last.created, last.id])).decode()
    return KeyPage([_view(row, now) for row in rows[:limit]], following)


def _read_cursor(cursor: str) -> tuple[float, str]:
    try:
        created, identifier = msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=tuple[float, str])
    except ValueError:
        raise Invalid(
            "That cursor was not given out here.", "Start again without one.", field="cursor"
        ) from None
    return created, identifier
