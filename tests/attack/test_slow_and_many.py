"""Callers that are slow, silent or very many: whoever behaves is served meanwhile, and the record stays small."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from attack.manners import BUSY, PATIENT, Crowd, crowd_in
from attack.target import Target, request, target_of
from long_results import Results
from plain_calls import ask
from process_tree import resident_bytes
from running_server import RunningServer, ValetKey, eventually
from valetkey.gateway.floods import KEYED_A_MINUTE

pytestmark = pytest.mark.real

PATIENCE = 25.0
"""The server's timers are ten seconds; a busy machine may take some more."""
HERE = Path(__file__).resolve().parent


@contextmanager
def besieged(target: Target, foe: ValetKey, seconds: float, patient: int, busy: int) -> Iterator[list[Any]]:
    """In a process of their own; what they saw is there when they have gone home."""
    arguments = [target.server.gateway_port, target.service, foe.value, seconds, patient, busy]
    crowd = subprocess.Popen(
        [sys.executable, __file__, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
        stdout=subprocess.PIPE,
    )
    found: list[Any] = []
    try:
        yield found
        said, _ = crowd.communicate(timeout=seconds + 60)
        assert crowd.returncode == 0
        found += json.loads(said)
    finally:
        crowd.kill()
        crowd.wait()


def journal_bytes(server: RunningServer) -> int:
    return sum(file.stat().st_size for file in (server.home / "journal").iterdir())


def calls_of(target: Target, seconds: float, pause: float) -> list[float]:
    """Calls of somebody who behaves, on a kept connection and on new ones in turn; how long each took."""
    took = []
    kept = target.server.connect("127.0.0.1")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for connection in (kept, target.server.connect("127.0.0.1")):
            begun = time.monotonic()
            answer = ask(connection, "GET", f"/{target.service}/a", target.key)
            took.append(time.monotonic() - begun)
            assert answer.body == b"ok", answer
            if connection is not kept:
                connection.close()
            time.sleep(pause)
    kept.close()
    return took


def bear_with(
    seconds: float, patient: int, busy: int, pause: float
) -> tuple[list[float], list[float], dict[str, Any]]:
    """Latencies without and with a crowd, and what became of it."""
    with RunningServer(settings={"body_timeout": 5}) as server, target_of(server) as target:
        foe = server.issue(target.service)
        alone = calls_of(target, seconds / 5, pause)
        (worker,) = server.worker_pids()
        memory, journal, known = resident_bytes(worker), journal_bytes(server), len(target.accepted())
        with besieged(target, foe, seconds, patient, busy) as found:
            time.sleep(0.5)
            among = calls_of(target, seconds - 1, pause)
        longest, seen = found
        assert server.worker_pids() == [worker], "no worker died"
        # Who dripped was hung up on, each within its timer.
        assert longest.keys() == {
            "silent", "slow head", "slow fields", "slow empty lines", "slow second head", "slow body", "slow chunks",
            "slow body of a refused call",
        }  # fmt: skip
        assert all(held < PATIENCE for held in longest.values()), longest
        refused = seen["unknown key"] + seen["no form"] + seen["header flood"] + 500 * seen["far ahead"]
        calls = len(target.accepted()) - known
        written = journal_bytes(server) - journal
        # A call of who behaves takes about a kilobyte; of strangers some hundreds a minute stand there.
        assert written < 2_500 * (calls + 200) + (seconds / 60 + 2) * 1_600_000, (written, calls)
        assert refused > 100
        grown = resident_bytes(worker) - memory
        assert grown < 80_000_000
        eventually(
            lambda: sum(e["count"] for e in server.events(since="1h") if e["code"] == "UNKNOWN_KEY") > 0
        )
        report = server.manage("POST", "/audit/verify")
        assert (report["integrity"], report["problems"]) == ("ok", [])
        facts = {"seen": seen, "longest": longest, "written": written, "grown": grown}
        return sorted(alone), sorted(among), facts


def test_whoever_behaves_is_served_among_the_slow_and_the_many() -> None:
    _, among, _ = bear_with(4, patient=15, busy=2, pause=0.02)
    assert len(among) > 50


@pytest.mark.long
@pytest.mark.timeout(600)
def test_whoever_behaves_hardly_waits_among_hundreds_who_do_not(results: Results) -> None:
    alone, among, facts = bear_with(60, patient=60, busy=4, pause=0.01)

    def at(took: list[float], part: float) -> float:
        return 1000 * took[int(len(took) * part)]

    assert at(among, 0.99) < 50
    seen = ", ".join(f"{count:,} {name}" for name, count in sorted(facts["seen"].items()))
    results.note(
        f"{len(PATIENT) * 60} slow or silent callers, {len(BUSY) * 4} busy ones, 60 s ({seen}); the longest was "
        f"borne for {max(facts['longest'].values()):.1f} s; {len(among):,} calls of one who behaves, half on new "
        f"connections, none failed: p50 {at(among, 0.5):.1f}, p99 {at(among, 0.99):.1f}, max {at(among, 0.9999):.0f} "
        f"ms (alone: p50 {at(alone, 0.5):.1f}, p99 {at(alone, 0.99):.1f}); journal {facts['written'] / 1e6:.1f} MB, "
        f"memory {facts['grown'] / 1e6:.1f} MB"
    )


def test_a_key_in_everybodys_hands_fills_no_disk(attacked: RunningServer) -> None:
    with target_of(attacked) as target:
        key = attacked.issue(target.service, endpoints=["GET /only"])
        refused = request("GET /SERVICE/other HTTP/1.1").replace(b"THEKEY", key.value.encode())
        before = journal_bytes(attacked)
        for _ in range(25):
            said = target.send(refused * 100)
            assert [one.code for one in said[:-1]] == ["ENDPOINT_DENIED"] * 100
        events = eventually(lambda: (found := attacked.events(key))[KEYED_A_MINUTE - 1 :] and found)
        # Of two workers or around the turn of a minute it would be twice as many.
        assert KEYED_A_MINUTE <= len(events) < 2 * KEYED_A_MINUTE + 10
        assert journal_bytes(attacked) - before < 2_500 * 2 * KEYED_A_MINUTE


FEW = ["prlimit", "--nofile=300:300"]
"""So few open files that a flood can take them all."""


def test_a_flood_of_connections_takes_neither_port_nor_process() -> None:
    with RunningServer(under=FEW) as server, target_of(server) as target:
        pids = [server.control_pid, *server.worker_pids()]
        for port in (server.gateway_port, server.control_port):
            ends = []
            for _ in range(600):
                ends.append(socket.create_connection(("127.0.0.1", port), timeout=20))
            for _ in range(5):
                assert target.send(request())[0].status == 200, "new connections are let in, others make room"
            assert [server.control_pid, *server.worker_pids()] == pids
            for end in ends:
                end.close()
        key = server.issue(target.service)
        assert server.stop_key(key)["acknowledged"] == 1
        assert server.call("GET", f"/{target.service}/a", key).code == "REVOKED"


if __name__ == "__main__":
    os.nice(10)  # it stands for other machines: the server does not share its cores with them
    port, service, key, seconds, patient, busy = sys.argv[1:]
    crowd = Crowd(int(port), service, key, time.monotonic() + float(seconds))
    asyncio.run(crowd_in(crowd, int(patient), int(busy)))
    json.dump([crowd.longest, crowd.seen], sys.stdout)
