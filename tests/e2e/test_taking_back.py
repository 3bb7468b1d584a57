"""When revoke returns the key is dead everywhere and what was open is cut; suspend, narrowing, lock and end alike."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from running_server import RunningServer, ValetKey, ask, eventually
from standins.raw_upstream import RawUpstream
from valetkey.demo.standin import OpenAIStandIn

pytestmark = pytest.mark.real

CHAT = "/openai/v1/chat/completions"
MODELS = "/openai/v1/models"
ENDLESS = json.dumps(
    {"model": "standin-endless", "messages": [{"role": "user", "content": "x"}], "stream": True}
).encode()
_STAMP = re.compile(rb'"content":"(\d+\.\d+) "')


class Listener:
    """A caller of an endless stream: what it received, and how that ended."""

    def __init__(self, server: RunningServer, key: ValetKey, path: str = CHAT) -> None:
        self._end = server.open("POST", path, key, ENDLESS)
        self.received = b""
        self.over = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with suppress(OSError):
            while piece := self._end.recv(65536):
                self.received += piece
        self.over.set()

    @property
    def stamps(self) -> list[float]:
        """When the events that arrived were made."""
        return [float(stamp) for stamp in _STAMP.findall(self.received)]

    @property
    def complete(self) -> bool:
        """Whether it ended as a whole answer would."""
        return self.received.endswith(b"0\r\n\r\n")

    def close(self) -> None:
        with suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()


@contextmanager
def listening(
    server: RunningServer, key: ValetKey, number: int, path: str = CHAT
) -> Iterator[list[Listener]]:
    """So many streams, each with at least one event arrived."""
    listeners = [Listener(server, key, path) for _ in range(number)]
    try:
        eventually(lambda: all(listener.stamps for listener in listeners))
        yield listeners
    finally:
        for listener in listeners:
            listener.close()


@contextmanager
def load(server: RunningServer, key: ValetKey, threads: int = 4) -> Iterator[list[tuple[float, str]]]:
    """Calls without pause while the block runs: when each was sent and its code."""
    done = threading.Event()
    calls: list[tuple[float, str]] = []

    def work() -> None:
        while not done.is_set():
            connection = server.connect()
            with suppress(OSError, http.client.HTTPException):
                while not done.is_set():
                    sent = time.time()
                    calls.append((sent, ask(connection, "GET", MODELS, key).code))
            connection.close()

    running = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield calls
    finally:
        done.set()
        for thread in running:
            thread.join(10)


def assert_cut(listeners: list[Listener], returned: float) -> None:
    """All streams ended visibly incomplete, and nothing made after `returned` arrived."""
    for listener in listeners:
        assert listener.over.wait(2.0)
        assert not listener.complete
        assert max(listener.stamps) <= returned


def test_revoke_under_load_cuts_every_stream_and_no_call_is_accepted_after_it(
    server: RunningServer, openai_api: OpenAIStandIn
) -> None:
    key, bystander = server.issue("openai"), server.issue("openai")
    before = openai_api.open_streams
    with listening(server, key, 24) as listeners, load(server, key) as calls, load(server, bystander, 2):
        eventually(lambda: len(calls) > 50)
        answer = server.stop_key(key)
        returned = time.time()
        eventually(lambda: calls[-1][0] > returned + 0.3)
        assert_cut(listeners, returned)
    assert (answer["acknowledged"], answer["fenced"]) == (2, 0)
    assert answer["cut"] >= 24
    assert {code for sent, code in calls if sent > returned} == {"REVOKED"}
    eventually(lambda: openai_api.open_streams == before, 1.0)
    assert server.call("GET", MODELS, bystander).code == "VALID"
    accepted = [e for e in server.events(key) if e["code"] == "VALID"]
    assert max(event["time"] for event in accepted) <= returned
    ends = [event["end"] for event in accepted if event["path"] == "/v1/chat/completions"]
    assert ends == ["cut_by_revoke"] * 24


def test_revoke_again_answers_the_same_and_cuts_nothing(server: RunningServer) -> None:
    key = server.issue("openai")
    assert server.stop_key(key)["state"] == server.stop_key(key)["state"] == "revoked"
    assert server.stop_key(key)["cut"] == 0


def lock(server: RunningServer, key: ValetKey, service: str) -> None:
    server.manage("POST", f"/services/{service}/lock", {})


STOPS: dict[str, tuple[Callable[[RunningServer, ValetKey, str], object], str]] = {
    "suspend": (lambda server, key, _: server.stop_key(key, "suspend"), "SUSPENDED"),
    "narrower endpoints": (
        lambda server, key, _: server.change(key, terms={"endpoints": ["GET /v1/models/*"]}),
        "ENDPOINT_DENIED",
    ),
    "narrower network": (
        lambda server, key, _: server.change(key, terms={"networks": ["203.0.113.0/24"]}),
        "NETWORK_DENIED",
    ),
    "lock": (lock, "SERVICE_LOCKED"),
}


@pytest.mark.parametrize("how", STOPS)
def test_whatever_stops_a_key_cuts_its_streams(
    server: RunningServer, openai_api: OpenAIStandIn, how: str
) -> None:
    stop, code = STOPS[how]
    service = server.open_service(openai_api.real_key, preset="openai", base_url=openai_api.url)
    key = server.issue(service)
    with listening(server, key, 6, f"/{service}/v1/chat/completions") as listeners:
        stop(server, key, service)
        returned = time.time()
        assert_cut(listeners, returned)
    assert server.call("GET", f"/{service}/v1/models", key).code == code


def test_a_change_that_still_allows_a_stream_lets_it_be(server: RunningServer) -> None:
    key = server.issue("openai")
    with listening(server, key, 4) as listeners:
        server.change(key, terms={"endpoints": ["POST /v1/chat/completions"], "networks": ["127.0.0.0/8"]})
        changed = time.time()
        eventually(lambda: all(max(listener.stamps) > changed for listener in listeners))
    assert server.call("GET", MODELS, key).code == "ENDPOINT_DENIED"


def test_a_key_whose_time_is_over_is_cut(server: RunningServer) -> None:
    key = server.issue("openai", expires="2s")
    ends = time.time() + 2
    with listening(server, key, 4) as listeners:
        for listener in listeners:
            assert listener.over.wait(5.0)
            assert not listener.complete
            assert max(listener.stamps) <= ends + 0.5
    assert server.call("GET", MODELS, key).code == "EXPIRED"


def test_let_finish_spares_what_is_open_and_refuses_what_is_new(server: RunningServer) -> None:
    key = server.issue("openai")
    with listening(server, key, 4) as listeners:
        answer = server.stop_key(key, let_finish=True)
        returned = time.time()
        assert answer["cut"] == 0
        assert server.call("GET", MODELS, key).code == "REVOKED"
        # longer than all that looks after open calls from time to time needs
        eventually(lambda: all(max(listener.stamps) > returned + 1.5 for listener in listeners))


def test_revoke_after_let_finish_cuts_what_was_spared(server: RunningServer) -> None:
    key = server.issue("openai")
    with listening(server, key, 4) as listeners:
        server.stop_key(key, let_finish=True)
        server.stop_key(key)
        assert_cut(listeners, time.time())


def test_a_suspended_key_works_again_when_it_is_resumed(server: RunningServer) -> None:
    key = server.issue("openai")
    for _ in range(3):
        server.stop_key(key, "suspend")
        assert {server.call("GET", MODELS, key).code for _ in range(6)} == {"SUSPENDED"}
        server.stop_key(key, "resume")
        assert {server.call("GET", MODELS, key).code for _ in range(6)} == {"VALID"}


def test_an_upload_is_cut_and_its_caller_told_why(server: RunningServer) -> None:
    with RawUpstream() as upstream:
        service = server.open_service("secret-of-the-upload", base_url=upstream.url)
        key = server.issue(service)
        with server.open("POST", f"/{service}/a", key, headers={"Content-Length": "10000000"}) as end:
            end.sendall(b"x" * 300_000)
            eventually(lambda: upstream.heads)
            assert server.stop_key(key)["cut"] == 1
            response = http.client.HTTPResponse(end)
            response.begin()
            assert response.headers["x-valetkey-code"] == "REVOKED"
        eventually(lambda: upstream.cut == 1, 1.0)


def test_a_caller_that_reads_nothing_is_handed_nothing_after_the_revoke(server: RunningServer) -> None:
    key = server.issue("openai")
    path = "/openai/v1/files/file-standin-100000000/content"
    end = server.open("GET", path, key, receive_buffer=16_384)
    # It is blocked once the gateway stops taking more from the vendor: some MB wait in between by then.
    eventually(lambda: server.events(key))
    stalled = threading.Event()
    stalled.wait(0.5)
    assert server.stop_key(key)["cut"] == 1
    received = 0
    with end, suppress(OSError):
        while piece := end.recv(65536):
            received += len(piece)
    # what its own kernel held already; about 4 MB were on their way
    assert received < 256_000


def test_a_new_version_of_the_secret_is_used_at_the_next_call(server: RunningServer) -> None:
    with RawUpstream() as upstream:
        service = server.open_service("secret-version-number-0", base_url=upstream.url)
        key = server.issue(service)
        for number in range(8):
            secret = f"secret-version-number-{number}"
            server.set_secret(service, secret)
            for _ in range(4):
                assert server.call("GET", f"/{service}/a", key).status == 200
                assert f"Bearer {secret}".encode() in upstream.heads[-1]


def test_a_change_is_in_force_at_the_next_call_in_every_worker(server: RunningServer) -> None:
    key = server.issue("openai")
    connections = [server.connect() for _ in range(12)]  # spread over both workers
    for _ in range(4):
        server.change(key, terms={"networks": ["203.0.113.0/24"]})
        assert {ask(c, "GET", MODELS, key).code for c in connections} == {"NETWORK_DENIED"}
        server.change(key, terms={"networks": []})
        assert {ask(c, "GET", MODELS, key).code for c in connections} == {"VALID"}
    for connection in connections:
        connection.close()


def test_a_new_key_works_at_once_in_every_worker(server: RunningServer) -> None:
    connections = [server.connect() for _ in range(12)]
    for _ in range(4):
        key = server.issue("openai")
        assert {ask(c, "GET", MODELS, key).code for c in connections} == {"VALID"}
    for connection in connections:
        connection.close()
