"""A real HTTP server that speaks the control API's contract: fixed answers, every request kept for the test."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

PREFIX = "/api/v1"


class Request(NamedTuple):
    """One request as it came in."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


class Lines(list[Any]):
    """An answer of one JSON object a line, after which the server ends the stream."""


class Endless(Lines):
    """The same, but the stream stays open: silent after the objects, or with them again and again."""

    def __init__(self, lines: list[Any], again: bool = False) -> None:
        super().__init__(lines)
        self.again = again


class Text(str):
    """An answer that is no JSON."""


class FakeApi:
    """What the server answers, by method and path without the prefix, and what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], list[tuple[int, Any]]] = {}
        self.requests: list[Request] = []
        self.url = ""

    def answer(self, method: str, path: str, *bodies: Any, status: int = 200) -> None:
        """Answer so; of several bodies each is given once, the last for ever."""
        self.answers[method, path] = [(status, body) for body in bodies]

    def refuse(
        self, method: str, path: str, status: int, code: str, detail: str, next_step: str = ""
    ) -> None:
        """Answer with a problem."""
        problem = {"type": "about:blank", "title": code, "status": status, "code": code, "detail": detail}
        self.answer(method, path, {**problem, "next_step": next_step}, status=status)

    @property
    def last(self) -> Request:
        return self.requests[-1]

    def take(self, request: Request) -> tuple[int, Any]:
        self.requests.append(request)
        known = self.answers.get((request.method, request.path))
        if known is None:
            return 404, {
                "status": 404,
                "code": "NOT_FOUND",
                "title": "x",
                "detail": "There is no such thing.",
            }
        return known.pop(0) if len(known) > 1 else known[0]


class _Handler(BaseHTTPRequestHandler):
    api: FakeApi

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        assert parts.path.startswith(PREFIX)
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, body = self.api.take(
            Request(
                self.command,
                parts.path.removeprefix(PREFIX),
                dict(parse_qsl(parts.query)),
                headers,
                json.loads(content) if content else None,
            )
        )
        if isinstance(body, Lines):
            content = b"".join(json.dumps(line).encode() + b"\n" for line in body)
        else:
            content = body.encode() if isinstance(body, Text) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if not isinstance(body, Lines):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        if isinstance(body, Endless):
            self._stay(body, content)

    def _stay(self, body: Endless, content: bytes) -> None:
        """Until the client leaves."""
        try:
            if body.again:
                while True:
                    self.wfile.write(content)
            self.connection.recv(1)
        except OSError:
            pass

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - names of the base class

    def address_string(self) -> str:
        return "local"

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class _TcpServer(socketserver.ThreadingTCPServer):
    daemon_threads = True


@contextmanager
def serving(api: FakeApi, socket_path: Path | None = None) -> Iterator[FakeApi]:
    """Serve `api` on a Unix socket, or on a free port of loopback, until the block ends."""
    handler = type("Handler", (_Handler,), {"api": api})
    server: socketserver.BaseServer
    if socket_path is None:
        server = _TcpServer(("127.0.0.1", 0), handler)
        api.url = f"http://127.0.0.1:{server.server_address[1]}"
    else:
        server = _UnixServer(str(socket_path), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
