"""A stand-in of Anthropic's API: messages plain and streamed with named events, models."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from valetkey.demo.standin import StandIn, asked_status, bearer

MODELS = ("claude-standin-1", "claude-standin-2")
KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


class AnthropicStandIn(StandIn):
    """Takes ``x-api-key`` or bearer; the same key in both is one, different ones are refused."""

    def key_of(self, request: web.Request) -> str | None:
        keys = {*request.headers.getall("x-api-key", []), bearer(request, "bearer")} - {None}
        return keys.pop() if len(keys) == 1 else None

    def refusal(self, key: str | None) -> web.Response:
        shown = "x-api-key header is required" if key is None else f"invalid x-api-key: {key[:11]}..."
        return _error(401, shown)

    def failure(self, status: int) -> web.Response:
        answer = _error(status, "Made on demand.")
        if status == 429:
            answer.headers["retry-after"] = "1"
        return answer

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/models", self.models),
            web.get("/v1/models/{model}", self.model),
            web.post("/v1/messages", self.messages),
            web.post("/v1/messages/count_tokens", self.count),
        ]

    async def models(self, request: web.Request) -> web.Response:
        if refused := _version_missing(request):
            return refused
        data = [_model(name) for name in MODELS]
        page = {"data": data, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]}
        return _answer(page)

    async def model(self, request: web.Request) -> web.Response:
        name = request.match_info["model"]
        return _answer(_model(name)) if name in MODELS else _error(404, f"model: {name}")

    async def count(self, request: web.Request) -> web.Response:
        return _version_missing(request) or _answer({"input_tokens": 9})

    async def messages(self, request: web.Request) -> web.StreamResponse:
        if refused := _version_missing(request):
            return refused
        body = await request.json()
        if not body.get("max_tokens"):
            return _error(400, "max_tokens: Field required")
        if status := asked_status(body.get("model")):
            return self.failure(status)
        said = f"You said: {body['messages'][-1]['content']}"
        if body.get("stream"):
            return await self.stream(request, self._events(body["model"], said))
        return _answer({**_message(body["model"]), "content": [{"type": "text", "text": said}]})

    async def _events(self, model: str, said: str) -> AsyncIterator[bytes]:
        def delta(text: str) -> bytes:
            return _event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})

        message = {**_message(model), "stop_reason": None}
        yield _event("message_start", message=message)
        yield _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        yield _event("ping")
        if model == "standin-endless":
            async for now in self.ticks():
                yield delta(f"{now:.6f} ")
        for word in said.split():
            yield delta(word + " ")
        yield _event("content_block_stop", index=0)
        ended = {"stop_reason": "end_turn", "stop_sequence": None}
        yield _event("message_delta", delta=ended, usage={"output_tokens": 3})
        yield _event("message_stop")


def _version_missing(request: web.Request) -> web.Response | None:
    if "anthropic-version" in request.headers:
        return None
    return _error(400, "anthropic-version: header is required")


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def _message(model: str) -> dict[str, Any]:
    return {
        "id": "msg_standin",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 3},
    }


def _model(name: str) -> dict[str, Any]:
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": "2025-01-01T00:00:00Z",
        "lifecycle": "active",
    }


def _answer(body: dict[str, Any]) -> web.Response:
    return web.json_response(body, headers={"request-id": "req_standin"})


def _error(status: int, message: str) -> web.Response:
    kind = KINDS.get(status, "api_error")
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_standin"}
    return web.json_response(body, status=status, headers={"request-id": "req_standin"})
