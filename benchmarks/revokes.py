"""Revokes under load with two workers: how long until one returns, and that nothing passes once it has.

Counted twice: by the callers (calls sent after the return and answered; events made after it and received) and
from the journal (calls opened VALID after it).
"""

from __future__ import annotations

import asyncio
import http.client
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks import journal
from benchmarks.finding import Finding, Ratio, at, figure
from benchmarks.home import API, Loaded
from benchmarks.load import Question, write_script
from benchmarks.processes import BenchmarkFailed, Processes
from benchmarks.product import Product, ask, serving
from benchmarks.rounds import Settings
from benchmarks.victims import Victim

WORKERS = 2
AHEAD = 20
"""Callers that are busy at any time beside the one whose key goes."""
LOAD_CONNECTIONS = 16
LINGER = 0.05
"""Seconds that a caller goes on after its key's revoke returned: time enough for a late acceptance."""


@dataclass(frozen=True)
class Revoked:
    """One revoke."""

    key_id: str
    victim: Victim
    milliseconds: float
    returned: float
    """Wall clock."""
    cut: int


def revokes(
    processes: Processes, loaded: Loaded, place: Path, settings: Settings, *, count: int, most: float
) -> Finding:
    """Take `count` keys back, one after the other, while wrk and their own callers use the gateway.

    After `most` seconds no further one is begun.
    """
    finding = Finding("revoke", f"{count:,} revokes under load, {WORKERS} workers")
    folder = loaded.folder / "journal"
    with serving(processes, loaded, workers=WORKERS) as product:
        before = journal.sizes(folder)
        script = write_script(
            place / "load.lua",
            Question("GET", f"/{API}/v1/models", {"Authorization": "Bearer $KEY"}),
            loaded.keys[API][count:],
        )
        with (place / "wrk.txt").open("wb") as said:
            load = subprocess.Popen(
                ["wrk", "-t1", f"-c{LOAD_CONNECTIONS}", "-d600s", "--timeout", "10s", "-s", str(script),
                 f"http://127.0.0.1:{product.gateway}"],
                stdout=said, stderr=said,
            )  # fmt: skip
        try:
            began = time.monotonic()
            done = asyncio.run(_revoke_all(product, loaded, count, most))
            lasted = time.monotonic() - began
        finally:
            load.terminate()
            load.wait(10)
        finding.lines.append(_journal_lines(finding, folder, before, done, lasted))
    if len(done) < count:
        finding.lines.insert(0, f"only {len(done):,} revokes were made within {figure(most)} s")
    _count(finding, done)
    return finding


async def _revoke_all(product: Product, loaded: Loaded, count: int, most: float) -> list[Revoked]:
    loop = asyncio.get_running_loop()
    ready: asyncio.Queue[tuple[str, Victim]] = asyncio.Queue()
    room = asyncio.Semaphore(AHEAD)
    done: list[Revoked] = []
    ending: list[asyncio.Task[None]] = []

    async def prepare() -> None:
        for key, key_id in zip(loaded.keys[API][:count], loaded.ids[API][:count], strict=True):
            await room.acquire()
            victim = Victim(product.gateway, API, key)
            victim.start()
            await ready.put((key_id, victim))

    preparing = asyncio.create_task(prepare())
    connection = product.connect()
    with ThreadPoolExecutor(1) as hand:
        deadline = time.monotonic() + most
        while len(done) < count and time.monotonic() < deadline:
            key_id, victim = await ready.get()
            async with asyncio.timeout(30):
                await victim.flowing.wait()
            revoked = await loop.run_in_executor(hand, _revoke, connection, key_id, victim)
            done.append(revoked)
            ending.append(asyncio.create_task(_finish(victim, room)))
        preparing.cancel()
        while not ready.empty():
            _, victim = ready.get_nowait()
            ending.append(asyncio.create_task(victim.stop()))
        await asyncio.gather(*ending)
    connection.close()
    return done


def _revoke(connection: http.client.HTTPConnection, key_id: str, victim: Victim) -> Revoked:
    began = time.perf_counter()
    answer = ask(connection, "POST", f"/keys/{key_id}/revoke", {})
    returned = time.time()
    taken = (time.perf_counter() - began) * 1000
    if answer["fenced"] or answer["acknowledged"] != WORKERS:
        raise BenchmarkFailed(f"A revoke was not acknowledged by all workers: {answer}.")
    return Revoked(key_id, victim, taken, returned, int(answer["cut"]))


async def _finish(victim: Victim, room: asyncio.Semaphore) -> None:
    await asyncio.sleep(LINGER)
    await victim.stop()
    room.release()


def _count(finding: Finding, done: list[Revoked]) -> None:
    taken = sorted(revoked.milliseconds for revoked in done)
    sent_after = sum(sent > r.returned for r in done for sent in r.victim.accepted)
    made_after = sum(made > r.returned for r in done for made, _ in r.victim.events)
    arrived_after = sum(arrived > r.returned for r in done for _, arrived in r.victim.events)
    still_open = sum(r.victim.stream_ended is None for r in done)
    ended = sorted(
        (r.victim.stream_ended - r.returned) * 1000 for r in done if r.victim.stream_ended is not None
    )
    finding.curves = {"revoke": taken}
    finding.ratios += [
        Ratio("p99 of a revoke", at(taken, 0.99), 50, True, " ms"),
        Ratio("calls sent after a revoke returned and answered by the service", sent_after, 0, True),
        Ratio("events made after a revoke returned and received", made_after, 0, True),
    ]
    finding.lines += [
        f"revoke returned after p50 {figure(at(taken, 0.5))}, p99 {figure(at(taken, 0.99))}, "
        f"longest {figure(taken[-1])} ms; {sum(r.cut for r in done):,} exchanges cut",
        f"callers: {sum(len(r.victim.accepted) for r in done):,} calls answered before, "
        f"{sum(len(r.victim.refused) for r in done):,} refused after; "
        f"{sum(len(r.victim.events) for r in done):,} events received, {arrived_after} of them after the return",
        f"streams still open at the end: {still_open}; callers saw their stream's end p50 "
        f"{figure(at(ended, 0.5)) if ended else '-'}, latest {figure(ended[-1]) if ended else '-'} ms after the return",
    ]


def _journal_lines(
    finding: Finding, folder: Path, before: dict[str, int], done: list[Revoked], lasted: float
) -> str:
    returned = {revoked.key_id: revoked.returned for revoked in done}
    accepted = late = 0
    for record in journal.opened_since(folder, before):
        if record.code == "VALID":
            accepted += 1
            if record.key_id in returned and record.time > returned[record.key_id]:
                late += 1
    finding.ratios.append(Ratio("calls opened VALID after a revoke returned (journal)", late, 0, True))
    return (
        f"load: {accepted:,} calls accepted in {figure(lasted)} s ({figure(accepted / lasted)} a second, wrk with "
        f"{LOAD_CONNECTIONS} connections as fast as it is answered); {AHEAD} callers with an open stream each"
    )
