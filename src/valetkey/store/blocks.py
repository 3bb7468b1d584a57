"""Numbers of counter blocks: each subject with limits has one block of shared counters, never reused."""

from __future__ import annotations

from sqlalchemy import Connection, insert, update

from valetkey.store.tables import blocks

_NAME = "counters"


def next_block(connection: Connection, count: int = 1) -> int:
    """Take the next `count` (at least one) block numbers and return the first.

    Only inside `Store.write`: a rollback gives the numbers back, which is safe because nobody saw them.
    """
    if count < 1:
        raise ValueError("count is at least one")
    # One statement, so that nothing comes between reading the number and writing it.
    taken = connection.execute(
        update(blocks)
        .where(blocks.c.name == _NAME)
        .values(next=blocks.c.next + count)
        .returning(blocks.c.next)
    ).scalar()
    if taken is None:
        connection.execute(insert(blocks).values(name=_NAME, next=count))
        return 0
    return int(taken) - count
