"""What the control process does by itself about keys and agreements that have ended."""

from __future__ import annotations

from sqlalchemy import Connection

from valetkey.agreements.operations import latch_ended
from valetkey.gateway.counters_keeping import KeptCounters
from valetkey.keys.dropping import AT_ONCE, counters_to_give_up, give_up_counters
from valetkey.keys.operations import latch_expired
from valetkey.store.blocks import blocks_are_clean, unclean_blocks
from valetkey.store.engine import Store

CLEAN_SECONDS = 60.0
"""So long after a block of counters was given up it is set to nothing: lifting that had begun by then is over."""


def latch(connection: Connection, workspace: str, wall: float) -> list[tuple[str, str]]:
    """Note for good which keys and agreements have reached their end; return them."""
    keys = latch_expired(connection, workspace, wall)
    agreements = latch_ended(connection, workspace, wall)
    return [*(("key", one) for one in keys), *(("agreement", one) for one in agreements)]


def clean_counters(store: Store, counters: KeptCounters, wall: float) -> None:
    """Take the counters from keys that were dropped long ago, and make those taken before ready for others."""
    with store.read() as connection:
        unclean = unclean_blocks(connection, wall - CLEAN_SECONDS, AT_ONCE)
        over = counters_to_give_up(connection, wall)
    for block in unclean:
        counters.clean(block)
    if not unclean and not over:
        return
    with store.write() as connection:
        blocks_are_clean(connection, unclean)
        give_up_counters(connection, over, wall)
