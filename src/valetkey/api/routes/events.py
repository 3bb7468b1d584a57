"""Routes of what was called: events, the stream of them, and use by key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, cast

import msgspec
from litestar import get
from litestar.datastructures import State
from litestar.params import QueryParameter
from litestar.response import Stream

from valetkey.api.answers import UsagePage
from valetkey.api.parameters import Cursor, Limit, Named, TheDesk
from valetkey.api.reading import StrictRequest
from valetkey.api.security import STILL
from valetkey.decision.codes import Code
from valetkey.durations import parse_span
from valetkey.errors import Invalid
from valetkey.journal.event import Page

NDJSON = "application/x-ndjson"
MAX_HOURS = 24 * 31
"""Rollups are read hour by hour: a month is a page."""

Since = Annotated[
    str | None,
    QueryParameter(
        min_length=1,
        max_length=40,
        description="From when on: a span back from now such as `1h`, or seconds since the epoch.",
    ),
]
KeyFilter = Annotated[
    str | None, QueryParameter(min_length=1, max_length=60, description="Identifier of a key.")
]

LOOK_SECONDS = 1.0
"""How often a quiet stream looks whether it may go on."""
HEARTBEAT_SECONDS = 15.0
"""An empty line so often shows a quiet stream alive, and finds out clients that vanished."""


@get("/events", summary="List calls")
async def list_page(
    desk: TheDesk,
    state: State,
    key: KeyFilter = None,
    service: Named = None,
    code: Annotated[Code | None, QueryParameter(description="What was decided.")] = None,
    since: Since = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page:
    """A page of calls, newest first."""
    found = await desk.events(
        key=key, service=service, code=code, since=_instant(since, state.wall()), limit=limit, cursor=cursor
    )
    return cast(Page, found)


@get("/events/stream", summary="Follow calls", media_type=NDJSON)
async def follow(
    desk: TheDesk,
    request: StrictRequest,
    key: KeyFilter = None,
    service: Named = None,
    code: Annotated[Code | None, QueryParameter(description="What was decided.")] = None,
) -> Stream:
    """Calls as they happen, one JSON object a line (empty lines while nothing happens), until the client leaves."""
    events = await desk.follow(key=key, service=service, code=code)
    return Stream(_lines(events, request.scope[STILL]), media_type=NDJSON)  # type: ignore[literal-required]


@get("/usage", summary="Show use by key")
async def usage(
    desk: TheDesk, key: KeyFilter = None, hours: Annotated[int, QueryParameter(ge=1, le=MAX_HOURS)] = 24
) -> UsagePage:
    """Calls, bytes and cost of the last hours, by key."""
    return cast(UsagePage, await desk.usage(key, hours))


async def _lines(events: AsyncIterator[Any], still: Callable[[], Awaitable[Any]]) -> AsyncIterator[bytes]:
    yield b"\n"  # so that the answer's head leaves at once, and the follower knows that it follows
    coming: asyncio.Future[Any] | None = None
    quiet = 0.0
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(events))
            done, _ = await asyncio.wait({coming}, timeout=LOOK_SECONDS)
            if await still() is None:
                return  # the token has ended, and so does what it opened
            if not done:
                quiet += LOOK_SECONDS
                if quiet >= HEARTBEAT_SECONDS:
                    quiet = 0.0
                    yield b"\n"
                continue
            try:
                event = coming.result()
            except StopAsyncIteration:
                return
            coming = None
            quiet = 0.0
            yield msgspec.json.encode(event) + b"\n"
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.wait({coming})
        close = getattr(events, "aclose", None)
        if close is not None:
            await close()


def _instant(text: str | None, wall: float) -> float | None:
    if text is None:
        return None
    if text.replace(".", "", 1).isdecimal() and text.isascii():
        return float(text)
    try:
        return wall - parse_span(text)
    except Invalid:
        raise Invalid(
            "since is no moment.", "Write a span such as 1h, or seconds since the epoch.", field="since"
        ) from None


ROUTES = [list_page, follow, usage]
