"""A call as people see it: its opened and closed records joined with the personal fields beside them."""

from __future__ import annotations

import msgspec

from valetkey.decision.codes import Code
from valetkey.journal.records import Closed, End, Flood, Opened, Personal


class Event(msgspec.Struct, frozen=True, gc=False):
    """One call, or one counted flood. Every field is always there; what is not known is None."""

    call: str
    key_id: str | None
    code: str
    time: float
    method: str | None
    path: str | None
    endpoint: str | None
    address: str | None
    user_agent: str | None
    origin: str | None
    service: str | None
    holder: str | None
    workspace: str | None
    environment: str | None
    status: int | None
    end: str | None
    """None while the call is open."""
    bytes_in: int | None
    bytes_out: int | None
    first_byte_ms: float | None
    last_byte_ms: float | None
    cost: int | None
    count: int
    """1; for a flood, how many calls it stands for."""
    cause: str | None = None
    """Why the upstream failed, in words."""
    operation: str | None = None
    """What was asked of Valetkey itself (``derive``), or what an own service named with its question."""


class EventFilter(msgspec.Struct, frozen=True):
    """What an event must be. None asks nothing."""

    key_id: str | None = None
    service: str | None = None
    code: str | None = None
    holder: str | None = None
    workspace: str | None = None
    environment: str | None = None
    since: float | None = None
    """Seconds since the epoch, from this moment on."""
    until: float | None = None
    """Before this moment."""

    def needles(self) -> tuple[bytes, ...]:
        """Bytes that stand in the opened record of every event that matches (the code may come later)."""
        names = ("key_id", "service", "holder", "workspace", "environment")
        return tuple(
            b'"%b":%b' % (name.encode(), msgspec.json.encode(value))
            for name in names
            if (value := getattr(self, name)) is not None
        )

    def matches(self, event: Event) -> bool:
        return (
            (self.key_id is None or event.key_id == self.key_id)
            and (self.service is None or event.service == self.service)
            and (self.code is None or event.code == self.code)
            and (self.holder is None or event.holder == self.holder)
            and (self.workspace is None or event.workspace == self.workspace)
            and (self.environment is None or event.environment == self.environment)
            and (self.since is None or event.time >= self.since)
            and (self.until is None or event.time < self.until)
        )


class Page(msgspec.Struct, frozen=True):
    """One page of events, newest first."""

    items: list[Event]
    next: str | None
    """Cursor of the next page, None on the last one."""


def join(opened: Opened | Flood, closed: Closed | None, personal: Personal | None) -> Event:
    """The event of a record, what closed it, and what stands beside it."""
    beside = personal or Personal()
    if isinstance(opened, Flood):
        return Event(
            call=opened.call,
            key_id=opened.key_id,
            code=opened.code,
            time=opened.time,
            method=None,
            path=None,
            endpoint=None,
            address=beside.address,
            user_agent=beside.user_agent,
            origin=beside.origin,
            service=opened.service,
            holder=None,
            workspace=None,
            environment=None,
            status=None,
            end=End.REFUSED.value,
            bytes_in=None,
            bytes_out=None,
            first_byte_ms=None,
            last_byte_ms=None,
            cost=None,
            count=opened.count,
        )
    end = closed.end if closed is not None else None if opened.code == Code.VALID else End.REFUSED.value
    return Event(
        call=opened.call,
        key_id=opened.key_id,
        code=opened.code if closed is None or closed.code is None else closed.code,
        time=opened.time,
        method=opened.method,
        path=opened.path,
        endpoint=opened.endpoint,
        address=beside.address,
        user_agent=beside.user_agent,
        origin=beside.origin,
        service=opened.service,
        holder=opened.holder,
        workspace=opened.workspace,
        environment=opened.environment,
        status=closed.status if closed is not None else None,
        end=end,
        bytes_in=closed.bytes_in if closed is not None else None,
        bytes_out=closed.bytes_out if closed is not None else None,
        first_byte_ms=closed.first_byte_ms if closed is not None else None,
        last_byte_ms=closed.last_byte_ms if closed is not None else None,
        cost=closed.cost if closed is not None else None,
        count=1,
        cause=closed.cause if closed is not None else None,
        operation=opened.operation,
    )
