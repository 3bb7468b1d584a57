"""Routes of partners and what was agreed with them."""

from __future__ import annotations

from typing import Annotated

from litestar import get, post, put
from litestar.datastructures import State
from litestar.openapi.spec import Example
from litestar.params import Body, QueryParameter

from valetkey.agreements.agreement import Agreement
from valetkey.agreements.operations import (
    ChangePartner,
    PartnerName,
    PartnerTerms,
    add_partner,
    change_partner,
    end_partner,
)
from valetkey.agreements.queries import PartnerView, get_partner, list_partners
from valetkey.api.answers import PartnerChanged, PartnerPage
from valetkey.api.parameters import Asking, NameInPath, ReplayToken, TheDesk, performs

_AGREEMENT = {
    "title": "Weather for Acme",
    "ends": "2027-12-31",
    "services": [{"name": "weather", "endpoints": ["GET /v1/**"]}],
    "networks": ["203.0.113.0/24"],
    "limits": {"rate": "10/s", "quotas": ["100000/month"]},
    "contact": {"email": "api@acme.example"},
}
_ADD = Body(examples=[Example(summary="A partner", value={"name": "acme", "agreement": _AGREEMENT})])
_CHANGE = Body(examples=[Example(summary="Another agreement", value=_AGREEMENT)])


@get("/partners", summary="List partners")
async def list_all(desk: TheDesk, state: State) -> PartnerPage:
    """Partners with agreements, ended ones too, by name."""
    return PartnerPage(
        await desk.read(lambda connection: list_partners(connection, desk.workspace, state.wall()))
    )


@post("/partners", summary="Add a partner", opt=performs(add_partner))
async def add(
    desk: TheDesk, actor: Asking, data: Annotated[PartnerTerms, _ADD], replay_token: ReplayToken = None
) -> PartnerView:
    """Every key that the partner holds is held to the agreement."""
    return (await desk.perform(add_partner, data, actor, replay_token=replay_token)).answer  # type: ignore[no-any-return]


@get("/partners/{name:str}", summary="Show a partner")
async def show(desk: TheDesk, state: State, name: NameInPath) -> PartnerView:
    """One partner and what was agreed."""
    return await desk.read(lambda connection: get_partner(connection, desk.workspace, name, state.wall()))


@put("/partners/{name:str}/agreement", summary="Change an agreement", opt=performs(change_partner))
async def change(
    desk: TheDesk,
    actor: Asking,
    name: NameInPath,
    data: Annotated[Agreement, _CHANGE],
    revive: Annotated[
        bool,
        QueryParameter(description="Whether one that was ended may live again, with the partner's keys."),
    ] = False,
) -> PartnerChanged:
    """Another one in its place; what it no longer allows is cut when this is answered."""
    done = await desk.perform(change_partner, ChangePartner(name, data, revive), actor)
    return PartnerChanged(done.answer, done.acknowledged, done.fenced, done.cut)


@post("/partners/{name:str}/end", summary="End an agreement", status_code=200, opt=performs(end_partner))
async def end(desk: TheDesk, actor: Asking, name: NameInPath) -> PartnerChanged:
    """Every key of the partner is dead everywhere when this is answered, and what was open is cut."""
    done = await desk.perform(end_partner, PartnerName(name), actor)
    return PartnerChanged(done.answer, done.acknowledged, done.fenced, done.cut)


ROUTES = [list_all, add, show, change, end]
