"""Where the time of a call goes: the worker's own objects in this process, each stage's time taken from inside.

Sums of stages are pure work. What a worker spends beyond them under load is the listener and the loop.
"""

from __future__ import annotations

import asyncio
import cProfile
import functools
import io
import pstats
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from unittest.mock import patch

import uvloop

import valetkey.gateway.app as app
import valetkey.gateway.exchange as exchange
import valetkey.gateway.node as nodes
import valetkey.gateway.verify as verifying
from benchmarks.finding import Finding
from benchmarks.home import API, OWN, Loaded
from benchmarks.product import ASKED
from valetkey.gateway.app import Gateway
from valetkey.gateway.counters_keeping import KeptCounters
from valetkey.gateway.credentials import Intake
from valetkey.gateway.index import KeyIndex
from valetkey.gateway.node import Node
from valetkey.journal.chain import SegmentName
from valetkey.journal.randomness import RandomPool
from valetkey.journal.segment import SegmentWriter
from valetkey.server.facts import FactLoader
from valetkey.server.home import Home
from valetkey.server.opening import open_home
from valetkey.services.dialling import OwnListeners
from valetkey.settings import Settings
from valetkey.vault.keyring import INDEX
from valetkey.wire.http1_request import Http1Request

COUNTED: list[tuple[Any, str, str]] = [
    (Gateway, "_find_address", "caller's address"),
    (Intake, "take", "credential taken out"),
    (app, "judge_path", "path judged"),
    (verifying, "judge_path", "path judged"),
    (app, "fingerprint", "fingerprint of the key"),
    (verifying, "fingerprint", "fingerprint of the key"),
    (verifying, "_decode", "question parsed"),
    (verifying, "_encode", "answer written"),
    (nodes, "decide", "decide"),
    (KeptCounters, "reserve", "limits reserved"),
    (KeptCounters, "settle", "limits settled"),
    (Gateway, "_opened", "record made"),
    (SegmentWriter, "append_all", "journal"),
    (Intake, "put_in", "real key put in"),
    (exchange, "sieve", "answer's headers sieved"),
    (exchange, "scrub_bytes", "answer scrubbed"),
]

WARM = 200
"""Calls before those that are counted."""
BATCHES = 20
"""The best of so many counts: what is asked is the work itself, not what else the machine did."""


class StageTimer:
    """Time inside each stage, without what stages inside it take.

    Every single time is kept and the median is what counts: a mean would hold what other processes took.
    """

    def __init__(self) -> None:
        self._taken: dict[str, list[int]] = {}
        self._inner = [0]

    def micros(self, calls: int) -> dict[str, float]:
        """Stage -> microseconds a call."""
        return {
            label: median(taken) * len(taken) / calls / 1000 for label, taken in self._taken.items() if taken
        }

    def wrap(self, work: Callable[..., Any], label: str) -> Callable[..., Any]:
        """The same, timed."""
        clock, inner = time.perf_counter_ns, self._inner
        note = self._taken.setdefault(label, []).append

        @functools.wraps(work, updated=())
        def timed(*args: Any, **named: Any) -> Any:
            inner.append(0)
            began = clock()
            try:
                return work(*args, **named)
            finally:
                taken = clock() - began
                note(taken - inner.pop())
                inner[-1] += taken

        return timed

    def patches(self) -> list[AbstractContextManager[Any]]:
        """All stages, to be entered."""
        return [
            patch.object(owner, name, self.wrap(getattr(owner, name), label))
            for owner, name, label in COUNTED
        ]


def profile(loaded: Loaded, place: Path, upstream: int, before: list[Finding], *, quick: bool) -> Finding:
    """Stages of a gateway call and of a verify, and the functions that take most."""
    finding = Finding("profile", "Where the time of a call goes (in one process, without the listener)")
    calls = 2000 if quick else 20_000
    node, gateway = _build(loaded, place)
    for name, asked in {"gateway GET": _get(loaded), "verify": _verify(loaded)}.items():
        plain = uvloop.run(_drive(gateway, asked, calls))
        _close_pools(node)
        timer = StageTimer()
        with ExitStack() as stack:
            for made in timer.patches():
                stack.enter_context(made)
            uvloop.run(_drive(gateway, asked, calls))
        _close_pools(node)
        finding.lines += [
            f"{name}: {plain:.1f} µs of processor time a call",
            *_table(timer, calls + WARM, plain),
            "",
        ]
    finding.lines += _alone(gateway, node, upstream, calls)
    _close_pools(node)
    for earlier in before:
        for name, line in pairwise(earlier.lines):
            if "processor time a call" in line:
                finding.lines.append(f"under load, {name.partition(':')[0]}: {line.strip()}")
    finding.lines += [
        "",
        "functions of a gateway GET by their own time (cProfile, which slows Python's part):",
    ]
    finding.lines += _functions(gateway, _get(loaded), min(calls, 5000))
    node.journal.close()
    return finding


