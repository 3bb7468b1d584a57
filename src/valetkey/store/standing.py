"""What still stands, as the queries of several rooms ask it: keys that live, names that are in use."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Table, or_, select

from valetkey.decision.policy import State
from valetkey.store import tables


def still_living(wall: float) -> tuple[Any, ...]:
    """The condition that keys are neither revoked nor over by themselves. What they come from is not asked."""
    keys = tables.keys
    return (
        keys.c.state != State.REVOKED.value,
        # Noted once it was over, so that a clock set back revives none.
        keys.c.ended.is_(None),
        or_(keys.c.expires.is_(None), keys.c.expires > wall),
    )


def names_in_use(connection: Connection, table: Table, workspace: str, most: int) -> Iterable[str]:
    """Names of what stands in a table and was not removed, the first `most` of them, in their order."""
    names = (
        select(table.c.name)
        .where(table.c.workspace_id == workspace, table.c.removed.is_(None))
        .order_by(table.c.name)
        .limit(most)
    )
    return connection.execute(names).scalars()
