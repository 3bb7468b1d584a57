"""Which calls are open as far as the journal was accounted for: kept so that whoever reads on can still close them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from sqlalchemy import Connection, delete, insert, select

from valetkey.journal.records import Opened
from valetkey.store import tables

_NAME = "open_records"
OpenCalls = dict[str, dict[str, Opened]]
"""Segment -> call -> its opened record."""


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """What recovery needs of an opened record."""

    time: float
    code: str
    cost_reserved: int | None


_decode = msgspec.json.Decoder(dict[str, dict[str, _Kept]]).decode


def read_open_calls(connection: Connection) -> OpenCalls:
    """What `store_open_calls` kept last; the records without all that is of no use to recovery."""
    meta = tables.meta
    value = connection.execute(select(meta.c.value).where(meta.c.name == _NAME)).scalar()
    return {
        segment: {
            call: Opened(call, one.time, one.code, cost_reserved=one.cost_reserved)
            for call, one in calls.items()
        }
        for segment, calls in (_decode(value) if value is not None else {}).items()
    }


def store_open_calls(connection: Connection, calls: Mapping[str, Mapping[str, Opened]]) -> None:
    """Keep them, in the transaction that notes how far the journal was read."""
    kept = {
        segment: {call: _Kept(one.time, one.code, one.cost_reserved) for call, one in opened.items()}
        for segment, opened in calls.items()
        if opened
    }
    meta = tables.meta
    connection.execute(delete(meta).where(meta.c.name == _NAME))
    connection.execute(insert(meta).values(name=_NAME, value=msgspec.json.encode(kept).decode()))
