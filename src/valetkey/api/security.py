"""The outermost layer of the control API: who may come near, and what stands on every answer.

In this order, before any routing: host name, path in plain form, who asks, size and shape of the body.
A raw ASGI application; it knows nothing of the one inside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from valetkey import log
from valetkey.access.actor import Actor
from valetkey.api.desk import Desk
from valetkey.api.problems import HeaderPairs, HostUnknown, NotSupported, problem, told
from valetkey.api.reading import check_body, read_body
from valetkey.errors import Invalid, NotAuthenticated, NotFound, ValetkeyError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]

OPEN_PATHS = frozenset(("/healthz", "/readyz"))
"""All that is answered to those who have not said who they are."""
ACTOR = "valetkey.actor"
"""Where the scope holds who asks."""
STILL = "valetkey.still"
"""Asks anew who it is: an answer that goes on for long ends when its token does."""
MAX_TOKEN_BYTES = 256
"""Longer than any token: not worth a look-up."""

SECURITY_HEADERS: HeaderPairs = [
    (
        b"content-security-policy",
        b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
]


class Guard:
    """Lets through to `inside` what may come, as the actor it comes as."""

    def __init__(self, inside: Application, desk: Desk, *, local: bool) -> None:
        self._inside = inside
        self._desk = desk
        self._local = local
        self._hosts = frozenset(name.encode() for name in desk.settings.host_names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        if scope["type"] != "http":
            await self._inside(scope, receive, send)
            return
        exchange = _Exchange(send, head_only=scope["method"] == "HEAD")
        try:
            inner, body = await self._admit(scope, receive)
            await exchange.run(self._inside(inner, _replay(body, receive), exchange.send))
        except Exception as error:  # the last net: nothing of what was not foreseen may leave
            if exchange.started:
                log.error("answer_broke_off", kind=type(error).__name__)
                raise RuntimeError("an answer broke off") from None
            await exchange.refuse(told(error))
        # Without its query, which may hold anything.
        log.debug("request", method=scope["method"], path=scope["path"], status=exchange.status)

    async def _admit(self, scope: Scope, receive: Receive) -> tuple[Scope, bytes]:
        """The scope for the application and the body. Raises `ValetkeyError`."""
        if not self._local:
            self._check_host(scope)
        path = scope["path"]
        if path in OPEN_PATHS:
            actor = None
        else:
            actor = await self._recognise(scope)
            if actor is None and (path == "/api" or path.startswith("/api/")):
                raise NotAuthenticated(
                    "Nobody is known to be asking.",
                    "Send Authorization: Bearer with an API token; make one with: valetkey token issue PARTY",
                )
            # Routers repair such paths; what was judged here must be what is routed.
            raw = scope.get("raw_path") or path.encode()
            if actor is None or b"%" in raw or b"//" in raw or b"/." in raw or not raw.startswith(b"/"):
                raise NotFound(
                    "There is nothing at this address.", "See the addresses at /api/v1/openapi.json."
                )
        if any(
            name.lower() == b"upgrade" and b"websocket" in value.lower() for name, value in scope["headers"]
        ):
            raise NotSupported("That kind of connection is not carried.", "Use plain HTTP requests.")
        if b"%00" in scope.get("query_string", b""):
            raise Invalid("The query holds a NUL character.", "Leave it out.")
        # Strangers do not get us to read anything.
        body = b"" if actor is None else await read_body(dict(scope), receive)
        if body:
            check_body(dict(scope), body)
        inner = dict(scope)
        inner[ACTOR] = actor
        inner[STILL] = lambda: self._recognise(scope)
        # OPTIONS is only good for letting other origins in: like every method that is not there, it is refused.
        inner["method"] = {"HEAD": "GET", "OPTIONS": "-"}.get(scope["method"], scope["method"])
        return inner, body

    def _check_host(self, scope: Scope) -> None:
        hosts = [value for name, value in scope["headers"] if name.lower() == b"host"]
        if len(hosts) != 1 or _without_port(hosts[0]) not in self._hosts:
            raise HostUnknown()

    async def _recognise(self, scope: Scope) -> Actor | None:
        if self._local:
            return self._desk.local_owner()
        given = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
        if len(given) != 1:
            return None
        scheme, _, token = given[0].strip().partition(b" ")
        token = token.strip()
        if scheme.lower() != b"bearer" or not 0 < len(token) <= MAX_TOKEN_BYTES:
            return None
        return await self._desk.authenticate(token)


class _Exchange:
    """The way out: puts the security headers on, and drops the body where only the head was asked for."""

    def __init__(self, send: Send, *, head_only: bool) -> None:
        self._send = send
        self._head_only = head_only
        self._answered = asyncio.Event()
        self.started = False
        self.status: int | None = None

    async def run(self, application: Awaitable[None]) -> None:
        if not self._head_only:
            await application
            return
        # The application may answer for ever (a stream): once the head is out it is stopped.
        work = asyncio.ensure_future(application)
        answered = asyncio.ensure_future(self._answered.wait())
        try:
            await asyncio.wait((work, answered), return_when=asyncio.FIRST_COMPLETED)
        finally:
            answered.cancel()
            if not work.done():
                work.cancel()
                with suppress(asyncio.CancelledError):
                    await work
        if work.done() and not work.cancelled():
            work.result()

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            given = [(bytes(name).lower(), value) for name, value in message.get("headers", ())]
            names = {name for name, _ in given}
            given += [pair for pair in SECURITY_HEADERS if pair[0] not in names]
            await self._send({**message, "headers": given})
            if self._head_only:
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
                self._answered.set()
        elif not self._head_only:
            await self._send(message)

    async def refuse(self, error: ValetkeyError) -> None:
        status, headers, body = problem(error)
        if error.status in (408, 413):
            # What is left of the body is not read, so the connection cannot be used again.
            headers.append((b"connection", b"close"))
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read, then what the server says (the client left)."""
    given = False

    async def replayed() -> Any:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replayed


def _without_port(host: bytes) -> bytes:
    name, colon, port = host.lower().rpartition(b":")
    if colon and port.isdigit() and not (b":" in name and not name.endswith(b"]")):
        return name
    return host.lower()
