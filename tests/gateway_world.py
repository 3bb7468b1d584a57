"""A gateway without network: a node with real index, counters and journal, a frozen clock, a made-up upstream.

Calls are spoken to it as the listener does, and what it writes is read as a caller would.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import msgspec

from valetkey.decision.call import Now
from valetkey.decision.policy import Policy
from valetkey.gateway.app import Gateway
from valetkey.gateway.counters_keeping import KeptCounters
from valetkey.gateway.facts import (
    CredentialFact,
    Fact,
    KeyFact,
    NetworkFact,
    PartyFact,
    PolicyFact,
    SecretFact,
    SecretVersion,
    ServiceFact,
)
from valetkey.gateway.index import KeyIndex
from valetkey.gateway.node import Node
from valetkey.journal.chain import SegmentName, segment_path
from valetkey.journal.randomness import RandomPool
from valetkey.journal.segment import SegmentWriter
from valetkey.keys.format import generate
from valetkey.keys.kinds import CredentialKind, KeyKind
from valetkey.services.dialling import OwnListeners
from valetkey.services.origin import Origin
from valetkey.services.placement import Bearer
from valetkey.services.service import Kind, Service
from valetkey.settings import Settings
from valetkey.vault.fingerprint import fingerprint
from valetkey.wire.http1_request import Http1Request
from valetkey.wire.request import Request
from valetkey.wire.upstream import Answer, UpstreamConnection

WALL = 1_790_000_000.0
"""A Monday in September, 13:33 UTC."""
INDEX_KEY = b"i" * 32
REAL_KEY = "real-key-" + "R" * 24


class FrozenClock:
    """Stands still until it is moved."""

    def __init__(self, wall: float = WALL) -> None:
        self.wall = wall
        self.monotonic = 10**15

    def now(self) -> Now:
        return Now(self.wall, self.monotonic)

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += round(seconds * 1e9)


class MadeUpUpstream:
    """Answers every call with three letters, or not at all."""

    def __init__(self, service: Service, own: OwnListeners, *, connect_timeout: float) -> None:
        self.sent: list[tuple[str, str]] = []
        self.fails: Exception | None = None
        self.waits: asyncio.Event | None = None
        self.comes_slowly = False
        """Whether the body comes after the head and not with it."""

    async def send(
        self,
        method: str,
        origin: Origin,
        target: bytes,
        headers: Any,
        body: Any = None,
        length: int | None = 0,
    ) -> Any:
        self.sent.append((method, f"{origin.scheme}://{origin.authority}{target.decode()}"))
        if self.waits is not None:
            await self.waits.wait()
        if self.fails is not None:
            raise self.fails
        if body is not None and not isinstance(body, bytes):
            async for _ in body:
                pass

        def come() -> None:
            answer.came(b"yes")
            answer.ended()

        answer = Answer(cast("UpstreamConnection", SimpleNamespace(resume=lambda: None, abort=lambda: None)))
        answer.began(200, [], None, None)
        if self.comes_slowly:
            asyncio.get_running_loop().call_later(0.001, come)
        else:
            come()
        return answer

    def close(self) -> None:
        """Nothing is held."""


class Answered(msgspec.Struct):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def code(self) -> str:
        """The code of a refusal, or VALID for what came from the upstream."""
        return self.headers.get("x-valetkey-code", "VALID")


class MadeUpLine:
    """Stands for a caller's connection: keeps what is written until the answer is whole or it is reset."""

    def __init__(self, peer: str = "127.0.0.1", listener: str = "127.0.0.1:8300") -> None:
        self.peer = peer
        address, _, port = listener.rpartition(":")
        self.local = (address, int(port))
        self.paused = False
        self.written = b""
        self.over = asyncio.Event()
        self.was_reset = False

    @property
    def date(self) -> bytes:
        return b"date: Mon, 21 Sep 2026 13:33:20 GMT"

    def write(self, data: bytes) -> None:
        self.written += data

    async def drain(self) -> None:
        assert not self.paused

    def read_on(self) -> None:
        """Everything is here already."""

    def ended(self, request: Request) -> None:
        self.over.set()

    def abort(self) -> None:
        self.was_reset = True
        self.over.set()

    def answered(self, method: str = "GET") -> Answered:
        """The answer, read by the standard library's client."""
        answer = HTTPResponse(FakeSocket(self.written), method=method)  # type: ignore[arg-type]
        answer.begin()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return Answered(answer.status, headers, answer.read())


