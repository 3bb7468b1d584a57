"""Temporary keys that end with what made them: tied at issue, ended with the session."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta
from sqlalchemy import Connection, select, update

from valetkey.access.actor import ActorKind
from valetkey.access.operation import Unit, operation
from valetkey.access.sessions import process_session
from valetkey.decision.policy import State
from valetkey.errors import Invalid, NotPermitted
from valetkey.journal.actions import AuditAction
from valetkey.keys.kinds import KeyKind
from valetkey.processes import running_process
from valetkey.store import tables

MAX_PID = 2**22
"""PID_MAX_LIMIT of Linux on 64 bits."""


class SessionProcess(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A process of the server's machine."""

    pid: Annotated[int, Meta(ge=1, le=MAX_PID)]
    started: Annotated[int, Meta(ge=0, le=2**62)] | None = None
    """Field 22 of its `/proc/PID/stat` as the caller sees it: so that no other one is meant."""


class Session(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A session that has ended."""

    session: str


class SessionEnded(msgspec.Struct, frozen=True):
    """The keys that ended with it."""

    keys: list[str]


def tied_session(
    unit: Unit, kind: KeyKind, *, with_session: bool, process: SessionProcess | None
) -> str | None:
    """What a new key is tied to, as it is stored. Raises `Invalid` and `NotPermitted`."""
    if not with_session:
        if process is not None:
            raise Invalid(
                "A process is named, but the key is not tied to it.",
                "Say with_session too.",
                field="session_process",
            )
        return None
    if kind is not KeyKind.TEMPORARY:
        raise Invalid(
            "Only a temporary key ends with a session.",
            "Issue it with --kind temporary.",
            field="with_session",
        )
    if unit.actor.kind is ActorKind.TOKEN:
        if process is not None:
            raise Invalid(
                "A process can be named on the server's machine only.",
                "Leave it out: the key ends with the token that asks for it.",
                field="session_process",
            )
        return _living_token(unit)
    if unit.actor.kind is not ActorKind.LOCAL_OWNER:
        raise Invalid("A key is no session.", "Leave out with_session.", field="with_session")
    if process is None:
        raise Invalid(
            "It is not said with which process the key is to end.",
            "Name one of this machine: session_process.",
            field="session_process",
        )
    found = running_process(process.pid)
    if found is None or process.started not in (None, found.started):
        raise Invalid(
            f"The server sees no such process {process.pid} on its machine.",
            "Name one that runs beside the server, not in another container: --session-pid PID",
            field="session_process",
        )
    return process_session(found)


def _living_token(unit: Unit) -> str:
    """The asker's token, looked at in this transaction: it may have been revoked since it was shown."""
    session = unit.actor.session or ""
    table = tables.credentials
    lives = unit.connection.execute(
        select(table.c.id).where(table.c.id == session.removeprefix("token:"), table.c.revoked.is_(None))
    ).scalar()
    if lives is None:
        raise NotPermitted("The token that asks has ended.", "Ask with one that lives.")
    return session


def end_keys(unit: Unit, session: str) -> list[str]:
    """End all living keys of a session, in the transaction that ends the session; returns their ids."""
    keys = tables.keys
    ended = unit.connection.execute(
        select(keys.c.id, keys.c.block, keys.c.pinned).where(
            keys.c.workspace_id == unit.workspace,
            keys.c.session_id == session,
            keys.c.state != State.REVOKED.value,
        )
    ).all()
    over = {"state": State.REVOKED.value, "ended": unit.wall, "pinned": None}
    for key_id, block, pinned in ended:
        unit.connection.execute(update(keys).where(keys.c.id == key_id).values(**over))
        if pinned is not None:
            unit.unpin(block)
        unit.touch("key", key_id)
    return [row.id for row in ended]


@operation(AuditAction.SESSION_END)
def end_session(unit: Unit, request: Session) -> SessionEnded:
    """A session has ended, so the keys that are tied to it have. Twice is once."""
    unit.subject = f"session:{request.session}"
    ended = end_keys(unit, request.session)
    unit.details["keys"] = ended
    return SessionEnded(ended)


def living_sessions(connection: Connection, workspace: str) -> list[str]:
    """Sessions that living keys are tied to, processes only: the end of a token is an action."""
    keys = tables.keys
    rows = connection.execute(
        select(keys.c.session_id)
        .where(
            keys.c.workspace_id == workspace,
            keys.c.session_id.is_not(None),
            keys.c.state != State.REVOKED.value,
            keys.c.ended.is_(None),
        )
        .distinct()
    ).scalars()
    return [session for session in rows if session is not None and session.startswith("process:")]
