"""Limits that begin to count while their keys are in use: exact at once, whatever is in hand, and after any crash."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, suppress
from typing import Any

import msgspec
import pytest

from running_server import RunningServer, ValetKey, ask, eventually
from standins.raw_upstream import RawUpstream, Reply, silent, with_length
from valetkey.decision.counter_layout import QUOTAS
from valetkey.decision.limits import AMOUNT_BITS, window_numbers
from valetkey.gateway.counters_keeping import KeptCounters

pytestmark = pytest.mark.real

THREADS = 6
SLOWLY = Reply((0.02, *with_length(b"ok").steps))
ROOM = 400
"""Calls that a new limit leaves over what was called before it: more than a second's, at 20 ms a call."""


@pytest.fixture
def own_server() -> Iterator[RunningServer]:
    with RunningServer(workers=2) as server:
        yield server


class Callers:
    """Threads that call with keys in turn, and count the codes."""

    def __init__(self, server: RunningServer, path: str, keys: list[ValetKey]) -> None:
        self._server, self._path, self._keys = server, path, keys
        self._lock = threading.Lock()
        self.codes: Counter[str] = Counter()
        self.done = threading.Event()

    def work(self, place: int) -> None:
        key = self._keys[place % len(self._keys)]
        connection = self._server.connect()
        while not self.done.is_set():
            code = ask(connection, "GET", self._path, key).code
            with self._lock:
                self.codes[code] += 1
        connection.close()

    @property
    def refused(self) -> int:
        return self.codes.total() - self.codes["VALID"]


@contextmanager
def calling(server: RunningServer, path: str, keys: list[ValetKey]) -> Iterator[Callers]:
    callers = Callers(server, path, keys)
    threads = [threading.Thread(target=callers.work, args=(place,), daemon=True) for place in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: callers.codes["VALID"] > 20, 20)
        yield callers
    finally:
        callers.done.set()
        for thread in threads:
            thread.join(20)


def at_key(server: RunningServer, service: str, keys: list[ValetKey], terms: dict[str, object]) -> None:
    server.change(keys[0], terms=terms)


def at_holder(server: RunningServer, service: str, keys: list[ValetKey], terms: dict[str, object]) -> None:
    server.manage("PATCH", "/limits", {"holder": "ana", "terms": terms})


def at_service(server: RunningServer, service: str, keys: list[ValetKey], terms: dict[str, object]) -> None:
    server.manage("PATCH", "/limits", {"service": service, "terms": terms})


def at_everything(
    server: RunningServer, service: str, keys: list[ValetKey], terms: dict[str, object]
) -> None:
    server.manage("PATCH", "/limits", {"terms": terms})


def at_partner(server: RunningServer, service: str, keys: list[ValetKey], terms: dict[str, object]) -> None:
    agreement = {"services": [{"name": service}], "ends": "2099-01-01", "limits": terms}
    server.manage("POST", "/partners", {"name": "ana", "agreement": agreement})


@pytest.mark.parametrize(
    ("number", "set_limit", "terms", "code"),
    [
        (1, at_key, lambda calls: {"uses": calls}, "USES_EXHAUSTED"),
        (2, at_holder, lambda calls: {"quotas": [f"{calls}/month"]}, "QUOTA_EXCEEDED"),
        (3, at_service, lambda calls: {"budgets": [f"{calls}/month"]}, "BUDGET_EXCEEDED"),
        (3, at_everything, lambda calls: {"quotas": [f"{calls}/month"]}, "QUOTA_EXCEEDED"),
        (2, at_partner, lambda calls: {"quotas": [f"{calls}/month"]}, "QUOTA_EXCEEDED"),
    ],
)
def test_a_limit_set_under_load_admits_what_it_says_and_fails_no_call(
    own_server: RunningServer,
    number: int,
    set_limit: Callable[..., None],
    terms: Callable[[int], dict[str, object]],
    code: str,
) -> None:
    server = own_server
    with RawUpstream(SLOWLY) as upstream:
        service = server.open_service("secret-of-load", base_url=upstream.url, price="1.00")
        if set_limit is at_partner:
            server.manage("POST", "/parties", {"name": "ana", "kind": "partner"})
        keys = [server.issue(service, holder="ana", label=f"key {place}") for place in range(number)]
        with calling(server, f"/{service}/a", keys) as callers:
            limit = callers.codes["VALID"] + ROOM
            set_limit(server, service, keys, terms(limit))
            eventually(lambda: callers.refused > 50, 30)
        assert callers.codes["VALID"] == limit
        assert set(callers.codes) == {"VALID", code}


def test_a_budget_counts_what_calls_in_hand_may_cost(own_server: RunningServer) -> None:
    server = own_server
    with RawUpstream(silent(60)) as upstream:
        service = server.open_service("secret-in-hand", base_url=upstream.url, price="1.00")
        key = server.issue(service)
        ends = [server.open("GET", f"/{service}/a", key) for _ in range(3)]
        eventually(lambda: len(upstream.heads) == 3)
        server.change(key, terms={"budgets": ["5.00/day"]})
        ends += [server.open("GET", f"/{service}/a", key) for _ in range(2)]
        eventually(lambda: len(upstream.heads) == 5)
        assert server.call("GET", f"/{service}/a", key).code == "BUDGET_EXCEEDED"
        for end in ends:
            end.close()


def block_of(server: RunningServer, key: ValetKey) -> int:
    with closing(sqlite3.connect(server.home / "valetkey.db")) as database:
        return int(database.execute("SELECT block FROM keys WHERE id = ?", (key.id,)).fetchone()[0])


def codes(server: RunningServer, path: str, key: ValetKey, number: int) -> Counter[str]:
    return Counter(server.call("GET", path, key).code for _ in range(number))


