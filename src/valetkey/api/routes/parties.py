"""Routes of parties: people, machines, applications, partners."""

from __future__ import annotations

from typing import Annotated

from litestar import get, post
from litestar.openapi.spec import Example
from litestar.params import Body

from valetkey.api.answers import PartyPage
from valetkey.api.parameters import Asking, ReplayToken, TheDesk, performs
from valetkey.parties.operations import AddParty, Party, add_party, list_parties

_ADD = Body(examples=[Example(summary="A program", value={"name": "ci-runner", "kind": "application"})])


@get("/parties", summary="List parties")
async def list_all(desk: TheDesk) -> PartyPage:
    """All living parties, by name."""
    return PartyPage(await desk.read(lambda connection: list_parties(connection, desk.workspace)))


@post("/parties", summary="Add a party", opt=performs(add_party))
async def add(
    desk: TheDesk, actor: Asking, data: Annotated[AddParty, _ADD], replay_token: ReplayToken = None
) -> Party:
    """Make a party known. Two people never share one key, so there are no teams."""
    return (await desk.perform(add_party, data, actor, replay_token=replay_token)).answer  # type: ignore[no-any-return]


ROUTES = [list_all, add]