def _build(loaded: Loaded, place: Path) -> tuple[Node, Gateway]:
    settings = Settings(root_key_file=str(loaded.root_key))
    opened = open_home(Home(loaded.folder), settings)
    index = KeyIndex()
    with opened.store.read() as connection:
        index.index_key = opened.keyring.key(connection, INDEX)
        index.apply(FactLoader(opened.workspace, opened.keyring).all(connection))
    opened.store.close()
    counters = KeptCounters.open(place / "profile-counters", 0, 1)
    counters.enlist(0, 1)
    name = SegmentName(int(time.time() * 1000), "w0", 1)
    journal = SegmentWriter(place / "profile-journal", name, time=time.time(), random=RandomPool())
    node = Node(index=index, counters=counters, journal=journal, settings=settings)
    node.lease_until = 2**62
    node.loaded = True
    return node, Gateway(node, own=OwnListeners(frozenset(), frozenset()))


class Asked(NamedTuple):
    """One request."""

    method: str
    path: bytes
    bearer: bytes
    body: bytes = b""


def _get(loaded: Loaded) -> Asked:
    return Asked("GET", f"/{API}/v1/models".encode(), loaded.keys[API][-1].encode())


def _verify(loaded: Loaded) -> Asked:
    body = ASKED.replace("$KEY", loaded.keys[OWN][-1]).encode()
    return Asked("POST", b"/v1/verify", loaded.credential.encode(), body)


class _Line:
    """A caller's connection that keeps nothing but the first bytes of the answer."""

    peer = "127.0.0.1"
    local: tuple[str, int] | None = None
    paused = False
    date = b"date: Mon, 21 Sep 2026 13:33:20 GMT"

    def __init__(self) -> None:
        self.head = b""
        self.over = asyncio.get_running_loop().create_future()

    def write(self, data: bytes) -> None:
        self.head = self.head or data[:12]

    async def drain(self) -> None:
        """It always takes more."""

    def read_on(self) -> None:
        """It has sent everything."""

    def ended(self, request: Http1Request) -> None:
        self.over.set_result(None)

    def abort(self) -> None:
        self.over.set_result(None)


async def _drive(gateway: Gateway, asked: Asked, calls: int) -> float:
    """Call one after the other; microseconds of this process's time a call, of the best batch."""
    headers = [(b"host", b"127.0.0.1"), (b"authorization", b"Bearer " + asked.bearer)]
    heads: set[bytes] = set()

    async def call() -> None:
        line = _Line()
        request = Http1Request(line, asked.method, asked.path, b"", headers, length=len(asked.body))
        if asked.body:
            request.came(asked.body)
            request.came_whole()
        gateway.handle(request)
        if not line.over.done():
            await line.over
        heads.add(line.head)

    for _ in range(WARM):
        await call()
    taken = []
    for _ in range(BATCHES):
        began = time.process_time()
        for _ in range(calls // BATCHES):
            await call()
        taken.append((time.process_time() - began) / (calls // BATCHES) * 1e6)
    if heads != {b"HTTP/1.1 200"}:
        raise OSError(f"The profile's calls were answered {sorted(heads)}.")
    await _close_clients(gateway)
    return min(taken)


async def _close_clients(gateway: Gateway) -> None:
    for service in gateway._node.index.services.values():
        runtime: Any = service.runtime
        if runtime is not None:
            runtime.upstream.close()


def _close_pools(node: Node) -> None:
    """A pool belongs to the loop it was made on."""
    for service in node.index.services.values():
        service.runtime = None


def _table(timer: StageTimer, calls: int, total: float) -> list[str]:
    rows = sorted(((micros, label) for label, micros in timer.micros(calls).items()), reverse=True)
    rest = total - sum(micros for micros, _ in rows)
    lines = [f"  {micros:7.2f}  {100 * micros / total:5.1f} %  {label}" for micros, label in rows]
    return [
        *lines,
        f"  {rest:7.2f}  {100 * rest / total:5.1f} %  the rest (handler, wire, event loop)",
    ]


def _alone(gateway: Gateway, node: Node, upstream: int, calls: int) -> list[str]:
    """The way upstream by itself: what a forward costs before anything is judged."""

    async def forward() -> float:
        runtime = gateway.runtime(node.index.services[API])
        origin = runtime.service.origin(None)
        headers = [("authorization", "Bearer x")]
        taken = []
        for _ in range(BATCHES):
            began = time.process_time()
            for _ in range(calls // BATCHES):
                answer = await runtime.upstream.send("GET", origin, b"/v1/models", headers)
                while await answer.read():
                    pass
            taken.append((time.process_time() - began) / (calls // BATCHES) * 1e6)
        runtime.upstream.close()
        return min(taken)

    return [
        f"the upstream's side alone (request sent, answer of 11 bytes read): {uvloop.run(forward()):.1f} µs a call"
    ]


def _functions(gateway: Gateway, asked: Asked, calls: int) -> list[str]:
    profiler = cProfile.Profile()
    profiler.enable()
    uvloop.run(_drive(gateway, asked, calls))
    profiler.disable()
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).sort_stats("tottime").print_stats(30)
    # Paths of this machine say nothing to a reader.
    lines = [
        re.sub(r"/\S*/(?=python3|src/|benchmarks/)", "", line)
        for line in text.getvalue().splitlines()
        if line.strip()
    ]
    shown = [line for line in lines if "{" in line or "(" in line or "ncalls" in line]
    return [_short(line) for line in shown[1:]]


def _short(line: str) -> str:
    head, mark, tail = line.rpartition("site-packages/")
    return head[: head.rfind(" ") + 1] + tail if mark else line
