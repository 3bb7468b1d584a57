"""Puts the control API together: the guard outside, the routes inside. Served by any ASGI server."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

from litestar import Litestar, Request, Router
from litestar.datastructures import State
from litestar.di import Provide

from valetkey.access.actor import Actor
from valetkey.api.desk import Desk
from valetkey.api.document import PREFIX, describe
from valetkey.api.problems import answer_error
from valetkey.api.reading import StrictRequest
from valetkey.api.routes import OPEN, UNDER_API
from valetkey.api.security import ACTOR, Application, Guard
from valetkey.api.strangers import refuse_strangers
from valetkey.errors import NotAuthenticated


def build_api(desk: Desk, *, local: bool, wall: Callable[[], float] = time.time) -> Application:
    """The control API as an ASGI application, which needs no lifespan.

    With `local` whoever reaches it is the local owner: only for the Unix socket. Otherwise a bearer token
    and a known Host are asked for.
    """
    application = Litestar(
        [Router(PREFIX, route_handlers=UNDER_API), *OPEN],
        dependencies={
            "desk": Provide(lambda: desk, sync_to_thread=False),
            "actor": Provide(_asking, sync_to_thread=False),
        },
        before_request=refuse_strangers,
        exception_handlers={Exception: answer_error},
        request_class=StrictRequest,
        request_max_body_size=None,  # the guard has read the body, within its own limit
        state=State({"wall": wall, "description": cache(describe)}),
        openapi_config=None,
        logging_config=None,  # its log lines would carry messages of exceptions
        debug=False,
    )
    return Guard(application, desk, local=local)


def _asking(request: Request[Any, Any, Any]) -> Actor:
    """Who asks. The guard has refused everyone else, but a route that wants to know never takes nobody."""
    actor = request.scope.get(ACTOR)
    if not isinstance(actor, Actor):
        raise NotAuthenticated(
            "Nobody is known to be asking.", "Send Authorization: Bearer with an API token."
        )
    return actor
