"""Looking keys up. No query returns a key's value or its fingerprint."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from sqlalchemy import Connection, and_, or_, select

from valetkey.decision.policy import Policy
from valetkey.errors import Invalid, NotFound
from valetkey.store import tables

MAX_PAGE = 200
"""Most rows of one page: a page is for a person or for one step of a loop."""


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
    )


def get_key(connection: Connection, workspace: str, key_id: str) -> KeyView:
    """One key. Raises `NotFound`."""
    row = connection.execute(
        _selected().where(tables.keys.c.workspace_id == workspace, tables.keys.c.id == key_id)
    ).first()
    if row is None:
        raise NotFound("There is no key with that id.", "See: valetkey key list", field="id")
    return _view(row)


def list_keys(
    connection: Connection,
    workspace: str,
    *,
    service: str | None = None,
    holder: str | None = None,
    state: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> KeyPage:
    """A page of keys, newest first. Raises `Invalid` for a cursor that is none."""
    keys = tables.keys
    limit = max(1, min(limit, MAX_PAGE))
    query = _selected().where(keys.c.workspace_id == workspace)
    if service is not None:
        query = query.where(tables.services.c.name == service)
    if holder is not None:
        query = query.where(tables.parties.c.name == holder)
    if state is not None:
        query = query.where(keys.c.state == state)
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


def _read_cursor(cursor: str) -> tuple[float, str]:
    try:
        created, identifier = msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=tuple[float, str])
    except ValueError:
        raise Invalid(
            "That cursor was not given out here.", "Start again without one.", field="cursor"
        ) from None
    return created, identifier
