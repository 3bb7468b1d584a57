"""The route by which the local owner changes the root key."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import post
from litestar.openapi.spec import Example
from litestar.params import Body

from valetkey.api.answers import VaultRewrapped
from valetkey.api.parameters import Asking, TheDesk, performs
from valetkey.vault.rewrapping import rewrap_vault


class RootKeyPlace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the new root key lies."""

    file: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)] | None = None
    """Path of a file on the server's machine, made where there is none; left out: in place of the one in use."""


_PLACE = Body(examples=[Example(summary="In place of the one in use", value={})])


@post("/vault/rewrap", summary="Change the root key", status_code=200, opt=performs(rewrap_vault))
async def rewrap(
    desk: TheDesk, actor: Asking, data: Annotated[RootKeyPlace | None, _PLACE] = None
) -> VaultRewrapped:
    """Everything is sealed under a new root key while calls go on. Only the local owner may do this."""
    done = await desk.rewrap_vault(actor, None if data is None else data.file)
    return VaultRewrapped(done.root_key, done.former, done.file, done.kept)


ROUTES = [rewrap]
