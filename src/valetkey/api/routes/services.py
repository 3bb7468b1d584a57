"""Routes of services: the APIs that keys open."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import delete, get, patch, post
from litestar.openapi.spec import Example
from litestar.params import Body

from valetkey.api.answers import CredentialPage, CredentialStopped, ServicePage
from valetkey.api.bodies import ServiceChanges
from valetkey.api.parameters import Asking, IdInPath, ReplayToken, ServiceInPath, TheDesk, performs
from valetkey.keys.credentials import (
    Credential,
    CredentialName,
    list_credentials,
    make_credential,
    revoke_credential,
)
from valetkey.services.operations import (
    AddService,
    ChangeService,
    ServiceName,
    add_service,
    change_service,
    lock_service,
    remove_service,
    unlock_service,
)
from valetkey.services.queries import ServiceView, get_service, list_services, view_of

_ADD = Body(examples=[Example(summary="A vendor's API", value={"name": "openai", "preset": "openai"})])
_CHANGE = Body(examples=[Example(summary="Another price", value={"price": "0.02"})])


@get("/services", summary="List services")
async def list_all(desk: TheDesk) -> ServicePage:
    """All services, by name."""
    found = await desk.read(lambda connection: list_services(connection, desk.workspace))
    return ServicePage([view_of(stored) for stored in found])


@post("/services", summary="Add a service", opt=performs(add_service))
async def add(
    desk: TheDesk, actor: Asking, data: Annotated[AddService, _ADD], replay_token: ReplayToken = None
) -> ServiceView:
    """Of a preset, of a base URL with a way to put the key in, or one's own."""
    added = (await desk.perform(add_service, data, actor, replay_token=replay_token)).answer
    return _with_ceiling(added, data.max_body_mb, desk.settings.max_body_mb)


@get("/services/{name:str}", summary="Show a service")
async def show(desk: TheDesk, name: ServiceInPath) -> ServiceView:
    """One service. Holds no secret."""
    return view_of(await desk.read(lambda connection: get_service(connection, desk.workspace, name)))


@patch("/services/{name:str}", summary="Change a service", opt=performs(change_service))
async def change(
    desk: TheDesk, actor: Asking, name: ServiceInPath, data: Annotated[ServiceChanges, _CHANGE]
) -> ServiceView:
    """In force at the next call."""
    request = ChangeService(name=name, **msgspec.structs.asdict(data))
    changed = (await desk.perform(change_service, request, actor)).answer
    return _with_ceiling(changed, data.max_body_mb, desk.settings.max_body_mb)


def _with_ceiling(view: ServiceView, asked: int | None, ceiling: int) -> ServiceView:
    """Whoever asks for more than this server takes is told so."""
    if asked is None or asked <= ceiling:
        return view
    note = (
        f"This server takes no body over {ceiling} MB until it is started with serve --max-body-mb {asked}."
    )
    return msgspec.structs.replace(view, notes=(*view.notes, note))


@delete("/services/{name:str}", summary="Remove a service", status_code=200, opt=performs(remove_service))
async def remove(desk: TheDesk, actor: Asking, name: ServiceInPath) -> ServiceView:
    """Its living keys must be revoked first."""
    return (await desk.perform(remove_service, ServiceName(name), actor)).answer  # type: ignore[no-any-return]


@post("/services/{name:str}/lock", summary="Lock a service", status_code=200, opt=performs(lock_service))
async def lock(desk: TheDesk, actor: Asking, name: ServiceInPath) -> ServiceView:
    """Every call of the service is refused and what is open is cut, until it is unlocked."""
    return (await desk.perform(lock_service, ServiceName(name), actor)).answer  # type: ignore[no-any-return]


@post(
    "/services/{name:str}/unlock", summary="Unlock a service", status_code=200, opt=performs(unlock_service)
)
async def unlock(desk: TheDesk, actor: Asking, name: ServiceInPath) -> ServiceView:
    """Let calls through again."""
    return (await desk.perform(unlock_service, ServiceName(name), actor)).answer  # type: ignore[no-any-return]


@post("/services/{name:str}/credential", summary="Make a service credential", opt=performs(make_credential))
async def credential(
    desk: TheDesk, actor: Asking, name: ServiceInPath, replay_token: ReplayToken = None
) -> Credential:
    """For /v1/verify and /v1/authorize of an own service; its value is shown this once."""
    return (  # type: ignore[no-any-return]
        await desk.perform(make_credential, ServiceName(name), actor, replay_token=replay_token)
    ).answer


@get("/services/{name:str}/credentials", summary="List service credentials")
async def credentials(desk: TheDesk, name: ServiceInPath) -> CredentialPage:
    """Newest first, ended ones too. Never a value."""
    return CredentialPage(
        await desk.read(lambda connection: list_credentials(connection, desk.workspace, name))
    )


@post(
    "/services/{name:str}/credentials/{credential_id:str}/revoke",
    summary="Revoke a service credential",
    status_code=200,
    opt=performs(revoke_credential),
)
async def revoke(
    desk: TheDesk, actor: Asking, name: ServiceInPath, credential_id: IdInPath
) -> CredentialStopped:
    """When this is answered, /v1/verify and /v1/authorize refuse it everywhere."""
    outcome = await desk.perform(revoke_credential, CredentialName(name, credential_id), actor)
    view = outcome.answer
    return CredentialStopped(
        credential_id, name, getattr(view, "revoked", None), outcome.acknowledged, outcome.fenced
    )


ROUTES = [list_all, add, show, change, remove, lock, unlock, credential, credentials, revoke]
