"""What sticky keys are pinned to: decided among the workers in the counters, kept in the database."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select

from valetkey.access.actor import SYSTEM
from valetkey.access.operation import Frame
from valetkey.decision.address import parse_place, place_text
from valetkey.gateway.counters_keeping import KeptCounters
from valetkey.keys.operations import PinKey, pin_key
from valetkey.store import tables

AT_ONCE = 100
"""Pins of one transaction, so that no other change waits long."""


def note_pins(frame: Frame, counters: KeptCounters, key_ids: Collection[str]) -> None:
    """Write down what these keys are pinned to now, where that is not done yet. Call it where all is written, so that
    no unpinning comes between looking and writing."""
    keys = tables.keys
    # Whatever has no counters was dropped, and is pinned to nothing.
    chosen = keys.c.workspace_id == frame.workspace, keys.c.id.in_(key_ids), keys.c.block.is_not(None)
    with frame.store.read() as connection:
        rows = connection.execute(
            select(keys.c.id, keys.c.block, keys.c.pinned).where(*chosen, keys.c.pinned.is_not(None))
        ).all()
    found = ((row, counters.pinned(row.block)) for row in rows)
    now = [(row, place_text(place)) for row, place in found if place is not None]
    if pins := [PinKey(row.id, text) for row, text in now if text != row.pinned]:
        frame.perform_all(pin_key, pins, SYSTEM)


def take_up_pins(frame: Frame, counters: KeptCounters) -> None:
    """At the start, before any worker serves: counters and database know the same pins.

    What the database has goes into counters that have lost it; what a call pinned and nobody wrote down any more
    is written down now.
    """
    keys = tables.keys
    with frame.store.read() as connection:
        rows = connection.execute(
            select(keys.c.id, keys.c.block, keys.c.pinned).where(
                keys.c.workspace_id == frame.workspace, keys.c.pinned.is_not(None), keys.c.block.is_not(None)
            )
        ).all()
    for _, block, kept in rows:
        if kept:
            counters.pin(block, parse_place(kept))
    empty = [key_id for key_id, _, kept in rows if not kept]
    for start in range(0, len(empty), AT_ONCE):
        note_pins(frame, counters, empty[start : start + AT_ONCE])