class FakeSocket:
    """What `HTTPResponse` wants of a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> BytesIO:
        return BytesIO(self._data)


class MadeKey(msgspec.Struct):
    """A key that the world knows."""

    id: str
    value: str
    fact: KeyFact


class GatewayWorld:
    """Everything around one gateway."""

    def __init__(self, folder: Path, index: KeyIndex | None = None, **settings: Any) -> None:
        self.clock = FrozenClock()
        boot = KeptCounters.open(folder / "counters")
        self.generation = boot.next_generation(0)
        boot.enlist(0, self.generation)
        self.peeking = boot
        self.counters = KeptCounters.open(folder / "counters", 0, self.generation)
        self.name = SegmentName(int(WALL * 1000), "w0", self.generation)
        self.folder = folder / "journal"
        self.journal = SegmentWriter(self.folder, self.name, time=WALL, random=RandomPool())
        self.index = index or KeyIndex()
        self.index.index_key = self.index.index_key or INDEX_KEY
        self.node = Node(
            index=self.index,
            counters=self.counters,
            journal=self.journal,
            settings=Settings(**settings),
            boottime=lambda: 0,
            clock=self.clock,
        )
        self.node.loaded = True
        self.node.lease_until = 1
        self.loop = asyncio.new_event_loop()
        own = OwnListeners(frozenset((8200, 8300)), frozenset(("127.0.0.1",)))
        self.gateway = Gateway(self.node, own=own)
        self._numbers = itertools.count(1)

    def close(self) -> None:
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()
        if not self.journal.failed:
            self.journal.close()
        self.counters.close()
        self.peeking.close()

    # -- facts

    def apply(self, *facts: Fact) -> list[str]:
        return self.index.apply(facts)

    def add_service(
        self, name: str = "weather", *, secret: bool = True, locked: bool = False, **more: Any
    ) -> str:
        service_id = f"svc_{name}"
        self.apply(ServiceFact(service_id, upstream_service(name, **more), locked))
        if secret:
            self.apply(secret_of(service_id))
        return service_id

    def add_own_service(self, name: str = "shop", **more: Any) -> str:
        """An own service; return the credential it asks with."""
        self.apply(ServiceFact(f"svc_{name}", Service(name=name, kind=Kind.OWN, **more)))
        credential = generate("vk", CredentialKind.SERVICE, os.urandom).reveal_text()
        self.apply(CredentialFact(f"crd_{name}", self.fingerprint(credential), f"svc_{name}"))
        return credential

    def add_party(self, name: str = "ana", *, removed: bool = False) -> None:
        self.apply(PartyFact(f"pty_{name}", name, removed))

    def add_network(self, name: str, *blocks: str) -> None:
        self.apply(NetworkFact(name, blocks))

    def add_key(
        self,
        policy: Policy | None = None,
        *,
        service: str = "weather",
        holder: str = "ana",
        state: str = "active",
        expires: float | None = None,
        parent: MadeKey | None = None,
    ) -> MadeKey:
        number = next(self._numbers)
        if f"pty_{holder}" not in self.index.parties:
            self.add_party(holder)
        document = msgspec.json.encode(policy or Policy()).decode()
        value = generate("vk", KeyKind.PRIVATE, os.urandom).reveal_text()
        fact = KeyFact(
            f"key_{number}", self.fingerprint(value), "private", f"svc_{service}", "env_1", f"pty_{holder}",
            f"pol_{number}", "default", state, expires, number, None if parent is None else parent.id,
        )  # fmt: skip
        self.apply(PolicyFact(fact.policy_id, document), fact)
        return MadeKey(fact.id, value, fact)

    def change_key(self, key: MadeKey, **changes: Any) -> list[str]:
        key.fact = msgspec.structs.replace(key.fact, **changes)
        return self.apply(key.fact)

    def fingerprint(self, value: str) -> bytes:
        return fingerprint(value.encode(), self.index.index_key)

    # -- calls

    def call(
        self, key: MadeKey | str | None = None, path: str | bytes = "/weather/now", **more: Any
    ) -> Answered:
        """One call to the gateway, from its first byte to the last of the answer."""
        return self.loop.run_until_complete(self.exchange(key, path, **more))

    def ask(self, credential: str, **question: Any) -> Answered:
        """One question to verify. A key of the world may be given as it is."""
        body = msgspec.json.encode({"path": "/now", "method": "GET", **question})
        return self.call(credential, "/v1/verify", method="POST", body=body)

    async def exchange(
        self,
        key: MadeKey | str | None = None,
        path: str | bytes = "/weather/now",
        *,
        method: str = "GET",
        address: str = "127.0.0.1",
        listener: str = "127.0.0.1:8300",
        origin: str | None = None,
        headers: list[tuple[str, str]] | None = None,
        host: str | None = "localhost:8300",
        body: bytes = b"",
    ) -> Answered:
        line = MadeUpLine(address, listener)
        request = self.request(
            line, key, path, method=method, origin=origin, headers=headers, host=host, length=len(body)
        )
        if body:
            request.came(body)
            request.came_whole()
        self.gateway.handle(request)
        await line.over.wait()
        return line.answered(method)

    def request(
        self, line: MadeUpLine, key: MadeKey | str | None, path: str | bytes, *, method: str = "GET",
        origin: str | None = None, headers: list[tuple[str, str]] | None = None,
        host: str | None = "localhost:8300", length: int = 0,
    ) -> Request:  # fmt: skip
        """A request whose head is there."""
        raw, _, query = (path.encode() if isinstance(path, str) else path).partition(b"?")
        lines = [] if host is None else [("host", host)]
        if key is not None:
            lines.append(("authorization", f"Bearer {key.value if isinstance(key, MadeKey) else key}"))
        if origin is not None:
            lines.append(("origin", origin))
        if length:
            lines.append(("content-length", str(length)))
        lines += headers or []
        length = next((int(value) for name, value in lines if name == "content-length"), 0)
        pairs = [(name.encode(), value.encode("latin-1")) for name, value in lines]
        return Http1Request(line, method, raw, query, pairs, length=length)

    def sweep(self, *, closing: bool = False) -> None:
        """What the worker does about strangers that were counted, now and then and at its end."""

        async def sweep() -> None:
            self.gateway.floods.close() if closing else self.gateway.floods.sweep(self.clock.now())
            self.node.turn.flush()

        self.loop.run_until_complete(sweep())

    def upstream(self, service: str = "weather") -> MadeUpUpstream:
        """What stands in for the service's upstream now."""

        async def find() -> Any:
            return self.gateway.runtime(self.index.services[service]).upstream

        return self.loop.run_until_complete(find())  # type: ignore[no-any-return]

    # -- the record

    def records(self) -> list[dict[str, Any]]:
        """All records but the segment's first."""
        lines = segment_path(self.folder, self.name).read_bytes().splitlines()[1:]
        return [msgspec.json.decode(line.rpartition(b" ")[0]) for line in lines]

    def last_records(self, number: int) -> list[dict[str, Any]]:
        """The last few, without reading all that came before."""
        with segment_path(self.folder, self.name).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096 * number))
            lines = file.read().splitlines()[-number:]
        return [msgspec.json.decode(line.rpartition(b" ")[0]) for line in lines]


def upstream_service(name: str = "weather", **more: Any) -> Service:
    settings: dict[str, Any] = {
        "hosts": {"api": Origin.parse("https://api.example.com")}, "placement": Bearer(), "accepts": (Bearer(),)
    }  # fmt: skip
    return Service(name=name, **(settings | more))


def secret_of(service_id: str, value: str = REAL_KEY, expires: float | None = None) -> SecretFact:
    version = SecretVersion(f"ver_{service_id}", {"key": value}, expires)
    return SecretFact(service_id, "env_1", "default", (version,))


@contextmanager
def gateway_world(folder: Path, index: KeyIndex | None = None, **settings: Any) -> Iterator[GatewayWorld]:
    """A world that is cleared away afterwards."""
    with mock.patch("valetkey.gateway.runtime.Upstream", MadeUpUpstream):
        world = GatewayWorld(folder, index, **settings)
        try:
            yield world
        finally:
            world.close()
