"""Routes of named networks."""

from __future__ import annotations

from typing import Annotated

from litestar import delete, get, post
from litestar.openapi.spec import Example
from litestar.params import Body

from valetkey.api.answers import NetworkPage
from valetkey.api.parameters import Asking, NameInPath, ReplayToken, TheDesk, performs
from valetkey.networks.operations import AddNetwork, Network, add_network, list_networks
from valetkey.networks.removal import NetworkName, remove_network

_ADD = Body(examples=[Example(summary="An office", value={"name": "office", "blocks": ["203.0.113.0/24"]})])


@get("/networks", summary="List networks")
async def list_all(desk: TheDesk) -> NetworkPage:
    """All named networks, by name."""
    return NetworkPage(await desk.read(lambda connection: list_networks(connection, desk.workspace)))


@post("/networks", summary="Name a network", opt=performs(add_network))
async def add(
    desk: TheDesk, actor: Asking, data: Annotated[AddNetwork, _ADD], replay_token: ReplayToken = None
) -> Network:
    """A name that exists gets the new blocks, `before` says what it was; keys that name it follow at the next call."""
    return (await desk.perform(add_network, data, actor, replay_token=replay_token)).answer  # type: ignore[no-any-return]


@delete("/networks/{name:str}", summary="Remove a network", status_code=200, opt=performs(remove_network))
async def remove(desk: TheDesk, actor: Asking, name: NameInPath) -> Network:
    """Refused while a key that is not revoked, or an agreement that was not ended, names it."""
    return (await desk.perform(remove_network, NetworkName(name), actor)).answer  # type: ignore[no-any-return]


ROUTES = [list_all, add, remove]
