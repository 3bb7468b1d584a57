"""A stand-in of OpenAI's API for the demo and the tests: it refuses every key but the real one.

It answers as the vendor documents, errors included, and records what it was sent. Run by itself:
``python -m valetkey.demo.standin --key-file FILE`` prints one line of JSON with its address.

On demand: the model ``standin-429`` (or any status), or the header ``x-standin-status``, gives that error;
``x-standin-delay: 0.5`` waits before it answers; ``standin-endless`` streams until somebody hangs up.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

import msgspec
from aiohttp import web

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

MODELS: Final = ("gpt-4o-mini", "gpt-4o", "text-embedding-3-small")
EVENT_EVERY: Final = 0.05
"""Seconds between two events of an endless stream."""

_CHUNK: Final = 64 * 1024
_PATTERN: Final = bytes(range(256)) * (_CHUNK // 256)
_CREATED: Final = 1_700_000_000


class Recorded(msgspec.Struct, frozen=True):
    """One request as it came in. Holds credentials: `repr` shows none."""

    method: str
    target: bytes
    """The request target, byte for byte."""
    headers: tuple[tuple[bytes, bytes], ...]
    """Names and values as on the wire, in order."""

    def values(self, name: str) -> list[bytes]:
        """All values of one header, whatever its case."""
        wanted = name.lower().encode()
        return [value for field, value in self.headers if field.lower() == wanted]

    def __repr__(self) -> str:
        return f"Recorded({self.method} {len(self.target)} bytes, {len(self.headers)} headers)"


class StandIn:
    """A server that plays a vendor. Subclasses say how a key comes in and what is answered."""

    def __init__(self, real_key: str) -> None:
        self.real_key = real_key
        """Change it to play a key that the vendor has taken back."""
        self.requests: list[Recorded] = []
        self.refused = 0
        """Calls answered with 401."""
        self.open_streams = 0
        self.events_sent: list[float] = []
        """Wall-clock time of each event of endless streams."""
        self.url = ""
        self._runner: web.AppRunner | None = None

    def key_of(self, request: web.Request) -> str | None:
        """The key the call carries, by the vendor's rules; None when there is none."""
        raise NotImplementedError

    def refusal(self, key: str | None) -> web.Response:
        """The vendor's 401."""
        raise NotImplementedError

    def failure(self, status: int) -> web.Response:
        """The vendor's body for an error made on demand."""
        return web.json_response({"error": {"message": f"Made on demand: {status}."}}, status=status)

    def routes(self) -> list[web.RouteDef]:
        """What is answered."""
        raise NotImplementedError

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen and return the origin, ``http://127.0.0.1:PORT``."""
        app = web.Application(middlewares=[self._middleware], client_max_size=1 << 30)
        app.add_routes([web.get("/_standin/seen", self._seen), *self.routes()])
        # a caller that hangs up ends its handler, as with a real vendor
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        self.url = f"http://{host}:{self._runner.addresses[0][1]}"
        return self.url

    async def stop(self) -> None:
        """Close the listener and everything open."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/_standin/"):
            return await handler(request)
        target = request.raw_path.encode("utf-8", "surrogateescape")
        self.requests.append(Recorded(request.method, target, tuple(request.raw_headers)))
        if delay := request.headers.get("x-standin-delay"):
            await asyncio.sleep(float(delay))
        key = self.key_of(request)
        if key is None or not hmac.compare_digest(key.encode(), self.real_key.encode()):
            self.refused += 1
            return self.refusal(key)
        if status := request.headers.get("x-standin-status"):
            return self.failure(int(status))
        return await handler(request)

    async def _seen(self, _: web.Request) -> web.Response:
        seen = {"requests": len(self.requests), "refused": self.refused, "open_streams": self.open_streams}
        return web.json_response(seen)

    async def stream(self, request: web.Request, events: AsyncIterator[bytes]) -> web.StreamResponse:
        """Answer with server-sent events, each written as soon as it is there."""
        answer = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        )
        self.open_streams += 1
        try:
            await answer.prepare(request)
            async for event in events:
                await answer.write(event)
            await answer.write_eof()
        finally:
            self.open_streams -= 1
        return answer

    async def ticks(self) -> AsyncIterator[float]:
        """Wall-clock times, one each `EVENT_EVERY` seconds, without end."""
        while True:
            now = time.time()
            self.events_sent.append(now)
            yield now
            await asyncio.sleep(EVENT_EVERY)


def bearer(request: web.Request, *schemes: str) -> str | None:
    """The credential of one Authorization header with one of these schemes."""
    values = request.headers.getall("Authorization", [])
    scheme, _, rest = (values[0] if len(values) == 1 else "").partition(" ")
    return rest.strip() if scheme.lower() in schemes and rest.strip() else None


def masked(key: str) -> str:
    """A key as vendors show it in errors: the ends in the clear."""
    return key if len(key) < 12 else f"{key[:8]}{'*' * (len(key) - 12)}{key[-4:]}"


def asked_status(model: object) -> int | None:
    """The error that a model name such as ``standin-503`` asks for."""
    last = str(model).removeprefix("standin-")
    return int(last) if str(model).startswith("standin-") and last.isdigit() else None


async def pattern_answer(request: web.Request, size: int) -> web.StreamResponse:
    """`size` bytes of a known pattern, streamed; one byte range is honoured (RFC 9110, section 14)."""
    first, last, status = 0, size - 1, 200
    asked = request.headers.get("Range", "")
    if asked.startswith("bytes=") and "," not in asked:
        begin, _, end = asked.removeprefix("bytes=").partition("-")
        if begin.isdigit() and int(begin) < size:
            first, status = int(begin), 206
            last = min(int(end), last) if end.isdigit() else last
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(last - first + 1)}
    if status == 206:
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    answer = web.StreamResponse(status=status, headers=headers)
    await answer.prepare(request)
    position = first
    while position <= last:
        offset = position % 256
        length = min(_CHUNK - 256, last - position + 1)
        await answer.write(_PATTERN[offset : offset + length])
        position += length
    await answer.write_eof()
    return answer


class OpenAIStandIn(StandIn):
    """The parts of OpenAI's API that people use first."""

    def __init__(self, real_key: str) -> None:
        super().__init__(real_key)
        self.uploads: dict[str, dict[str, Any]] = {}

    def key_of(self, request: web.Request) -> str | None:
        return bearer(request, "bearer")

    def refusal(self, key: str | None) -> web.Response:
        if key is None:
            return _error(401, "You didn't provide an API key.", "invalid_request_error", None)
        said = f"Incorrect API key provided: {masked(key)}."
        return _error(401, said, "invalid_request_error", "invalid_api_key")

    def failure(self, status: int) -> web.Response:
        if status == 429:
            answer = _error(429, "Rate limit reached.", "requests", "rate_limit_exceeded")
            answer.headers["Retry-After"] = "1"
            return answer
        return _error(status, "The server had an error.", "server_error", None)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/models", self.models),
            web.get("/v1/models/{model}", self.model),
            web.post("/v1/chat/completions", self.chat),
            web.post("/v1/embeddings", self.embeddings),
            web.post("/v1/files", self.upload),
            web.get("/v1/files/{file}", self.file),
            web.get("/v1/files/{file}/content", self.content),
        ]

    async def models(self, _: web.Request) -> web.Response:
        return _answer({"object": "list", "data": [_model(name) for name in MODELS]})

    async def model(self, request: web.Request) -> web.Response:
        name = request.match_info["model"]
        if name not in MODELS:
            return _error(404, "The model does not exist.", "invalid_request_error", "model_not_found")
        return _answer(_model(name))

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await _json(request)
        model, messages = body.get("model"), body.get("messages")
        if not model or not isinstance(messages, list) or not messages:
            return _error(400, "model and messages are required.", "invalid_request_error", None)
        if status := asked_status(model):
            return self.failure(status)
        if body.get("stream") or model == "standin-endless":
            return await self.stream(request, self._chunks(str(model), messages))
        said = f"You said: {messages[-1].get('content')}"
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
        return _answer({**_completion(str(model), "chat.completion"), "choices": [choice], "usage": usage})

    async def _chunks(self, model: str, messages: list[dict[str, Any]]) -> AsyncIterator[bytes]:
        def event(delta: dict[str, str], finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            return _event({**_completion(model, "chat.completion.chunk"), "choices": [choice]})

        yield event({"role": "assistant", "content": ""})
        if model == "standin-endless":
            async for now in self.ticks():
                yield event({"content": f"{now:.6f} "})
        for word in f"You said: {messages[-1].get('content')}".split():
            yield event({"content": word + " "})
        yield event({}, "stop")
        yield b"data: [DONE]\n\n"

    async def embeddings(self, request: web.Request) -> web.Response:
        body = await _json(request)
        given = body.get("input", "")
        texts = given if isinstance(given, list) else [given]
        data = [
            {"object": "embedding", "index": index, "embedding": [0.25, -0.5, 0.125]}
            for index, _ in enumerate(texts)
        ]
        usage = {"prompt_tokens": 4, "total_tokens": 4}
        return _answer({"object": "list", "model": body.get("model"), "data": data, "usage": usage})

    async def upload(self, request: web.Request) -> web.Response:
        if not request.content_type.startswith("multipart/"):
            return _error(400, "A file is sent as multipart/form-data.", "invalid_request_error", None)
        purpose, name, size, digest = "", "", 0, hashlib.sha256()
        async for part in await request.multipart():
            if getattr(part, "name", None) == "purpose":
                purpose = (await part.read()).decode()  # type: ignore[union-attr]
                continue
            name = getattr(part, "filename", None) or name
            while chunk := await part.read_chunk(_CHUNK):  # type: ignore[union-attr]
                size += len(chunk)
                digest.update(chunk)
        made: dict[str, Any] = {"id": f"file-standin-{size}", "object": "file", "bytes": size}
        made |= {"created_at": _CREATED, "filename": name, "purpose": purpose, "status": "processed"}
        self.uploads[made["id"]] = {**made, "sha256": digest.hexdigest()}
        return _answer(made)

    async def file(self, request: web.Request) -> web.Response:
        found = self.uploads.get(request.match_info["file"])
        if found is None:
            return _error(404, "No such File object.", "invalid_request_error", None)
        return _answer(found)

    async def content(self, request: web.Request) -> web.StreamResponse:
        size = request.match_info["file"].rpartition("-")[2]
        if not size.isdigit():
            return _error(404, "No such File object.", "invalid_request_error", None)
        return await pattern_answer(request, int(size))


async def _json(request: web.Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text='{"error": {"message": "Not JSON."}}', content_type="application/json")
    return body


def _answer(body: dict[str, Any]) -> web.Response:
    return web.json_response(body, headers={"x-request-id": "req_standin"})


def _error(status: int, message: str, kind: str, code: str | None) -> web.Response:
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return web.json_response(body, status=status, headers={"x-request-id": "req_standin"})


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "standin"}


def _completion(model: str, kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-standin", "object": kind, "created": _CREATED, "model": model}


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


async def _serve(real_key: str, port: int) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    standin = OpenAIStandIn(real_key)
    await standin.start(port=port)
    try:
        sys.stdout.write(json.dumps({"url": standin.url, "port": standin.port}) + "\n")
        sys.stdout.flush()
        await stopped.wait()
    finally:
        await standin.stop()


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="valetkey.demo.standin", description="A stand-in of OpenAI's API.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--key-file", type=Path, required=True, help="file with the only key it accepts")
    options = parser.parse_args()
    real_key = options.key_file.read_text(encoding="utf-8").removesuffix("\n")
    asyncio.run(_serve(real_key, options.port))


if __name__ == "__main__":
    main()
