"""Numbers of counter blocks: each subject with limits has one block of shared counters.

None has two subjects at a time, and only derived keys, which come and go by the thousand, get one that another had.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, delete, insert, select, update

from valetkey.store.tables import blocks, spare_blocks

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


def spare_block(connection: Connection) -> int:
    """A block that another key had and nobody counts in any more, or the next number where there is none."""
    table = spare_blocks
    found = connection.execute(select(table.c.block).where(table.c.clean == 1).limit(1)).scalar()
    if found is None:
        return next_block(connection)
    connection.execute(delete(table).where(table.c.block == found))
    return int(found)


def give_up_blocks(connection: Connection, numbers: Iterable[int], wall: float) -> None:
    """Nothing has these any more. They are given out again once they were cleaned."""
    rows = [{"block": number, "since": wall, "clean": 0} for number in numbers]
    if rows:
        connection.execute(insert(spare_blocks), rows)


def unclean_blocks(connection: Connection, before: float, most: int) -> list[int]:
    """Blocks that were given up before an instant and are not clean yet."""
    table = spare_blocks
    query = select(table.c.block).where(table.c.clean == 0, table.c.since <= before).limit(most)
    return [int(number) for number in connection.execute(query).scalars()]


def blocks_are_clean(connection: Connection, numbers: Iterable[int]) -> None:
    """Their counters stand at nothing now."""
    numbers = list(numbers)
    if numbers:
        connection.execute(update(spare_blocks).where(spare_blocks.c.block.in_(numbers)).values(clean=1))
