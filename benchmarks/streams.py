"""Event streams: thousands open at once, what the gateway adds to each event; and a key with many of them revoked."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.finding import Finding, Ratio, at, figure
from benchmarks.home import API, Loaded
from benchmarks.machine import Memory, memory
from benchmarks.processes import BenchmarkFailed, Processes
from benchmarks.product import Product, ask, serving
from benchmarks.victims import Stream

EVERY = 1.0
"""Seconds between two events of a stream; the streams' beats are spread over it."""
ONE_KEY = 200
"""Streams of one key when it is revoked."""


@dataclass(frozen=True)
class Heard:
    """What one run of listeners found."""

    delays: list[float]
    """Milliseconds from an event's making to its arrival, sorted."""
    memory: Memory | None
    """Of the worker, while all streams are open."""


def streams(
    processes: Processes, loaded: Loaded, place: Path, ticker: int, *, count: int, seconds: int, rounds: int
) -> Finding:
    """`count` streams open for `seconds`, straight from the upstream and through the gateway, in turn."""
    finding = Finding("streams", f"{count:,} event streams at once, an event each a second, one worker")
    direct: list[float] = []
    ours: list[float] = []
    with serving(processes, loaded) as product:
        worker = product.workers()[0]
        _listen(place, ticker, "/", ["-"], 50, 2)
        _listen(place, product.gateway, f"/{API}:slow/v1/events", loaded.keys[API][:50], 50, 2)
        before = memory(worker)
        held = before
        for _ in range(rounds):
            direct += _listen(place, ticker, "/", ["-"], count, seconds).delays
            heard = _listen(
                place,
                product.gateway,
                f"/{API}:slow/v1/events",
                loaded.keys[API][:100],
                count,
                seconds,
                worker,
            )
            ours += heard.delays
            assert heard.memory is not None
            held = heard.memory
    direct.sort()
    ours.sort()
    each = (held.resident - before.resident) / count
    finding.ratios.append(Ratio("p99 added to an event", at(ours, 0.99) - at(direct, 0.99), 5, True, " ms"))
    for name, delays in (("direct", direct), ("valetkey gateway", ours)):
        finding.lines.append(
            f"{name}: from made to arrived p50 {figure(at(delays, 0.5))}, p99 {figure(at(delays, 0.99))}, "
            f"longest {figure(delays[-1])} ms over {len(delays):,} events"
        )
    finding.lines.append(
        f"memory of the worker for a stream: {figure(each / 1024)} KiB "
        f"({figure(before.resident / 2**20)} MiB before, {figure(held.resident / 2**20)} MiB with all)"
    )
    finding.curves = {"direct": direct, "valetkey gateway": ours}
    return finding


def _listen(
    place: Path, port: int, path: str, keys: list[str], count: int, seconds: int, worker: int | None = None
) -> Heard:
    """Listeners in a process of their own, so that they share no loop with what is measured."""
    told = place / "listen.json"
    told.write_text(
        json.dumps({"port": port, "path": path, "keys": keys, "count": count, "seconds": seconds})
    )
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.listeners", str(told)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        opened = process.stdout.readline()
        if json.loads(opened or "0") != count:
            raise BenchmarkFailed(f"Of {count} streams these were opened: {opened!r}.")
        time.sleep(seconds / 2)
        held = None if worker is None else memory(worker)
        delays = json.loads(process.stdout.readline())
    return Heard(delays, held)


def revoke_of_many(processes: Processes, loaded: Loaded, *, count: int) -> Finding:
    """Revoke keys one after the other, each with many open streams; two workers."""
    finding = Finding("cut", f"Revoke of a key with {ONE_KEY} open streams, {count} times, 2 workers")
    taken: list[float] = []
    late = 0
    with serving(processes, loaded, workers=2) as product:
        for key, key_id in zip(loaded.keys[API][-count:], loaded.ids[API][-count:], strict=True):
            milliseconds, after = asyncio.run(_revoke_one(product, key, key_id))
            taken.append(milliseconds)
            late += after
    taken.sort()
    finding.ratios += [
        Ratio(f"p99 of a revoke that cuts {ONE_KEY} streams", at(taken, 0.99), 100, True, " ms"),
        Ratio("events made after it returned and received", late, 0, True),
    ]
    finding.lines.append(
        f"revoke returned after p50 {figure(at(taken, 0.5))}, p99 {figure(at(taken, 0.99))}, "
        f"longest {figure(taken[-1])} ms; {count * ONE_KEY:,} streams cut, an event each every 5 ms"
    )
    finding.curves = {"revoke": taken}
    return finding


async def _revoke_one(product: Product, key: str, key_id: str) -> tuple[float, int]:
    found = [Stream(product.gateway, f"/{API}:stream/v1/events", key) for _ in range(ONE_KEY)]
    await asyncio.gather(*(stream.open() for stream in found))
    listening = [asyncio.create_task(stream.listen()) for stream in found]

    def revoke() -> tuple[float, float, int]:
        connection = product.connect()
        began = time.perf_counter()
        answer = ask(connection, "POST", f"/keys/{key_id}/revoke", {})
        spent = (time.perf_counter() - began) * 1000
        connection.close()
        return spent, time.time(), int(answer["cut"])

    with ThreadPoolExecutor(1) as hand:
        milliseconds, returned, cut = await asyncio.get_running_loop().run_in_executor(hand, revoke)
    if cut != ONE_KEY:
        raise BenchmarkFailed(f"A revoke cut {cut} streams of {ONE_KEY}.")
    async with asyncio.timeout(20):
        await asyncio.gather(*listening)
    return milliseconds, sum(made > returned for stream in found for made, _ in stream.events)
