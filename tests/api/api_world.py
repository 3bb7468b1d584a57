"""The world of the control API's tests: desks without a server, and a caller that speaks ASGI byte by byte."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
from sqlalchemy import Connection, insert

from valetkey.access.actor import Actor, ActorKind
from valetkey.access.clock import AcceptClock, ClockView, accept_clock
from valetkey.access.operation import Frame, Operation
from valetkey.api.app import build_api
from valetkey.keys.queries import find_key
from valetkey.keys.tokens import actor_of_token
from valetkey.parties.erasure import ask_erasure
from valetkey.server.rewrapping import NewRootKey
from valetkey.store import tables
from valetkey.store.engine import Store, sqlite_url
from valetkey.vault.keyring import INDEX, Keyring
from valetkey.vault.rewrapping import Rewrap, rewrap_vault
from valetkey.vault.root_key import FileRootKey

WALL = 1_790_000_000.0
TOKEN = "vk_api_" + "A1b2" * 11
OWNER = Actor(ActorKind.LOCAL_OWNER, "ana")
PROGRAM = Actor(ActorKind.TOKEN, "ci-runner")


@dataclass
class FakeDesk:
    """Answers everything with next to nothing, and remembers what it was asked."""

    workspace: str = "wsp_test"
    settings: Any = field(
        default_factory=lambda: SimpleNamespace(
            host_names=frozenset({"localhost", "[::1]"}), max_body_mb=5_000
        )
    )
    asked: list[tuple[str, Any, Actor, bool, str | None]] = field(default_factory=list)
    checked: list[Any] = field(default_factory=list)
    listed: list[dict[str, Any]] = field(default_factory=list)
    fails: Exception | None = None
    ready: bool = True
    stream: list[Any] = field(default_factory=list)
    stream_ends: bool = True
    stream_closed: bool = False

    async def perform(
        self,
        operation: Operation[Any, Any],
        request: Any,
        actor: Actor,
        *,
        let_finish: bool = False,
        replay_token: str | None = None,
    ) -> Any:
        if self.fails is not None:
            raise self.fails
        self.asked.append((operation.action, request, actor, let_finish, replay_token))
        return SimpleNamespace(answer=State("revoked"), acknowledged=2, fenced=1, cut=3)

    async def accept_clock(self, actor: Actor) -> Any:
        done = await self.perform(accept_clock, AcceptClock(), actor)
        return SimpleNamespace(**{**vars(done), "answer": ClockView(0.0, 0.0)})

    async def rewrap_vault(self, actor: Actor, file: str | None) -> Any:
        await self.perform(rewrap_vault, Rewrap(file or "/root.key.next", "/home"), actor)
        return NewRootKey("a" * 16, "b" * 16, file or "/root.key", None)

    async def read(self, query: Callable[[Connection], Any]) -> Any:
        if self.fails is not None:
            raise self.fails
        raise NotImplementedError

    async def check_key(self, request: Any) -> Any:
        self.checked.append(request)
        return {"code": "VALID", "sentence": "Yes.", "next_step": "", "key_id": request.id}

    async def find_key(self, value: bytes) -> Any:
        return {"id": "key_a"}

    async def authenticate(self, token: bytes) -> Actor | None:
        return PROGRAM if token == TOKEN.encode() else None

    def local_owner(self) -> Actor:
        return OWNER

    async def verify_journal(self, actor: Actor, witness: str | None = None) -> Any:
        return {"integrity": "ok", "completeness": "ok", "records": 0, "problems": []}

    async def prove_record(self, which: str, *, personal: bool) -> Any:
        return {"format": "valetkey-proof-1", "public_key": "", "records": []}

    async def erase_personal(self, actor: Actor, request: Any) -> Any:
        await self.perform(ask_erasure, request, actor)
        return {"id": "era_a", "party": "ana", "before": None, "erased": 0}

    async def examine(self) -> Any:
        return {
            "items": [],
            "severity": "ok",
            "server": "running",
            "looked_at": [],
            "not_seen": [],
            "next": None,
        }

    async def events(self, **wanted: Any) -> Any:
        self.listed.append(wanted)
        return {"items": [], "next": None}

    async def follow(self, **wanted: Any) -> AsyncIterator[Any]:
        self.listed.append(wanted)
        return self._followed()

    async def _followed(self) -> AsyncIterator[Any]:
        try:
            for event in self.stream:
                if isinstance(event, Exception):
                    raise event
                yield event
            if not self.stream_ends:
                await asyncio.Event().wait()
        finally:
            self.stream_closed = True

    async def usage(self, key: str | None = None, hours: int = 24) -> Any:
        return {"items": [], "next": None}

    async def audit_list(self, limit: int = 50, cursor: str | None = None) -> Any:
        return {"items": [], "next": None}

    def status(self) -> Any:
        missing = [] if self.ready else ["clock behind"]
        return {
            "version": "0", "home": "/srv/keys", "ready": self.ready, "missing": [f"{one}: 61 s" for one in missing],
            "not_ready": missing, "workers": [], "gateway_port": 8300, "control_port": 8200,
        }  # fmt: skip


class State(msgspec.Struct):
    """All that the door looks at in an answer."""

    state: str


class FrameDesk(FakeDesk):
    """The same over the real frame and a real store."""

    def __init__(self, frame: Frame) -> None:
        super().__init__(workspace=frame.workspace)
        self.frame = frame

    async def perform(
        self,
        operation: Operation[Any, Any],
        request: Any,
        actor: Actor,
        *,
        let_finish: bool = False,
        replay_token: str | None = None,
    ) -> Any:
        environment = getattr(request, "environment", "production")
        done = await asyncio.to_thread(self.frame.perform, operation, request, actor, environment)
        return SimpleNamespace(answer=done.answer, acknowledged=0, fenced=0, cut=0)

    async def read(self, query: Callable[[Connection], Any]) -> Any:
        def run() -> Any:
            with self.frame.store.read() as connection:
                return query(connection)

        return await asyncio.to_thread(run)

    async def find_key(self, value: bytes) -> Any:
        def find(connection: Connection) -> Any:
            index = self.frame.keyring.key(connection, INDEX)
            return find_key(connection, self.workspace, index, value, WALL)

        return await self.read(find)

    async def authenticate(self, token: bytes) -> Actor | None:
        def find(connection: Connection) -> Actor | None:
            index = self.frame.keyring.key(connection, INDEX)
            return actor_of_token(connection, self.workspace, index, token)

        found = await self.read(find)
        return found if isinstance(found, Actor) else None


def open_frame(folder: Path) -> Frame:
    """A fresh home's store and vault, as `serve` makes them."""
    (folder / "keys").mkdir(mode=0o700)
    root = FileRootKey(folder / "keys" / "root.key", folder / "home").create()
    store = Store.open(sqlite_url(folder / "valetkey.db"))
    with store.write() as connection:
        keyring = Keyring.create(connection, "wsp_test", "default", root, WALL, os.urandom)
        connection.execute(
            insert(tables.environments).values(id="env_test", workspace_id="wsp_test", name="production")
        )
    return Frame(store, keyring, lambda: WALL, os.urandom, "wsp_test")


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes
    ended: bool
    """Whether the answer came to its proper end."""

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@dataclass
class Caller:
    """Speaks ASGI to an application, with nothing between that would correct what is sent."""

    application: Any
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def remote(cls, desk: FakeDesk) -> Caller:
        return cls(
            build_api(desk, local=False, wall=lambda: WALL),
            (("host", "localhost:8200"), ("authorization", f"Bearer {TOKEN}")),
        )

    @classmethod
    def local(cls, desk: FakeDesk) -> Caller:
        return cls(build_api(desk, local=True, wall=lambda: WALL))

    def with_headers(self, *headers: tuple[str, str]) -> Caller:
        """The same caller with exactly these headers."""
        return Caller(self.application, headers)

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | Iterable[bytes] | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        leaves: bool = False,
        raw_path: str | None = None,
    ) -> Answer:
        """One exchange. `body` is sent as JSON, `raw` as it is, in several pieces if it is several."""
        pieces = [msgspec.json.encode(body)] if body is not None else []
        if raw is not None:
            pieces = [raw] if isinstance(raw, bytes) else list(raw)
        return asyncio.run(self._exchange(method, path, pieces, headers, leaves, raw_path))

    async def _exchange(
        self,
        method: str,
        path: str,
        pieces: list[bytes],
        headers: tuple[tuple[str, str], ...],
        leaves: bool,
        raw_path: str | None,
    ) -> Answer:
        plain, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": plain,
            "raw_path": (plain if raw_path is None else raw_path).encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(n.encode("latin-1"), v.encode("latin-1")) for n, v in (*self.headers, *headers)],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8200),
        }
        waiting = list(pieces) or [b""]
        sent: list[Any] = []
        something, over = asyncio.Event(), asyncio.Event()

        async def receive() -> Any:
            if waiting:
                piece = waiting.pop(0)
                return {"type": "http.request", "body": piece, "more_body": bool(waiting)}
            if leaves:
                await something.wait()
                return {"type": "http.disconnect"}
            # As servers do: nothing more is heard until the answer is out.
            await over.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)
            if message["type"] == "http.response.body" and message.get("body"):
                something.set()
            if message["type"] == "http.response.body" and not message.get("more_body"):
                over.set()

        with suppress(RuntimeError):
            await asyncio.wait_for(self.application(scope, receive, send), 20)
        start = sent[0]
        assert start["type"] == "http.response.start"
        body = b"".join(m.get("body", b"") for m in sent[1:])
        return Answer(
            start["status"], {n.decode(): v.decode() for n, v in start["headers"]}, body, over.is_set()
        )
