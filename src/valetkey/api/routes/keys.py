"""Routes of keys: issue, look, change, stop, and ask what a key would be answered."""

from __future__ import annotations

from typing import Annotated, Any, cast

import msgspec
from litestar import get, patch, post
from litestar.datastructures import State
from litestar.openapi.spec import Example
from litestar.params import Body, QueryParameter

from valetkey.access.actor import Actor
from valetkey.access.operation import Operation
from valetkey.api.answers import KeyStopped
from valetkey.api.bodies import Ending, KeyChanges, KeyValue
from valetkey.api.desk import Desk
from valetkey.api.parameters import Asking, Cursor, IdInPath, Limit, Named, ReplayToken, TheDesk, performs
from valetkey.keys.checking import CallToCheck, CheckedKey, CheckKey
from valetkey.keys.derivation import DeriveKey, HeldDerivation, derive_key
from valetkey.keys.life import KeyState
from valetkey.keys.making import IssuedKey
from valetkey.keys.operations import (
    ChangeKey,
    IssueKey,
    KeyName,
    change_key,
    issue_key,
    resume_key,
    revoke_key,
    show_key_value,
    suspend_key,
    unpin_key,
)
from valetkey.keys.queries import KeyPage, KeyView, list_keys, show_key

_ISSUE = Body(
    examples=[
        Example(
            summary="A key for one endpoint, an hour long",
            value={
                "service": "openai",
                "holder": "ci-runner",
                "expires": "1h",
                "terms": {"endpoints": ["GET /v1/models"], "rate": "5/s", "quotas": ["1000/day"]},
            },
        )
    ]
)
_DERIVE = Body(
    examples=[
        Example(
            summary="For an agent, for an hour",
            value={
                "holder": "agent",
                "expires": "1h",
                "terms": {"endpoints": ["GET /v1/models"], "uses": 100},
            },
        )
    ]
)
_CHANGE = Body(examples=[Example(summary="Another rate", value={"terms": {"rate": "2/s"}})])
_END = Body(examples=[Example(summary="Let open exchanges finish", value={"let_finish": True})])
_FIND = Body(examples=[Example(summary="A key that was found", value={"key": "the-whole-key"})])
_CHECK = Body(
    examples=[
        Example(summary="A call", value={"method": "GET", "path": "/v1/models", "address": "203.0.113.7"})
    ]
)


