"""What sticky keys are pinned to: decided among the workers in the counters, kept in the database."""

from __future__ import annotations

from sqlalchemy import Connection, select

from valetkey.access.actor import SYSTEM
from valetkey.access.operation import Frame
from valetkey.decision.address import parse_place, place_text
from valetkey.errors import NotFound
from valetkey.gateway.counters_keeping import KeptCounters
from valetkey.keys.operations import PinKey, pin_key
from valetkey.store import tables


def pin_to_note(connection: Connection, workspace: str, counters: KeptCounters, key_id: str) -> PinKey | None:
    """What a key is pinned to now, where that is not written down. Raises `NotFound`."""
    keys = tables.keys
    row = connection.execute(
        select(keys.c.block, keys.c.pinned).where(keys.c.workspace_id == workspace, keys.c.id == key_id)
    ).first()
    if row is None:
        raise NotFound("There is no key with that id.", "See: valetkey key list", field="id")
    place = counters.pinned(row.block)
    if row.pinned is None or place is None or place_text(place) == row.pinned:
        return None
    return PinKey(key_id, place_text(place))


def take_up_pins(frame: Frame, counters: KeptCounters) -> None:
    """At the start, before any worker serves: counters and database know the same pins.

    What the database has goes into counters that have lost it; what a call pinned and nobody wrote down any more
    is written down now.
    """
    keys = tables.keys
    with frame.store.read() as connection:
        rows = connection.execute(
            select(keys.c.id, keys.c.block, keys.c.pinned).where(
                keys.c.workspace_id == frame.workspace, keys.c.pinned.is_not(None)
            )
        ).all()
    for key_id, block, kept in rows:
        if kept:
            counters.pin(block, parse_place(kept))
        elif (place := counters.pinned(block)) is not None:
            frame.perform(pin_key, PinKey(key_id, place_text(place)), SYSTEM)
