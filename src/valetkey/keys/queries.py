"""Looking keys up. No query returns a key's value or its fingerprint."""

from __future__ import annotations

import base64
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import Connection, and_, not_, or_, select

from valetkey.access.sessions import words
from valetkey.decision.policy import Policy, State
from valetkey.errors import Invalid, NotFound
from valetkey.keys.format import parse
from valetkey.keys.kinds import CredentialKind
from valetkey.store import tables
from valetkey.vault.fingerprint import fingerprint

MAX_PAGE = 200
"""Most rows of one page: a page is for a person or for one step of a loop."""


class KeyState(StrEnum):
    """A key's state as people mean it: past its end it is expired, whatever else it was."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    REVOKED = "revoked"
    EXPIRED = "expired"
    EXPOSED = "exposed"
    """Others may have read it, and it still works or can be made to."""


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


class KeyPage(msgspec.Struct, frozen=True):
    """A page of keys, newest first."""

    items: list[KeyView]
    next: str | None


def _selected() -> Any:
    keys = tables.keys
    return (
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


def _view(row: Any) -> KeyView:
    policy = msgspec.json.decode(row.document, type=Policy)
    return KeyView(
        id=row.id,
        kind=row.kind,
        service=row.service,
        holder=row.holder,
        environment=row.environment,
        label=row.label,
        state="expired" if row.state != "revoked" and row.ended is not None else row.state,
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
    )


def get_key(connection: Connection, workspace: str, key_id: str) -> KeyView:
    """One key. Raises `NotFound`."""
    row = connection.execute(
        _selected().where(tables.keys.c.workspace_id == workspace, tables.keys.c.id == key_id)
    ).first()
    if row is None:
        raise NotFound("There is no key with that id.", "See: valetkey key list", field="id")
    return _view(row)


def find_key(connection: Connection, workspace: str, index_key: bytes, value: bytes) -> KeyView:
    """The key with this value, dead ones too. Raises `NotFound`, and `Invalid` for what can be no key."""
    row = connection.execute(
        _selected().where(
            tables.keys.c.workspace_id == workspace,
            tables.keys.c.fingerprint == fingerprint(value, index_key),
        )
    ).first()
    if row is not None:
        return _view(row)
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
        query = query.where(_in_state(state, now))
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
    return KeyPage([_view(row) for row in rows[:limit]], following)


def _in_state(state: KeyState, now: float) -> Any:
    keys = tables.keys
    if state is KeyState.REVOKED:
        return keys.c.state == State.REVOKED.value
    if state is KeyState.EXPOSED:
        return and_(keys.c.state != State.REVOKED.value, keys.c.exposed.is_not(None))
    over = or_(keys.c.ended.is_not(None), and_(keys.c.expires.is_not(None), keys.c.expires <= now))
    if state is KeyState.EXPIRED:
        return and_(keys.c.state != State.REVOKED.value, over)
    return and_(keys.c.state == state.value, not_(over))


def _read_cursor(cursor: str) -> tuple[float, str]:
    try:
        created, identifier = msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=tuple[float, str])
    except ValueError:
        raise Invalid(
            "That cursor was not given out here.", "Start again without one.", field="cursor"
        ) from None
    return created, identifier
