"""Which keys do not stand still for good, as the queries of several rooms ask it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import or_

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
