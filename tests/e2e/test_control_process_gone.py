"""The control process dies or stands still: workers live on, refuse beyond their lease, and come back with it.

The same processes all the time: a worker that died with it would cut what its callers have open.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

import pytest
from callers import CHAT, ENDLESS, MODELS, own_server

from long_results import Results
from process_tree import alive
from running_server import Answer, RunningServer, ValetKey, ask, eventually
from valetkey.demo.standin import OpenAIStandIn
from valetkey.server.link import LEASE_SECONDS, RENEW_SECONDS
from valetkey.server.supervisor import QUICK_DEATH_SECONDS, SILENT_SECONDS

pytestmark = pytest.mark.real

SLACK = 1.0
"""For a busy machine."""
BACK_SECONDS = 30.0


@pytest.fixture(scope="module")
def pair(openai_api: OpenAIStandIn) -> Iterator[RunningServer]:
    with own_server(openai_api) as running_server:
        yield running_server


@pytest.fixture
def server(pair: RunningServer) -> Iterator[RunningServer]:
    """Two workers, all there before and after."""
    yield pair
    eventually(lambda: len(pair.worker_pids()) == 2, BACK_SECONDS)


class Stream:
    """An open event stream, and when its last byte came."""

    def __init__(self, server: RunningServer, key: ValetKey) -> None:
        self._end = server.open("POST", CHAT, key, ENDLESS)
        self.last = 0.0
        self.over = False
        self.begun = self._end.recv(4096).partition(b"\r\n")[0]
        Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with suppress(OSError):
            while self._end.recv(65536):
                self.last = time.monotonic()
        self.over = True

    def flows(self) -> bool:
        """Whether something more comes from now on."""
        since = time.monotonic()
        eventually(lambda: self.over or self.last > since)
        return not self.over

    def close(self) -> None:
        with suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)


def killed_control(server: RunningServer) -> tuple[int, list[int]]:
    """Kill the control process: its id, and the workers that were there."""
    victim, workers = server.control_pid, server.worker_pids()
    os.kill(victim, signal.SIGKILL)
    return victim, workers


def wait_for_another(server: RunningServer, former: int, workers: int = 2) -> None:
    def back() -> bool:
        with suppress(OSError, http.client.HTTPException):
            return len(server.worker_pids()) == workers and server.control_pid != former
        return False

    eventually(back, BACK_SECONDS)


@contextmanager
def held(server: RunningServer) -> Iterator[None]:
    """The control process dead, and nobody there to start another."""
    server.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.send_signal(signal.SIGCONT)


TIMES = pytest.mark.parametrize(
    "times", [1, pytest.param(20, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)


@TIMES
def test_a_stream_outlives_the_control_process_and_so_do_the_workers(
    times: int, server: RunningServer, results: Results
) -> None:
    took, survived = [], 0
    for _ in range(times):
        time.sleep(QUICK_DEATH_SECONDS)  # what lives no longer is started anew more and more slowly
        key = server.issue("openai")
        stream = Stream(server, key)
        assert stream.flows()
        killed = time.monotonic()
        former, workers = killed_control(server)
        wait_for_another(server, former)
        took.append(time.monotonic() - killed)
        assert server.worker_pids() == workers
        if stream.flows():
            survived += 1
            # A change reaches the worker that carries it.
            assert server.stop_key(key)["cut"] == 1
            eventually(lambda: stream.over)  # noqa: B023
        else:  # on a machine so busy that the lease ran out first
            assert stream.last - killed > LEASE_SECONDS - RENEW_SECONDS - 0.2
            assert server.closed_events(key, 1)[0]["end"] == "interrupted"
        stream.close()
    results.note(
        f"{times} times SIGKILL of the control process: another had both workers after p50 "
        f"{sorted(took)[times // 2]:.2f} s, at most {max(took):.2f} s; {survived} of {times} streams went on, the "
        "others were cut at the end of the lease; the workers the same"
    )


def codes(server: RunningServer, key: ValetKey) -> set[str]:
    """Of calls on connections that the kernel spreads over the workers."""
    return {server.call("GET", MODELS, key).code for _ in range(12)}


def codes_until(server: RunningServer, key: ValetKey, wanted: str, seconds: float) -> float:
    """Call until the answer is `wanted`; seconds until then."""
    begun = time.monotonic()
    eventually(lambda: server.call("GET", MODELS, key).code == wanted, seconds)
    return time.monotonic() - begun


@TIMES
def test_without_it_workers_refuse_within_their_lease_and_come_back_with_it(
    times: int, server: RunningServer, results: Results
) -> None:
    refused, back = [], []
    for _ in range(times):
        key = server.issue("openai")
        streams = [Stream(server, key) for _ in range(4)]
        workers = server.worker_pids()
        with held(server):
            former, _ = killed_control(server)
            begun = time.monotonic()
            # Each worker has its own lease: all have run out when many calls in a row are refused.
            eventually(lambda: codes(server, key) == {"NOT_READY"}, LEASE_SECONDS + SLACK)  # noqa: B023
            refused.append(time.monotonic() - begun)
            eventually(lambda: all(stream.over for stream in streams), SLACK)  # noqa: B023
            ready = server.call("GET", "/readyz")
            assert ready.status == 503 and b"control" in ready.body
            assert all(alive(pid) for pid in workers)
        begun = time.monotonic()
        eventually(lambda: codes(server, key) == {"VALID"}, BACK_SECONDS)  # noqa: B023
        back.append(time.monotonic() - begun)
        wait_for_another(server, former)
        assert server.worker_pids() == workers
        ends = {event["end"] for event in server.closed_events(key, 4) if event["method"] == "POST"}
        assert ends == {"interrupted"}
    assert server.manage("POST", "/audit/verify", {})["integrity"] == "ok"
    results.note(
        f"{times} times no control process: both workers refused after {min(refused):.2f} to {max(refused):.2f} s and "
        f"had cut what was open; when another could be started they decided after {max(back):.2f} s at most"
    )


def test_a_control_process_that_stands_still_is_as_a_dead_one(server: RunningServer) -> None:
    key, workers, control = server.issue("openai"), server.worker_pids(), server.control_pid
    os.kill(control, signal.SIGSTOP)
    try:
        codes_until(server, key, "NOT_READY", LEASE_SECONDS + SLACK)
    finally:
        os.kill(control, signal.SIGCONT)
    codes_until(server, key, "VALID", BACK_SECONDS)
    assert (server.worker_pids(), server.control_pid) == (workers, control)


@pytest.mark.long
def test_one_that_stands_still_for_good_is_killed_and_another_started(
    server: RunningServer, results: Results
) -> None:
    key, workers, control = server.issue("openai"), server.worker_pids(), server.control_pid
    begun = time.monotonic()
    os.kill(control, signal.SIGSTOP)
    eventually(lambda: not alive(control), 2 * SILENT_SECONDS + BACK_SECONDS)
    killed = time.monotonic() - begun
    wait_for_another(server, control)
    codes_until(server, key, "VALID", BACK_SECONDS)
    assert server.worker_pids() == workers
    results.note(
        f"killed {killed:.1f} s after SIGSTOP; calls pass again {time.monotonic() - begun:.1f} s after it"
    )


def test_a_control_process_that_dies_with_something_unread_is_started_anew(server: RunningServer) -> None:
    control, workers = server.control_pid, server.worker_pids()
    os.kill(control, signal.SIGSTOP)
    os.kill(workers[0], signal.SIGKILL)
    # The supervisor tells of the dead worker when it starts another; nobody reads that.
    eventually(lambda: len([pid for pid in server.tree() if alive(pid)]) == 4 and not alive(workers[0]))
    os.kill(control, signal.SIGKILL)
    wait_for_another(server, control)
    assert workers[1] in server.worker_pids()


def test_what_was_open_before_it_died_is_closed_when_its_worker_dies_after(server: RunningServer) -> None:
    key = server.issue("openai")
    stream = Stream(server, key)
    assert stream.flows()
    server.manage(
        "POST", "/audit/verify", {}
    )  # from here on the journal is not read from its beginning again
    workers = server.worker_pids()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)  # so that they cut nothing themselves
    former, _ = killed_control(server)
    wait_for_another(server, former, workers=0)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: stream.over)
    (event,) = server.closed_events(key, 1, BACK_SECONDS)
    assert event["end"] == "interrupted"


# -- derivations that wait for it


def connection_to(server: RunningServer, pid: int, others: list[int]) -> http.client.HTTPConnection:
    """A kept connection to this worker: the others stand still."""
    for other in others:
        os.kill(other, signal.SIGSTOP)
    for _ in range(100):
        connection = http.client.HTTPConnection("127.0.0.1", server.gateway_port, timeout=0.3)
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/healthz")
            if connection.getresponse().read() is not None:
                assert connection.sock is not None
                connection.sock.settimeout(20)
                return connection
        connection.close()
    raise AssertionError(f"No connection came to {pid}.")


class Derivation:
    """A derivation that waits: its key is made, and one of two workers has not heard of it."""

    def __init__(self, server: RunningServer, key: ValetKey) -> None:
        self.answer: Answer | None = None
        self.asked, self.still = server.worker_pids()
        self._connection = connection_to(server, self.asked, [self.still])
        self._key = key
        self._thread = Thread(target=self._ask, daemon=True)
        self._thread.start()
        self.child = eventually(lambda: children(server, key))[0]

    def _ask(self) -> None:
        body = json.dumps({"label": "nobody has it"})
        with suppress(OSError, http.client.HTTPException):
            self.answer = ask(self._connection, "POST", "/v1/derive", self._key, body=body)

    def over(self) -> Answer | None:
        self._thread.join(15)
        assert not self._thread.is_alive()
        return self.answer

    def leave(self) -> None:
        """The caller hangs up."""
        assert self._connection.sock is not None
        self._connection.sock.shutdown(socket.SHUT_RDWR)


def children(server: RunningServer, key: ValetKey) -> list[str]:
    """Living keys that nobody is known to have, derived from a key."""
    items = server.manage("GET", "/keys")["items"]
    return [
        item["id"] for item in items if item["parent"] == key.id and item["label"] == "nobody has it"
        and item["state"] == "active"
    ]  # fmt: skip


@pytest.mark.parametrize("gone", ["the control process", "the worker", "the caller"])
def test_a_derived_key_that_nobody_received_ends_and_one_that_was_received_lives(
    gone: str, server: RunningServer
) -> None:
    key = server.issue("openai", quotas=["1000/day"], concurrency=1)
    received = server.call("POST", "/v1/derive", key, body="{}")
    assert received.status == 201
    derivation = Derivation(server, key)
    if gone == "the control process":
        former = server.control_pid
        os.kill(former, signal.SIGKILL)
        answer = derivation.over()
        assert answer is not None and (answer.status, answer.code) == (503, "NOT_READY")
    elif gone == "the worker":
        os.kill(derivation.asked, signal.SIGKILL)
        assert derivation.over() is None
    else:
        derivation.leave()
        assert derivation.over() is None
    with suppress(ProcessLookupError):  # it may have been fenced
        os.kill(derivation.still, signal.SIGCONT)

    def ended() -> bool:
        with suppress(OSError, http.client.HTTPException):
            return not children(server, key)
        return False

    eventually(ended, 15)
    entry = next(e for e in server.manage("GET", "/audit")["items"] if e["action"] == "key:abandon")
    assert (entry["actor"], entry["subject"]) == ("system:valetkey", f"key:{derivation.child}")
    event = next(e for e in server.closed_events(key, 2) if e["call"] == entry["details"]["call"])
    assert event["end"] == ("client_gone" if gone == "the caller" else "interrupted")

    def passes() -> bool:
        with suppress(OSError, http.client.HTTPException):
            return server.call("GET", MODELS, key).code == "VALID"
        return False  # the worker that stood still may have been fenced, and both are being started anew

    # One call at once is allowed: what the lost one held is free again.
    eventually(passes, BACK_SECONDS)
    child = ValetKey(received.json["id"], received.json["key"])
    assert server.call("GET", MODELS, child).code == "VALID"
