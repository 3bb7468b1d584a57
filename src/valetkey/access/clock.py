"""What the clock must not be far behind, and an administrator's word that it is right all the same."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, delete, insert, select

from valetkey.access.operation import Unit, operation
from valetkey.journal.actions import AuditAction
from valetkey.store import tables

_ACCEPTED = "clock_accepted"
_NEWEST = "newest_record"


class AcceptClock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Take the machine's clock as right, although records name later instants."""


class ClockView(msgspec.Struct, frozen=True):
    """How the clock stands, in seconds since the epoch."""

    now: float
    newest: float
    """Newest instant that records name, or the one accepted since."""


class Newest(msgspec.Struct, frozen=True):
    """Newest instant that records name, and after which acceptance it was found."""

    time: float
    accepted: str | None


@operation(AuditAction.CLOCK_ACCEPT)
def accept_clock(unit: Unit, request: AcceptClock) -> ClockView:
    """From now on only what is recorded later counts. In force everywhere when it returns."""
    before = read_newest(unit.connection)
    _write(unit.connection, _ACCEPTED, Newest(unit.wall, unit.new_id("clk")))
    unit.subject = "clock"
    unit.details |= {"accepted": unit.wall, "newest": None if before is None else before.time}
    unit.touch("clock", "clock")
    return ClockView(unit.wall, unit.wall)


def read_newest(connection: Connection) -> Newest | None:
    """What was stored last or accepted since; None for a home that has neither."""
    accepted, stored = _read(connection, _ACCEPTED), _read(connection, _NEWEST)
    if accepted is not None and (stored is None or stored.accepted != accepted.accepted):
        return accepted
    return stored


def read_acceptance(connection: Connection) -> str | None:
    """Id of the latest acceptance, or None."""
    accepted = _read(connection, _ACCEPTED)
    return None if accepted is None else accepted.accepted


def store_newest(connection: Connection, newest: Newest) -> None:
    """Keep what records have named so far; with it goes how far they were read."""
    _write(connection, _NEWEST, newest)


def _read(connection: Connection, name: str) -> Newest | None:
    meta = tables.meta
    value = connection.execute(select(meta.c.value).where(meta.c.name == name)).scalar()
    return None if value is None else msgspec.json.decode(value, type=Newest)


def _write(connection: Connection, name: str, newest: Newest) -> None:
    meta = tables.meta
    connection.execute(delete(meta).where(meta.c.name == name))
    connection.execute(insert(meta).values(name=name, value=msgspec.json.encode(newest).decode()))