def test_a_crash_before_a_new_limit_was_counted_leaves_it_shut_until_it_is(own_server: RunningServer) -> None:
    server = own_server
    with RawUpstream() as upstream:
        service = server.open_service("secret-of-crash", base_url=upstream.url)
        path, key = f"/{service}/a", server.issue(service, quotas=["5/day"])
        assert codes(server, path, key, 3) == {"VALID": 3}
        server.kill()
        # As the control process leaves it that dies after its commit.
        counters = KeptCounters.open(server.home / "counters", make=False)
        counters.hold(block_of(server, key), [QUOTAS + 1], time.time())
        counters.close()
        server.start()
        assert codes(server, path, key, 4) == {"VALID": 2, "QUOTA_EXCEEDED": 2}


@contextmanager
def held(server: RunningServer, key: ValetKey) -> Iterator[Callable[[int], None]]:
    """The key's daily quota while it is being counted; what is given lets it go with so many calls used."""
    counters, block = KeptCounters.open(server.home / "counters", make=False), block_of(server, key)
    counters.hold(block, [QUOTAS + 1], time.time())
    today = window_numbers(time.time())[1]
    yield lambda used: counters.raise_to(block, {QUOTAS + 1: today << AMOUNT_BITS | used})
    counters.close()


def test_every_door_waits_while_a_new_limit_is_being_counted(own_server: RunningServer) -> None:
    server = own_server
    server.manage("POST", "/services", {"name": "own", "own": True})
    credential = server.manage("POST", "/services/own/credential", {})["credential"]
    with RawUpstream() as upstream, ThreadPoolExecutor() as doors:
        service = server.open_service("secret-of-waiting", base_url=upstream.url)
        key, own = server.issue(service, quotas=["5/day"]), server.issue("own", quotas=["5/day"])
        question = json.dumps({"key": own.value, "method": "GET", "path": "/a"})
        with held(server, key) as let_go, held(server, own) as let_go_own:
            checked = server.manage("POST", f"/keys/{key.id}/check", {"method": "GET", "path": "/a"})
            assert (checked["code"], "still being counted" in checked["sentence"]) == ("NOT_READY", True)
            waiting = [
                doors.submit(server.call, "GET", f"/{service}/a", key),
                doors.submit(server.call, "POST", "/v1/derive", key, body="{}"),
            ]
            asked = doors.submit(server.call, "POST", "/v1/verify", credential, body=question)
            assert wait([*waiting, asked], 0.3).done == set()
            let_go(3)
            let_go_own(3)
            assert [answer.result().status for answer in waiting] == [200, 201]
            assert asked.result().json["code"] == "VALID"
        assert server.call("GET", f"/{service}/a", key).code == "QUOTA_EXCEEDED"


def test_who_waits_too_long_for_a_new_limit_is_told_so(own_server: RunningServer) -> None:
    server = own_server
    with RawUpstream() as upstream:
        service = server.open_service("secret-of-patience", base_url=upstream.url)
        key = server.issue(service, quotas=["5/day"])
        with held(server, key):
            answer = server.call("GET", f"/{service}/a", key)
        assert (answer.status, answer.code) == (503, "NOT_READY")
        assert "still being counted" in answer.json["detail"]
        assert upstream.heads == []


def test_an_accepted_clock_reaches_the_counters_after_a_crash(own_server: RunningServer) -> None:
    server = own_server
    with RawUpstream() as upstream:
        service = server.open_service("secret-of-clock", base_url=upstream.url)
        path, key = f"/{service}/a", server.issue(service, quotas=["5/day"])
        server.stop()
        counters = KeptCounters.open(server.home / "counters", make=False)
        tomorrow = window_numbers(time.time() + 86_400)[1]
        counters.raise_to(block_of(server, key), {QUOTAS + 1: tomorrow << AMOUNT_BITS | 3})
        counters.close()
        with closing(sqlite3.connect(server.home / "valetkey.db")) as database, database:
            accepted = msgspec.json.encode({"time": time.time(), "accepted": "clk_before_the_crash"}).decode()
            database.execute("INSERT INTO meta (name, value) VALUES ('clock_accepted', ?)", (accepted,))
        server.start()
        assert codes(server, path, key, 3) == {"VALID": 2, "QUOTA_EXCEEDED": 1}
        counters = KeptCounters.open(server.home / "counters", make=False)
        assert (
            counters.read(block_of(server, key))[QUOTAS + 1] >> AMOUNT_BITS == window_numbers(time.time())[1]
        )
        counters.close()


@pytest.mark.parametrize("replaced", [False, True])
def test_counters_taken_away_while_serving_are_counted_anew(
    own_server: RunningServer, replaced: bool
) -> None:
    server = own_server
    with RawUpstream() as upstream:
        service = server.open_service("secret-of-taken", base_url=upstream.url)
        path, key = f"/{service}/a", server.issue(service, quotas=["20/day"])
        assert codes(server, path, key, 5) == {"VALID": 5}
        workers, control = server.worker_pids(), server.control_pid
        file = server.home / "counters"
        before = file.read_bytes()
        assert codes(server, path, key, 5) == {"VALID": 5}
        file.unlink()
        if replaced:
            file.write_bytes(before)
        os.kill(workers[0], signal.SIGKILL)

        def anew() -> Any:
            with suppress(OSError, http.client.HTTPException):
                return not set(server.worker_pids()) & set(workers) and len(server.worker_pids()) == 2
            return False

        eventually(anew, 20)
        assert server.control_pid != control
        assert codes(server, path, key, 12) == {"VALID": 10, "QUOTA_EXCEEDED": 2}
        assert "counters_gone" in server.errors
