"""Counters of limits lifted to what the journal proves: after a loss of power, and where a limit is new."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, delete, func, insert, select

from valetkey.access.operation import Begun
from valetkey.decision.counter_layout import BUDGETS, BYTES, QUOTAS, USES
from valetkey.decision.limits import AMOUNT_BITS, MOST_AMOUNT, window_numbers, window_starts
from valetkey.gateway.counters_keeping import KeptCounters
from valetkey.journal.records import Opened
from valetkey.journal.usage import HOUR
from valetkey.server.open_calls import all_of, read_open_calls
from valetkey.store import tables

_CELLS = (*range(QUOTAS, QUOTAS + 3), *range(BUDGETS, BUDGETS + 3), *range(BYTES, BYTES + 3))
"""Calls, cost and bytes by the hour, day and month, within a block."""


def lift_begun(
    connection: Connection, workspace: str, counters: KeptCounters, wall: float, begun: Iterable[Begun]
) -> None:
    """Let limits that begin count what was used before. Their counters are held, and use is stored up to now."""
    for limits in begun:
        chosen = _counted_at(connection, limits.kind, limits.id)
        used = _used_in_all(connection, workspace, wall, chosen)
        values = _packed(used, wall)
        counters.raise_to(limits.block, {cell: values[cell] for cell in limits.cells})


def lift_all(
    connection: Connection, workspace: str, counters: KeptCounters, wall: float, held: Iterable[int] = ()
) -> None:
    """Lift the counters of all subjects with limits, and let go of those that are `held` (blocks).

    Use must be stored up to now. None is lowered: what a call holds that the journal does not know stays held.
    """
    totals = _totals(connection, workspace, wall)
    for block in {*totals, *held}:
        counters.raise_to(block, _packed(totals.get(block, _NOTHING), wall))


_MARK = "counters"
"""In `meta`: as which the counters were lifted. An older copy of the file, or a new one, has another mark."""


def are_lifted(connection: Connection, counters: KeptCounters) -> bool:
    """Whether the file holds what it held when this home used it last, in this run of the machine."""
    meta = tables.meta
    mark = connection.execute(select(meta.c.value).where(meta.c.name == _MARK)).scalar()
    return mark is not None and int(mark) == counters.lifted


def mark_lifted(connection: Connection, counters: KeptCounters | None, mark: int) -> None:
    """Note that the file is lifted, as `mark` (1 to 2**63 - 1); without a file, that whichever is found is not."""
    meta = tables.meta
    connection.execute(delete(meta).where(meta.c.name == _MARK))
    if counters is not None:
        connection.execute(insert(meta).values(name=_MARK, value=str(mark)))
        # If we die before this is committed, the next start lifts them once more.
        counters.lifted = mark


_NOTHING = (0,) * 10


def _packed(used: Sequence[int], wall: float) -> dict[int, int]:
    """Cells of a block for what was used: in all, calls by the hour, day and month, cost and bytes by the same."""
    uses, *amounts = used
    numbers = window_numbers(wall)
    packed = [
        number << AMOUNT_BITS | min(amount, MOST_AMOUNT)
        for number, amount in zip(numbers * 3, amounts, strict=True)
    ]
    return {USES: uses, **dict(zip(_CELLS, packed, strict=True))}


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


def _totals(connection: Connection, workspace: str, wall: float) -> dict[int, list[int]]:
    """Block of each subject that may have limits -> what was used of it."""
    used = _used_by_key(connection, workspace, wall)
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
    totals: dict[int, list[int]] = defaultdict(lambda: [0] * 10)
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
    return totals


def _used_by_key(connection: Connection, workspace: str, wall: float) -> list[tuple[Row, list[int]]]:  # type: ignore[type-arg]
    """Key rows with what they spent."""
    rollups, keys = tables.rollups, tables.keys
    query = (
        select(keys.c.id, keys.c.block, keys.c.parent_id, keys.c.holder_id, keys.c.service_id, *_sums(wall))
        .join(keys, keys.c.id == rollups.c.key_id)
        .where(rollups.c.workspace_id == workspace)
        .group_by(keys.c.id)
    )
    pending: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for call in _open_calls(connection):
        for place, cost in enumerate(_still_counting(call, wall)):
            pending[call.key_id or ""][place] += cost
    found = []
    for row in connection.execute(query):
        amounts = [int(amount) for amount in row[5:]]
        if row.id in pending:
            for place, cost in enumerate(pending[row.id], 4):
                amounts[place] += cost
        found.append((row, amounts))
    return found


def _used_in_all(
    connection: Connection, workspace: str, wall: float, chosen: Select[tuple[str]] | None
) -> list[int]:
    """What the chosen keys (None: all) spent together."""
    rollups = tables.rollups
    query = select(*_sums(wall)).where(rollups.c.workspace_id == workspace)
    calls = _open_calls(connection)
    if chosen is not None:
        query = query.where(rollups.c.key_id.in_(chosen))
        # Of the few keys with calls in hand: the chosen may be a million.
        named = {call.key_id for call in calls if call.key_id is not None}
        among = tables.keys.c.id.in_(named), tables.keys.c.id.in_(chosen)
        counted = set(connection.execute(select(tables.keys.c.id).where(*among)).scalars())
        calls = [call for call in calls if call.key_id in counted]
    used = [int(amount or 0) for amount in connection.execute(query).one()]
    for call in calls:
        for place, cost in enumerate(_still_counting(call, wall), 4):
            used[place] += cost
    return used


def _sums(wall: float) -> list[ColumnElement[int]]:
    """Uses; calls this hour, day and month; cost and bytes of the same."""
    rollups = tables.rollups
    spent = rollups.c.allowed - rollups.c.given_back
    moved = rollups.c.bytes_in + rollups.c.bytes_out - rollups.c.bytes_uncounted
    starts = window_starts(wall)
    windows = [
        # Hours to come are those of a clock that was wrong.
        func.sum(case((and_(rollups.c.hour >= start, rollups.c.hour <= starts[0]), amount), else_=0))
        for amount in (spent, rollups.c.cost, moved)
        for start in starts
    ]
    return [func.sum(spent), *windows]


def _open_calls(connection: Connection) -> list[Opened]:
    """Calls in hand that may cost something: until they close, what they may cost at most is counted.

    What they have moved they count themselves (`gateway/metering.py`): no record says it before they close.
    """
    return [call for call in all_of(read_open_calls(connection)).values() if call.cost_reserved]


def _still_counting(call: Opened, wall: float) -> list[int]:
    """What a call in hand takes from this hour, day and month."""
    starts = window_starts(wall)
    cost, hour = call.cost_reserved or 0, int(call.time) // HOUR * HOUR
    return [cost if start <= hour <= starts[0] else 0 for start in starts]


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
