"""Keys that were derived at the gateway and that nobody received, because a process or a caller was gone too soon.

A key remembers the call that asked for it until the record shows that this call was answered. One whose call
ended otherwise has a value that nobody knows: it ends.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, select, update

from valetkey.access.operation import Unit, operation
from valetkey.decision.policy import State
from valetkey.journal.actions import AuditAction
from valetkey.keys.operations import KeyName
from valetkey.keys.queries import KeyView, get_key
from valetkey.store import tables


def keys_asked_for(connection: Connection, workspace: str) -> dict[str, str]:
    """Living keys of which it is not known yet whether somebody has them: key id -> id of the call."""
    keys = tables.keys
    rows = connection.execute(
        select(keys.c.id, keys.c.asked_by).where(
            keys.c.workspace_id == workspace,
            keys.c.asked_by.is_not(None),
            keys.c.state != State.REVOKED.value,
        )
    )
    return {row.id: row.asked_by for row in rows}


def note_received(connection: Connection, calls: Collection[str]) -> None:
    """These calls were answered."""
    keys = tables.keys
    if calls:
        connection.execute(update(keys).where(keys.c.asked_by.in_(calls)).values(asked_by=None))


@operation(AuditAction.KEY_ABANDON)
def abandon_key(unit: Unit, request: KeyName) -> KeyView:
    """End a key that nobody received. Twice is once."""
    view = get_key(unit.connection, unit.workspace, request.id)
    keys = tables.keys
    chosen = keys.c.id == request.id
    call = unit.connection.execute(select(keys.c.asked_by).where(chosen)).scalar()
    ended = view.ended or unit.wall
    unit.connection.execute(
        update(keys)
        .where(chosen)
        .values(state=State.REVOKED.value, ended=ended, asked_by=None, session_id=None)
    )
    unit.subject = f"key:{request.id}"
    unit.details |= {"service": view.service, "holder": view.holder, "parent": view.parent, "call": call}
    unit.touch("key", request.id)
    return get_key(unit.connection, unit.workspace, request.id)
