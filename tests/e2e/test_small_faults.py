"""A process killed at any moment is back within about a second, and no acknowledged call is missing."""

from __future__ import annotations

import http.client
import os
import signal
import time
from contextlib import suppress

import pytest
from callers import CHAT, ENDLESS, MODELS, assert_nothing_is_missing, calling, own_server

from long_results import Results
from process_tree import alive
from running_server import RunningServer, eventually
from valetkey.demo.standin import OpenAIStandIn
from valetkey.server.home import Home
from valetkey.server.link import LEASE_SECONDS
from valetkey.server.offline import verify_home
from valetkey.server.workers import FENCE_SECONDS

pytestmark = pytest.mark.real

BACK_SECONDS = 3.0
"""About one second on a quiet machine; this one may be busy."""


def kill_a_worker(server: RunningServer) -> None:
    """Kill one of two workers and wait until another serves in its place."""
    victim = server.worker_pids()[0]
    os.kill(victim, signal.SIGKILL)

    def back() -> bool:
        pids = server.worker_pids()
        return victim not in pids and len(pids) == 2

    eventually(back, BACK_SECONDS)


def kill_the_control_process(server: RunningServer) -> None:
    """Kill it and wait until another one has both workers: the same ones, for they need not die with it."""
    victim, workers = server.control_pid, server.worker_pids()
    os.kill(victim, signal.SIGKILL)

    def back() -> bool:
        with suppress(OSError, http.client.HTTPException):
            return len(server.worker_pids()) == 2 and server.control_pid != victim
        return False

    eventually(back, BACK_SECONDS + 2)
    assert server.worker_pids() == workers


def test_a_killed_worker_is_back_and_no_acknowledged_call_is_missing(openai_api: OpenAIStandIn) -> None:
    with own_server(openai_api) as server:
        key = server.issue("openai")
        with calling(server, key) as callers:
            for _ in range(3):
                kill_a_worker(server)
        assert_nothing_is_missing(server, key, callers)


def test_the_only_worker_killed_is_back_and_serves(openai_api: OpenAIStandIn) -> None:
    with own_server(openai_api, workers=1) as server:
        key = server.issue("openai", uses=1000, concurrency=4)
        ends = [server.open("POST", CHAT, key, ENDLESS) for _ in range(4)]
        eventually(lambda: len(server.events(key)) == 4)
        (victim,) = server.worker_pids()
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()

        def served() -> bool:
            with suppress(OSError, http.client.HTTPException):
                # the four that were open no longer count
                return server.call("GET", MODELS, key).code == "VALID"
            return False

        eventually(served, BACK_SECONDS)
        assert time.monotonic() - killed < BACK_SECONDS
        for end in ends:
            end.close()
        interrupted = [e for e in server.closed_events(key, 5) if e["end"] == "interrupted"]
        assert len(interrupted) == 4
        eventually(lambda: openai_api.open_streams == 0)


def test_a_killed_control_process_is_back_and_calls_are_decided_or_refused(openai_api: OpenAIStandIn) -> None:
    with own_server(openai_api) as server:
        key, revoked = server.issue("openai"), server.issue("openai")
        server.stop_key(revoked)
        with calling(server, key) as callers:
            for _ in range(2):
                kill_the_control_process(server)
                assert server.call("GET", MODELS, revoked).code == "REVOKED"
                back = time.monotonic()
                eventually(lambda: callers.last > back)  # noqa: B023
            assert server.stop_key(server.issue("openai"))["acknowledged"] == 2
        assert set(callers.acknowledged.values()) <= {"VALID", "NOT_READY"}
        assert_nothing_is_missing(server, key, callers)


def test_a_worker_that_does_not_answer_is_fenced(openai_api: OpenAIStandIn) -> None:
    with own_server(openai_api) as server:
        key = server.issue("openai")
        stopped = server.worker_pids()[0]
        os.kill(stopped, signal.SIGSTOP)
        begun = time.monotonic()
        answer = server.stop_key(key)
        assert time.monotonic() - begun < 3.5  # lease and half a second, and a busy machine
        assert (answer["acknowledged"], answer["fenced"]) == (1, 1)
        eventually(lambda: len(server.worker_pids()) == 2, BACK_SECONDS)
        assert {server.call("GET", MODELS, key).code for _ in range(8)} == {"REVOKED"}


@pytest.mark.parametrize("times", [1, pytest.param(20, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
def test_a_worker_that_stands_still_is_fenced_though_nobody_changes_anything(
    times: int, openai_api: OpenAIStandIn, results: Results
) -> None:
    fenced, back = [], []
    with own_server(openai_api) as server:
        for _ in range(times):
            key, workers = server.issue("openai"), server.worker_pids()
            ends = [server.open("POST", CHAT, key, ENDLESS) for _ in range(6)]
            eventually(lambda: len(server.events(key)) == 6)  # noqa: B023
            begun = time.monotonic()
            os.kill(workers[0], signal.SIGSTOP)
            eventually(lambda: not alive(workers[0]), LEASE_SECONDS + FENCE_SECONDS + 1.0)  # noqa: B023
            fenced.append(time.monotonic() - begun)
            eventually(lambda: len(set(server.worker_pids()) - {workers[0]}) == 2, 10 * BACK_SECONDS)  # noqa: B023
            back.append(time.monotonic() - begun)
            assert workers[1] in server.worker_pids()
            assert {server.call("GET", MODELS, key).code for _ in range(8)} == {"VALID"}
            for end in ends:
                end.close()
            # Which worker had which stream is the kernel's choice.
            ends_of_streams = [e["end"] for e in server.closed_events(key, 14) if e["method"] == "POST"]
            assert set(ends_of_streams) <= {"interrupted", "client_gone"}
    results.note(
        f"{times} times a worker stood still: killed after {min(fenced):.2f} to {max(fenced):.2f} s, another served "
        f"in its place after {max(back):.2f} s at most"
    )


def test_the_tree_ends_in_time_with_open_streams_and_the_journal_is_proved(
    openai_api: OpenAIStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    with own_server(openai_api) as server:
        key = server.issue("openai")
        ends = [server.open("POST", CHAT, key, ENDLESS) for _ in range(12)]
        ends.append(
            server.open("GET", "/openai/v1/files/file-standin-100000000/content", key, receive_buffer=8192)
        )
        eventually(lambda: len(server.events(key)) == 13)
        assert server.stop() < 5.0
        for end in ends:
            end.close()
        eventually(lambda: openai_api.open_streams == 0)
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        report = verify_home(Home(server.home))
        assert (report["integrity"], report["completeness"], report["problems"]) == ("ok", "ok", [])
        server.start()
        assert {event["end"] for event in server.events(key)} == {"interrupted"}
        assert server.call("GET", MODELS, key).code == "VALID"


def test_all_processes_killed_at_once_leave_a_journal_that_recovers(openai_api: OpenAIStandIn) -> None:
    with own_server(openai_api) as server:
        key = server.issue("openai", uses=5)
        assert [server.call("GET", MODELS, key).code for _ in range(2)] == ["VALID"] * 2
        ends = [server.open("POST", CHAT, key, ENDLESS)]
        eventually(lambda: len(server.events(key)) == 3)
        server.kill()
        for end in ends:
            end.close()
        server.start()
        codes = [server.call("GET", MODELS, key).code for _ in range(3)]
        assert codes == ["VALID", "VALID", "USES_EXHAUSTED"]
        verdict = server.manage("POST", "/audit/verify", {})
        assert (verdict["integrity"], verdict["completeness"]) == ("ok", "ok")
