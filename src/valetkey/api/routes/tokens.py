"""Routes of API tokens. Only the local owner makes and revokes them."""

from __future__ import annotations

from typing import Annotated

from litestar import get, post
from litestar.openapi.spec import Example
from litestar.params import Body

from valetkey.api.answers import TokenPage
from valetkey.api.parameters import Asking, IdInPath, ReplayToken, TheDesk, performs
from valetkey.keys.tokens import (
    IssuedToken,
    IssueToken,
    TokenName,
    TokenView,
    issue_token,
    list_tokens,
    revoke_token,
)

_ISSUE = Body(
    examples=[Example(summary="For a program", value={"party": "ci-runner", "label": "deployment"})]
)


@get("/tokens", summary="List API tokens")
async def list_all(desk: TheDesk) -> TokenPage:
    """Newest first. Never a value."""
    return TokenPage(await desk.read(lambda connection: list_tokens(connection, desk.workspace)))


@post("/tokens", summary="Make an API token", opt=performs(issue_token))
async def issue(
    desk: TheDesk, actor: Asking, data: Annotated[IssueToken, _ISSUE], replay_token: ReplayToken = None
) -> IssuedToken:
    """Its value is shown this once. It opens all of this API but making and revoking tokens."""
    return (await desk.perform(issue_token, data, actor, replay_token=replay_token)).answer  # type: ignore[no-any-return]


@post(
    "/tokens/{token_id:str}/revoke",
    summary="Revoke an API token",
    status_code=200,
    opt=performs(revoke_token),
)
async def revoke(desk: TheDesk, actor: Asking, token_id: IdInPath) -> TokenView:
    """It is refused from its next request on, and keys that are tied to it are dead when this is answered."""
    return (await desk.perform(revoke_token, TokenName(token_id), actor)).answer  # type: ignore[no-any-return]


ROUTES = [list_all, issue, revoke]
