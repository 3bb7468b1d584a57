"""Routes of limits that several keys share."""

from __future__ import annotations

from typing import Annotated

from litestar import get, patch
from litestar.openapi.spec import Example
from litestar.params import Body

from valetkey.api.answers import LimitsPage
from valetkey.api.parameters import Asking, TheDesk, performs
from valetkey.limits.operations import ChangeLimits, LimitsView, change_shared_limits, list_limits

_CHANGE = Body(
    examples=[
        Example(
            summary="All keys of one holder", value={"holder": "ana", "terms": {"budgets": ["20.00/month"]}}
        ),
        Example(summary="All keys of one service", value={"service": "openai", "terms": {"rate": "50/s"}}),
        Example(summary="Everything together", value={"terms": {"quotas": ["100000/day"]}}),
    ]
)


@get("/limits", summary="List shared limits")
async def list_all(desk: TheDesk) -> LimitsPage:
    """Of everything together, of services, of holders. A key's own stand with the key."""
    return LimitsPage(await desk.read(lambda connection: list_limits(connection, desk.workspace)))


@patch("/limits", summary="Change shared limits", opt=performs(change_shared_limits))
async def change(desk: TheDesk, actor: Asking, data: Annotated[ChangeLimits, _CHANGE]) -> LimitsView:
    """What is left out stays, an empty list or text takes a limit away. In force at the next call."""
    return (await desk.perform(change_shared_limits, data, actor)).answer  # type: ignore[no-any-return]


ROUTES = [list_all, change]
