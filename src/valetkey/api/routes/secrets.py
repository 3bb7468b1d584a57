"""Routes of secrets. A value comes in by a body and never goes out."""

from __future__ import annotations

from typing import Annotated

from litestar import get, post
from litestar.datastructures import State
from litestar.openapi.spec import Example
from litestar.params import Body, PathParameter, QueryParameter
from sqlalchemy import Connection

from valetkey.api.answers import SecretPage, VersionPage
from valetkey.api.bodies import SecretRetirement
from valetkey.api.parameters import Asking, Named, ReplayToken, ServiceInPath, TheDesk, performs
from valetkey.services.queries import get_service
from valetkey.vault.operations import (
    RetireSecret,
    SecretView,
    SetSecret,
    list_secrets,
    list_versions,
    retire_secret,
    set_secret,
)

_SET = Body(
    examples=[Example(summary="A new version", value={"service": "openai", "value": "the-vendors-key"})]
)
_RETIRE = Body(examples=[Example(summary="One version", value={"environment": "production", "version": 1})])
SecretInPath = Annotated[str, PathParameter(description="Name of a secret; the usual one is `default`.")]


@get("/secrets", summary="List secrets")
async def list_all(desk: TheDesk, service: Named = None) -> SecretPage:
    """All secrets, or those of one service, with their newest living version. Never a value."""

    def found(connection: Connection) -> list[SecretView]:
        if service is not None:
            get_service(connection, desk.workspace, service)
        views = list_secrets(connection, desk.workspace)
        return [view for view in views if service in (None, view.service)]

    return SecretPage(await desk.read(found))


@post("/secrets", summary="Set a secret", opt=performs(set_secret))
async def put_in(
    desk: TheDesk, actor: Asking, data: Annotated[SetSecret, _SET], replay_token: ReplayToken = None
) -> SecretView:
    """Seal a value as the newest version; it is used from the next call on."""
    return (await desk.perform(set_secret, data, actor, replay_token=replay_token)).answer  # type: ignore[no-any-return]


@get("/secrets/{service:str}/{name:str}/versions", summary="List versions of a secret")
async def versions(
    desk: TheDesk,
    state: State,
    service: ServiceInPath,
    name: SecretInPath,
    environment: Annotated[str, QueryParameter(min_length=1, max_length=60)] = "production",
) -> VersionPage:
    """Newest first. Never a value."""
    wall = state.wall()
    return VersionPage(
        await desk.read(
            lambda connection: list_versions(connection, desk.workspace, service, name, environment, wall)
        )
    )


@post(
    "/secrets/{service:str}/{name:str}/retire",
    summary="Retire a secret",
    status_code=200,
    opt=performs(retire_secret),
)
async def retire(
    desk: TheDesk,
    actor: Asking,
    service: ServiceInPath,
    name: SecretInPath,
    data: Annotated[SecretRetirement | None, _RETIRE] = None,
) -> SecretView:
    """Take one version out of use, or all; calls then use the newest that is left."""
    chosen = data or SecretRetirement()
    request = RetireSecret(service=service, name=name, environment=chosen.environment, version=chosen.version)
    return (await desk.perform(retire_secret, request, actor)).answer  # type: ignore[no-any-return]


ROUTES = [list_all, put_in, versions, retire]
