"""Derived keys that have long been dead are dropped: workers forget them, and others get their counters.

Their rows stay, for whoever looks back. What can come back to life is kept: a key whose agreement or whose parent
has merely ended.
"""

from __future__ import annotations

from sqlalchemy import Connection, or_, select, update

from valetkey.decision.policy import State
from valetkey.store import tables
from valetkey.store.blocks import give_up_blocks

KEPT_SECONDS = 3_600
"""So long after its end a derived key is still told REVOKED or EXPIRED; then UNKNOWN_KEY, as any that nobody knows."""
COUNTED_SECONDS = 3_600
"""So long after it was dropped its counters are left alone: whatever still counts in them has ended by then."""
AT_ONCE = 1_000
"""Keys of one turn, so that no other change waits long."""


def drop_dead(connection: Connection, workspace: str, wall: float) -> list[str]:
    """Note that workers are to forget keys that have long been dead, with all that comes from them; return their
    ids."""
    keys = tables.keys
    parent = keys.alias("parent")
    long_ago = wall - KEPT_SECONDS
    dead = (
        select(keys.c.id)
        .join(parent, parent.c.id == keys.c.parent_id)
        .where(
            keys.c.workspace_id == workspace,
            keys.c.parent_id.is_not(None),
            keys.c.dropped.is_(None),
            or_(
                keys.c.ended <= long_ago,
                (parent.c.state == State.REVOKED.value) & (parent.c.ended <= long_ago),
                parent.c.dropped.is_not(None),
            ),
        )
        .limit(AT_ONCE)
    )
    found = dict.fromkeys(connection.execute(dead).scalars())
    below = list(found)
    while below:
        children = select(keys.c.id).where(keys.c.parent_id.in_(below), keys.c.dropped.is_(None))
        below = [child for child in connection.execute(children).scalars() if child not in found]
        found |= dict.fromkeys(below)
    ids = list(found)
    for start in range(0, len(ids), AT_ONCE):
        some = ids[start : start + AT_ONCE]
        connection.execute(update(keys).where(keys.c.id.in_(some)).values(dropped=wall))
    return ids


def counters_to_give_up(connection: Connection, wall: float) -> dict[str, int]:
    """Keys that were dropped long ago and still have a block of counters, with its number."""
    keys = tables.keys
    over = keys.c.dropped <= wall - COUNTED_SECONDS, keys.c.block.is_not(None)
    rows = connection.execute(select(keys.c.id, keys.c.block).where(*over).limit(AT_ONCE))
    return {row.id: row.block for row in rows}


def give_up_counters(connection: Connection, found: dict[str, int], wall: float) -> None:
    """Take them, and with them what the keys are pinned to: it stands in no counters any more."""
    if found:
        connection.execute(
            update(tables.keys).where(tables.keys.c.id.in_(found)).values(block=None, pinned=None)
        )
        give_up_blocks(connection, found.values(), wall)
