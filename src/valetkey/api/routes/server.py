"""Routes about the server itself: its state, the API's own description, and whether it lives."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec
from litestar import Request, Response, get

from valetkey.api.answers import Health, Status
from valetkey.api.parameters import TheDesk
from valetkey.doctor.findings import Report
from valetkey.errors import NotReady


@get("/status", summary="Show the server's state")
async def status(desk: TheDesk) -> Status:
    """What runs here and whether it is ready."""
    return cast(Status, desk.status())


@get("/doctor", summary="Find what is weak here")
async def doctor(desk: TheDesk) -> Report:
    """What is weak about this installation: where keys lie, clock, disk, listeners, keys, secrets, record."""
    return cast(Report, await desk.examine())


@get("/openapi.json", summary="Describe this API")
async def description(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """This document (OpenAPI 3.1)."""
    # Made once, off the event loop, and only when somebody asks.
    body = await asyncio.to_thread(request.app.state.description)
    return cast(dict[str, Any], Response(body, media_type="application/json"))


@get("/healthz", summary="Does the process answer?")
async def alive() -> Health:
    """Always ok: that there is an answer is the answer."""
    return Health("ok")


@get("/readyz", summary="Is the server ready?")
async def ready(desk: TheDesk) -> Health:
    """503 until the gateway can decide, with a few coarse words for what is missing; `degraded` when it can, but
    something beside it does not work. Details stand in the status."""
    now = msgspec.convert(desk.status(), Status, from_attributes=True)
    if not now.ready:
        raise NotReady(now.not_ready)
    return Health("degraded" if now.degraded else "ok")


ROUTES = [status, doctor, description]
OPEN = [alive, ready]
