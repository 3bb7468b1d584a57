"""A stand-in of Stripe's API: balance and customers, keys as bearer or as the user of Basic."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

from aiohttp import web

from valetkey.demo.standin import StandIn, bearer, masked


class StripeStandIn(StandIn):
    """Form-encoded in, JSON out, a Request-Id on every answer."""

    def __init__(self, real_key: str) -> None:
        super().__init__(real_key)
        self.customers: dict[str, dict[str, Any]] = {}

    def key_of(self, request: web.Request) -> str | None:
        if token := bearer(request, "bearer"):
            return token
        encoded = bearer(request, "basic")
        try:
            user, colon, _ = b64decode(encoded or "", validate=True).decode().partition(":")
        except ValueError:
            return None
        return user if user and colon else None

    def refusal(self, key: str | None) -> web.Response:
        said = (
            "You did not provide an API key." if key is None else f"Invalid API Key provided: {masked(key)}"
        )
        answer = _error(401, {"message": said, "type": "invalid_request_error"})
        answer.headers["WWW-Authenticate"] = 'Basic realm="Stripe"'
        return answer

    def failure(self, status: int) -> web.Response:
        if status == 429:
            limited = {"message": "Too many requests.", "type": "invalid_request_error", "code": "rate_limit"}
            return _error(429, limited)
        return _error(status, {"message": "Made on demand.", "type": "api_error"})

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/balance", self.balance),
            web.post("/v1/customers", self.create),
            web.get("/v1/customers", self.all),
            web.get("/v1/customers/{customer}", self.one),
        ]

    async def balance(self, _: web.Request) -> web.Response:
        amount = [{"amount": 1234, "currency": "eur", "source_types": {"card": 1234}}]
        return _answer({"object": "balance", "available": amount, "pending": [], "livemode": False})

    async def create(self, request: web.Request) -> web.Response:
        if request.content_type != "application/x-www-form-urlencoded":
            return _error(400, {"message": "Send a form.", "type": "invalid_request_error"})
        form = await request.post()
        fields = {name: str(value) for name, value in form.items() if "[" not in name}
        made = {**_customer(f"cus_standin{len(self.customers)}"), **fields}
        self.customers[str(made["id"])] = made
        return _answer(made)

    async def all(self, request: web.Request) -> web.Response:
        limit = int(request.query.get("limit", "10"))
        found = list(self.customers.values())
        page = {"object": "list", "url": "/v1/customers", "data": found[:limit]}
        return _answer({**page, "has_more": len(found) > limit})

    async def one(self, request: web.Request) -> web.Response:
        name = request.match_info["customer"]
        if name in self.customers:
            return _answer(self.customers[name])
        missing = {"type": "invalid_request_error", "code": "resource_missing", "param": "id"}
        return _error(404, {**missing, "message": f"No such customer: '{name}'"})


def _customer(name: str) -> dict[str, Any]:
    return {"id": name, "object": "customer", "created": 1_700_000_000, "livemode": False}


def _answer(body: dict[str, Any]) -> web.Response:
    return web.json_response(body, headers={"Request-Id": "req_standin"})


def _error(status: int, error: dict[str, Any]) -> web.Response:
    return web.json_response({"error": error}, status=status, headers={"Request-Id": "req_standin"})