@get("/keys", summary="List keys")
async def list_page(
    desk: TheDesk,
    state: State,
    service: Named = None,
    holder: Named = None,
    key_state: Annotated[KeyState | None, QueryParameter(name="state")] = None,
    last4: Annotated[
        str | None,
        QueryParameter(pattern=r"^[0-9A-Za-z]{4}$", description="Last four characters of the key."),
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> KeyPage:
    """A page of keys, newest first. Never a value."""
    now = state.wall()
    return await desk.read(
        lambda connection: list_keys(
            connection,
            desk.workspace,
            service=service,
            holder=holder,
            state=key_state,
            last4=last4,
            now=now,
            limit=limit,
            cursor=cursor,
        )
    )


@post("/keys", summary="Issue a key", opt=performs(issue_key))
async def issue(
    desk: TheDesk, actor: Asking, data: Annotated[IssueKey, _ISSUE], replay_token: ReplayToken = None
) -> IssuedKey:
    """The only time the value of a key that is not public is shown. A replay shows `key: null`."""
    return (await desk.perform(issue_key, data, actor, replay_token=replay_token)).answer  # type: ignore[no-any-return]


@post("/keys/find", summary="Find a key by its value", status_code=200)
async def find(desk: TheDesk, data: Annotated[KeyValue, _FIND]) -> KeyView:
    """Which key a plain key is, living or dead: for one that was found where it does not belong."""
    return cast(KeyView, await desk.find_key(data.key.strip().encode()))


@get("/keys/{key_id:str}", summary="Show a key")
async def show(desk: TheDesk, state: State, key_id: IdInPath) -> KeyView:
    """What the key opens and how much, never its value; and the living keys that come from it."""
    return await desk.read(lambda connection: show_key(connection, desk.workspace, key_id, state.wall()))


@patch("/keys/{key_id:str}", summary="Change a key", opt=performs(change_key))
async def change(
    desk: TheDesk, actor: Asking, key_id: IdInPath, data: Annotated[KeyChanges, _CHANGE]
) -> KeyView:
    """Restrictions, limits, end or label; in force at the next call."""
    request = ChangeKey(id=key_id, label=data.label, expires=data.expires, terms=data.terms)
    return (await desk.perform(change_key, request, actor)).answer  # type: ignore[no-any-return]


@post("/keys/{key_id:str}/suspend", summary="Suspend a key", status_code=200, opt=performs(suspend_key))
async def suspend(
    desk: TheDesk, state: State, actor: Asking, key_id: IdInPath, data: Annotated[Ending | None, _END] = None
) -> KeyStopped:
    """No call is accepted any more when this is answered, until the key is resumed."""
    return await _stop(desk, state, suspend_key, key_id, actor, data)


@post("/keys/{key_id:str}/resume", summary="Resume a key", status_code=200, opt=performs(resume_key))
async def resume(
    desk: TheDesk, state: State, actor: Asking, key_id: IdInPath, data: Annotated[Ending | None, _END] = None
) -> KeyStopped:
    """Let a suspended key work again."""
    return await _stop(desk, state, resume_key, key_id, actor, data)


@post("/keys/{key_id:str}/revoke", summary="Revoke a key", status_code=200, opt=performs(revoke_key))
async def revoke(
    desk: TheDesk, state: State, actor: Asking, key_id: IdInPath, data: Annotated[Ending | None, _END] = None
) -> KeyStopped:
    """End a key for ever. When this is answered it is dead everywhere, and what was open is cut."""
    return await _stop(desk, state, revoke_key, key_id, actor, data)


@post("/keys/{key_id:str}/unpin", summary="Unpin a key", status_code=200, opt=performs(unpin_key))
async def unpin(desk: TheDesk, actor: Asking, key_id: IdInPath) -> KeyView:
    """Of a sticky key: the next call that passes pins it anew, from wherever it comes."""
    return (await desk.perform(unpin_key, KeyName(key_id), actor)).answer  # type: ignore[no-any-return]


@post("/keys/{key_id:str}/check", summary="Check a call", status_code=200)
async def check(desk: TheDesk, key_id: IdInPath, data: Annotated[CallToCheck, _CHECK]) -> CheckedKey:
    """What would be answered to a call with this key. Spends and pins nothing."""
    return cast(CheckedKey, await desk.check_key(CheckKey(id=key_id, **msgspec.structs.asdict(data))))


@post(
    "/keys/{key_id:str}/value",
    summary="Show a public key's value",
    status_code=200,
    opt=performs(show_key_value),
)
async def value(desk: TheDesk, actor: Asking, key_id: IdInPath) -> IssuedKey:
    """Only public keys can be shown again; all others were shown once."""
    return (await desk.perform(show_key_value, KeyName(key_id), actor)).answer  # type: ignore[no-any-return]


@post("/keys/{key_id:str}/derive", summary="Derive a key", opt=performs(derive_key))
async def derive(
    desk: TheDesk,
    actor: Asking,
    key_id: IdInPath,
    data: Annotated[HeldDerivation | None, _DERIVE] = None,
    replay_token: ReplayToken = None,
) -> IssuedKey:
    """A temporary key, never wider than the one it comes from, and dead with it. Its value is shown this once."""
    asked = HeldDerivation() if data is None else data
    request = DeriveKey(id=key_id, **msgspec.structs.asdict(asked))
    return (await desk.perform(derive_key, request, actor, replay_token=replay_token)).answer  # type: ignore[no-any-return]


async def _stop(
    desk: Desk,
    state: State,
    operation: Operation[Any, Any],
    key_id: str,
    actor: Actor,
    ending: Ending | None,
) -> KeyStopped:
    let_finish = ending is not None and ending.let_finish
    begun = state.wall()
    outcome = await desk.perform(operation, KeyName(key_id), actor, let_finish=let_finish)
    view = outcome.answer
    ended = getattr(view, "ended", None)
    already = ended is not None and ended < begun
    return KeyStopped(key_id, view.state, outcome.acknowledged, outcome.fenced, outcome.cut, ended, already)


ROUTES = [list_page, issue, find, show, change, suspend, resume, revoke, unpin, check, derive, value]
