"""Refuses what a route does not know: query parameters nobody reads, bodies nobody asked for."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from litestar import Request
from litestar.params import QueryParameter

from valetkey.access.actor import Actor
from valetkey.api.bodies import Nothing
from valetkey.api.reading import decode
from valetkey.api.security import ACTOR, OPEN_PATHS
from valetkey.errors import Invalid, NotAuthenticated

_NOT_FROM_THE_QUERY = frozenset(("desk", "actor", "data", "request", "state", "replay_token"))


async def refuse_strangers(request: Request[Any, Any, Any]) -> None:
    """Raises `Invalid` for unknown or repeated query parameters and for a body where there should be none."""
    if request.scope["path"] not in OPEN_PATHS and not isinstance(request.scope.get(ACTOR), Actor):
        # The guard has refused them already; a hole in it must not be a hole here.
        raise NotAuthenticated(
            "Nobody is known to be asking.", "Send Authorization: Bearer with an API token."
        )
    known = query_names(request)
    seen: set[str] = set()
    for name, _ in parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True):
        if name not in known:
            listed = f"Known ones: {', '.join(known)}." if known else "This address takes none."
            raise Invalid("The query has a parameter that is not known here.", listed)
        if name in seen:
            raise Invalid(f"The parameter {name} is given twice.", "Give it once.", field=name)
        seen.add(name)
    if "data" not in request.route_handler.parsed_fn_signature.parameters:
        body = await request.body()
        if body:
            decode(body, Nothing)


def query_names(request: Request[Any, Any, Any]) -> tuple[str, ...]:
    """Names of the query parameters that this route reads, in its order."""
    names = []
    for name, definition in request.route_handler.parsed_fn_signature.parameters.items():
        if name in _NOT_FROM_THE_QUERY or name in request.scope["path_params"]:
            continue
        kwarg = definition.kwarg_definition
        given = kwarg.name if isinstance(kwarg, QueryParameter) else None
        names.append(given or name)
    return tuple(names)
