"""The route by which an administrator vouches for the clock."""

from __future__ import annotations

from litestar import post

from valetkey.access.clock import accept_clock
from valetkey.api.answers import ClockAccepted
from valetkey.api.parameters import Asking, TheDesk, performs


@post("/clock/accept", summary="Accept the clock", status_code=200, opt=performs(accept_clock))
async def accept(desk: TheDesk, actor: Asking) -> ClockAccepted:
    """Records name later instants than the clock does, and the clock is right: calls are decided again."""
    outcome = await desk.accept_clock(actor)
    return ClockAccepted(outcome.answer.now, outcome.acknowledged, outcome.fenced)


ROUTES = [accept]
