"""Counters of limits lifted to what the journal proves: after a loss of power, and where a limit is new."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from sqlalchemy import Connection, Row, Select, and_, case, func, select

from valetkey.decision.counter_layout import BUDGETS, QUOTAS, USES
from valetkey.decision.limits import AMOUNT_BITS, AMOUNT_MASK, window_numbers, window_starts
from valetkey.gateway.counters import SharedCounters
from valetkey.store import tables

_CELLS = (*range(QUOTAS, QUOTAS + 3), *range(BUDGETS, BUDGETS + 3))
"""Calls and cost by the hour, day and month, within a block."""


def lift_counters(
    connection: Connection,
    workspace: str,
    counters: SharedCounters,
    wall: float,
    changed: Iterable[tuple[str, str]] | None = None,
) -> None:
    """Lift the counters of all subjects with limits; with `changed` rows, only what these need.

    Use must be stored up to now. None is lowered: what a call holds that the journal does not know stays held.
    """
    if changed is None:
        _lift(connection, workspace, counters, wall, None)
        return
    for kind, identifier in changed:
        if kind in _COUNTED:
            _lift(connection, workspace, counters, wall, _counted_at(connection, kind, identifier))


_COUNTED = ("key", "agreement", "limits")
"""Kinds of rows that have limits."""


def _counted_at(connection: Connection, kind: str, identifier: str) -> Select[tuple[str]] | None:
    """The keys whose calls count at this row; None: all of them."""
    keys, agreements, limits = tables.keys, tables.agreements, tables.limits
    if kind == "key":
        return _descending(select(keys.c.id).where(keys.c.id == identifier))
    if kind == "agreement":
        partner = select(agreements.c.party_id).where(agreements.c.id == identifier)
        return _descending(select(keys.c.id).where(keys.c.holder_id.in_(partner)))
    level, subject = connection.execute(
        select(limits.c.level, limits.c.subject).where(limits.c.id == identifier)
    ).one()
    if level == "holder":
        return _descending(select(keys.c.id).where(keys.c.holder_id == subject))
    return select(keys.c.id).where(keys.c.service_id == subject) if level == "service" else None


def _descending(chosen: Select[tuple[str]]) -> Select[tuple[str]]:
    """Keys and all that descends from them: what is used is used of every ancestor too."""
    line = chosen.cte("line", recursive=True)
    line = line.union(select(tables.keys.c.id).join(line, tables.keys.c.parent_id == line.c.id))
    return select(line.c.id)


def _lift(
    connection: Connection,
    workspace: str,
    counters: SharedCounters,
    wall: float,
    chosen: Select[tuple[str]] | None,
) -> None:
    used = _used(connection, workspace, wall, chosen)
    shared = {
        (level, subject): block
        for level, subject, block in connection.execute(
            select(tables.limits.c.level, tables.limits.c.subject, tables.limits.c.block).where(
                tables.limits.c.workspace_id == workspace
            )
        )
    }
    agreements = tables.agreements
    shared |= {
        ("agreement", party): block
        for party, block in connection.execute(
            select(agreements.c.party_id, agreements.c.block).where(agreements.c.workspace_id == workspace)
        )
    }
    ancestors = _parents(connection, workspace)
    totals: dict[int, list[int]] = defaultdict(lambda: [0] * 7)
    for key, amounts in used:
        line = [key]
        while (parent := line[-1].parent_id) is not None and parent in ancestors:
            line.append(ancestors[parent])
        # A dropped key has given its block up, maybe to another.
        blocks = {link.block for link in line if link.block is not None}
        subjects = [(level, link.holder_id) for link in line for level in ("holder", "agreement")]
        subjects += [("service", key.service_id), ("workspace", workspace)]
        blocks.update(shared[subject] for subject in subjects if subject in shared)
        for block in blocks:
            total = totals[block]
            for place, amount in enumerate(amounts):
                total[place] += amount
    numbers = window_numbers(wall)
    for block, (uses, *amounts) in totals.items():
        packed = [
            number << AMOUNT_BITS | min(amount, AMOUNT_MASK)
            for number, amount in zip((*numbers, *numbers), amounts, strict=True)
        ]
        counters.raise_to(block, {USES: uses, **dict(zip(_CELLS, packed, strict=True))})


def _used(
    connection: Connection, workspace: str, wall: float, chosen: Select[tuple[str]] | None
) -> list[tuple[Row, list[int]]]:  # type: ignore[type-arg]
    """Key rows with what they spent: uses, calls this hour, day and month, cost this hour, day and month."""
    rollups, keys = tables.rollups, tables.keys
    spent = rollups.c.allowed - rollups.c.given_back
    starts = window_starts(wall)
    windows = [
        # Hours to come are those of a clock that was wrong.
        func.sum(case((and_(rollups.c.hour >= start, rollups.c.hour <= starts[0]), amount), else_=0))
        for amount in (spent, rollups.c.cost)
        for start in starts
    ]
    query = (
        select(
            keys.c.id,
            keys.c.block,
            keys.c.parent_id,
            keys.c.holder_id,
            keys.c.service_id,
            func.sum(spent),
            *windows,
        )
        .join(keys, keys.c.id == rollups.c.key_id)
        .where(rollups.c.workspace_id == workspace)
        .group_by(keys.c.id)
    )
    if chosen is not None:
        query = query.where(keys.c.id.in_(chosen))
    return [(row, [int(amount) for amount in row[5:]]) for row in connection.execute(query)]


def _parents(connection: Connection, workspace: str) -> dict[str, Row]:  # type: ignore[type-arg]
    """Rows of all keys that others were derived from, by id."""
    keys, derived = tables.keys, tables.keys.alias()
    rows = connection.execute(
        select(keys.c.id, keys.c.block, keys.c.parent_id, keys.c.holder_id, keys.c.service_id).where(
            keys.c.workspace_id == workspace,
            keys.c.id.in_(select(derived.c.parent_id).where(derived.c.parent_id.is_not(None))),
        )
    )
    return {row.id: row for row in rows}
