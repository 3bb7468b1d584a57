"""What an attacker tried against a running server: odd upstreams, floods, stolen and revoked tokens, slow questions."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import json
import os
import signal
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from running_server import Answer, Refused, RunningServer, ValetKey, eventually
from standins.raw_upstream import RawUpstream, Reply, chunked, head, with_length

pytestmark = pytest.mark.real

REAL = "Real-Key-AbC/dEf+" + "0123456789" * 2
HEADER_SAFE = "Real-Key-" + "aB3dE" * 5
USER, PASSWORD = "alice-smith", "Sup3r-" + "Pw9" * 5
ZIPPED = gzip.compress(json.dumps({"echo": REAL}).encode(), mtime=0)


@pytest.fixture(scope="module")
def house() -> Iterator[RunningServer]:
    """One worker, so that its death would be everybody's."""
    with RunningServer(settings={"trusted_proxy": ["127.0.0.9/32"]}) as running_server:
        yield running_server


@contextmanager
def service_at(
    server: RunningServer, *script: Reply, secret: str = REAL, **definition: Any
) -> Iterator[tuple[str, ValetKey]]:
    """A service whose upstream follows a script, with a key for it."""
    with RawUpstream(*script) as upstream:
        name = server.open_service(secret, base_url=upstream.url, **definition)
        yield name, server.issue(name)


def call(
    server: RunningServer, reply: Reply, method: str = "GET", secret: str = REAL, **definition: Any
) -> Answer:
    with service_at(server, reply, secret=secret, **definition) as (name, key):
        headers = {}
        if definition.get("auth") == "basic":
            headers["Authorization"] = "Basic " + base64.b64encode(f"{key.value}:".encode()).decode()
        return server.call(method, f"/{name}/x", None if headers else key, headers=headers)


def inflated(answer: Answer) -> bytes:
    """All of an answer, with whatever is compressed in it opened."""
    opened = b""
    for place in range(len(answer.body)):
        if answer.body[place : place + 2] == b"\x1f\x8b":
            with suppress(zlib.error):
                opened += zlib.decompressobj(31).decompress(answer.body[place:])
    return answer.everything + opened


# Upstreams


@pytest.mark.parametrize("status", ["000", "099", "20", "1000", "101"])
def test_an_odd_status_fails_one_call_and_no_worker(house: RunningServer, status: str) -> None:
    pids = house.worker_pids()
    odd = Reply((head(f"{status} x", "Content-Length: 2") + b"ok",), "close" if status == "101" else "keep")
    with service_at(house, odd, with_length(b"ok")) as (name, key):
        answer = house.call("GET", f"/{name}/x", key)
        assert (answer.status, answer.code) == (502, "UPSTREAM_FAILED")
        assert house.call("GET", f"/{name}/x", key).body == b"ok"
        ends = [event["end"] for event in house.closed_events(key, 2)]
    assert ends == ["complete", "upstream_failed"]
    assert house.worker_pids() == pids


@pytest.mark.parametrize(
    "reply",
    [
        with_length(ZIPPED, "Content-Encoding: identity", "Content-Encoding: gzip"),
        with_length(ZIPPED, "Content-Encoding:", "Content-Encoding: gzip"),
        with_length(ZIPPED, "Content-Encoding: identity, gzip"),
        Reply(
            (
                head("200 OK", "Transfer-Encoding: gzip, chunked")
                + b"%x\r\n%b\r\n0\r\n\r\n" % (len(ZIPPED), ZIPPED),
            ),
            then="close",
        ),
        Reply((head("200 OK", "Transfer-Encoding: gzip") + ZIPPED,), then="close"),
        with_length(REAL.encode()[:20], "Content-Range: bytes 0-19/37", status="206 Partial Content"),
        Reply((head("200 OK", "Content-Length: 2", "X-Odd: a\x01b") + b"ok",), then="close"),
    ],
    ids=["two-codings", "empty-coding", "coding-list", "te-gzip-chunked", "te-gzip", "206", "control-byte"],
)
def test_an_answer_that_could_hide_the_key_is_no_answer(house: RunningServer, reply: Reply) -> None:
    answer = call(house, reply)
    assert answer.code == "UPSTREAM_FAILED"
    assert REAL.encode()[:20] not in inflated(answer)


def test_a_header_named_after_the_key_stays_here(house: RunningServer) -> None:
    reply = with_length(b"ok", f"{HEADER_SAFE}: 1", f"X-{HEADER_SAFE}: 1")
    answer = call(house, reply, secret=HEADER_SAFE)
    assert (answer.status, answer.body) == (200, b"ok")
    assert HEADER_SAFE.lower().encode() not in answer.everything.lower()


def test_neither_side_of_a_basic_secret_comes_back(house: RunningServer) -> None:
    body = json.dumps({"user": USER, "password": PASSWORD}).encode()
    answer = call(house, with_length(body, f"X-Me: {USER}"), secret=f"{USER}:{PASSWORD}", auth="basic")
    assert (answer.status, len(answer.body)) == (200, len(body))
    assert USER.encode() not in answer.everything and PASSWORD.encode() not in answer.everything


@pytest.mark.parametrize(
    ("types", "sandboxed"),
    [
        ((), True),
        (("text/html", "text/plain"), True),
        (("application/foo+xml",), True),
        (("application/json",), False),
    ],
)
def test_what_a_browser_might_run_is_sandboxed(
    house: RunningServer, types: tuple[str, ...], sandboxed: bool
) -> None:
    reply = with_length(
        b"<script>1</script>", *(f"Content-Type: {kind}" for kind in types), "X-Valetkey-Code: REVOKED"
    )
    answer = call(house, reply)
    assert (answer.status, answer.header("x-valetkey-code")) == (200, None)
    shown = (answer.header("content-security-policy"), answer.header("x-content-type-options"))
    assert shown == (("sandbox", "nosniff") if sandboxed else (None, None))


# Secrets that change


def test_a_key_that_is_set_while_an_answer_is_open_is_masked_in_it(house: RunningServer) -> None:
    set_meanwhile = "Newer-Key-" + "N3w" * 9
    stream = chunked(b"begun", f"<{set_meanwhile}><{REAL}>".encode(), pause=0.4)
    with service_at(house, stream) as (name, key), house.open("GET", f"/{name}/x", key) as end:
        received = b""
        while b"begun" not in received:
            received += end.recv(65536)
        house.set_secret(name, set_meanwhile)
        while not received.endswith(b"0\r\n\r\n"):
            received += end.recv(65536)
    assert b"<" + b"*" * len(set_meanwhile) + b"><" + b"*" * len(REAL) + b">" in received


def test_a_key_that_was_rotated_and_retired_stays_masked(house: RunningServer) -> None:
    newer = "Newer-Key-" + "N3w" * 9
    with service_at(house, with_length(f"{REAL} {newer}".encode())) as (name, key):
        house.set_secret(name, newer)
        masked = b"*" * len(REAL) + b" " + b"*" * len(newer)
        assert house.call("GET", f"/{name}/x", key).body == masked
        house.manage("POST", f"/secrets/{name}/default/retire", {"version": 1})
        assert house.call("GET", f"/{name}/x", key).body == masked


# Strangers


def test_a_strangers_refusals_are_recorded_singly_only_so_often(house: RunningServer) -> None:
    here = "127.0.0.77"
    with service_at(house) as (name, _):
        for _ in range(6):
            house.call("GET", "/a", headers={"Host": "elsewhere.example"}, source=here)
            house.call("TRACE", "/a", source=here)
            house.call("GET", f"/{name}/../a", "vk_prv_x", source=here)
            house.call("GET", f"/{name}/a", "vk_prv_x", headers={"Upgrade": "x"}, source=here)
            house.call("GET", f"/{name}/{'p' * 4000}", "vk_prv_x", source=here)
    recorded = [event for event in house.events() if event["address"] == here and event["count"] == 1]
    assert len(recorded) == 20
    assert max(len(event["path"] or "") for event in recorded) == 512


def test_a_forwarding_header_with_a_nameless_hop_is_not_believed(house: RunningServer) -> None:
    proxy = "127.0.0.9"
    with service_at(house) as (name, _):
        key = house.issue(name, networks=["203.0.113.7/32"])
        for value, code in (
            ("for=203.0.113.7", "VALID"),
            ("for=203.0.113.7, proto=https", "MALFORMED"),
            ("for=9.9.9.9", "NETWORK_DENIED"),
        ):
            answer = house.call("GET", f"/{name}/x", key, headers={"Forwarded": value}, source=proxy)
            assert answer.code == code


# Tokens


class Bearer:
    """A program with an API token, by TCP."""

    def __init__(self, server: RunningServer, party: str) -> None:
        self._server = server
        made = server.manage("POST", "/tokens", {"party": party})
        self.id, self._token = made["id"], made["token"]

    def head(self, method: str, path: str) -> bytes:
        return (
            f"{method} /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self._token}\r\n\r\n"
        ).encode()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.control_port, timeout=20)
        try:
            text = body if isinstance(body, bytes) else json.dumps(body)
            sent = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
            sent |= {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, f"/api/v1{path}", text, sent)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()


def test_a_string_that_never_ends_holds_nothing_up(house: RunningServer) -> None:
    program = Bearer(house, "endless")
    begun = time.monotonic()
    status, problem = program.ask("POST", "/keys", b'"' + b'\\"' * 524_000)
    assert (status, problem["code"]) == (400, "INVALID")
    assert time.monotonic() - begun < 2


def test_a_token_cannot_send_the_real_key_elsewhere_and_the_owner_can(house: RunningServer) -> None:
    program = Bearer(house, "repointer")
    with service_at(house) as (name, key), RawUpstream(with_length(b"elsewhere")) as other:
        status, problem = program.ask("PATCH", f"/services/{name}", {"base_url": other.url})
        assert (status, problem["code"]) == (403, "NOT_PERMITTED")
        assert house.call("GET", f"/{name}/x", key).body == b"ok"
        house.manage("PATCH", f"/services/{name}", {"base_url": other.url})
        assert house.call("GET", f"/{name}/x", key).body == b"elsewhere"


def test_a_revoked_token_hears_nothing_more(house: RunningServer) -> None:
    program = Bearer(house, "listener")
    with (
        service_at(house) as (name, key),
        socket.create_connection(("127.0.0.1", house.control_port), timeout=10) as end,
    ):
        end.sendall(program.head("GET", "/events/stream"))
        received = b""
        while b"\n\r\n" not in received.partition(b"\r\n\r\n")[2]:
            received += end.recv(65536)  # the first empty line says that it follows
        house.call("GET", f"/{name}/before", key)
        while b"/before" not in received:
            received += end.recv(65536)
        house.manage("POST", f"/tokens/{program.id}/revoke", {})
        house.call("GET", f"/{name}/after", key)
        while more := end.recv(65536):
            received += more
            if received.endswith(b"0\r\n\r\n"):
                break
    assert b"/after" not in received


def test_an_idempotency_key_replays_without_the_key_even_after_a_restart() -> None:
    with RunningServer() as server, service_at(server) as (name, _):
        program = Bearer(server, "repeater")
        asked = {"service": name, "holder": "someone"}
        once = {"Idempotency_Key": "a-key-for-one-request"}
        status, first = program.ask("POST", "/keys", asked, **once)
        assert (status, first["replayed"]) == (201, False)
        server.stop()
        server.start()
        for _ in range(2):
            assert program.ask("POST", "/keys", asked, **once)[1] == {**first, "key": None, "replayed": True}
        status, problem = program.ask("POST", "/keys", {**asked, "label": "other"}, **once)
        assert (status, problem["code"]) == (409, "CONFLICT")
        assert len(server.manage("GET", f"/keys?service={name}")["items"]) == 2


# Verify


def test_a_credential_that_is_revoked_while_its_question_comes_opens_nothing(house: RunningServer) -> None:
    house.manage("POST", "/services", {"name": "shop", "own": True})
    made = house.manage("POST", "/services/shop/credential", {})
    body = json.dumps({"key": house.issue("shop").value, "method": "GET", "path": "/a"}).encode()
    with socket.create_connection(("127.0.0.1", house.gateway_port), timeout=10) as end:
        end.sendall(
            b"POST /v1/verify HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n"
            b"Content-Length: %d\r\n\r\n" % (made["credential"].encode(), len(body))
        )
        end.sendall(body[:5])
        # Served by the same loop, so the question's head has been judged when this is answered.
        assert house.call("GET", "/readyz").status == 200
        house.manage("POST", f"/services/shop/credentials/{made['id']}/revoke", {})
        end.sendall(body[5:])
        assert end.recv(65536).startswith(b"HTTP/1.1 401 ")


# Rejoining


def test_a_revoke_while_a_worker_rejoins_is_answered_when_it_is_in_force_with_what_it_cut() -> None:
    ticks = chunked(*[b"tick"] * 400, pause=0.02)
    with RunningServer() as server, service_at(server, ticks) as (name, key):
        (worker,) = server.worker_pids()
        with server.open("GET", f"/{name}/x", key) as stream:
            assert stream.recv(65536)
            os.kill(worker, signal.SIGSTOP)
            try:
                os.kill(server.control_pid, signal.SIGKILL)
                outcome: list[Any] = []

                def revoke() -> None:
                    def revoked() -> bool:
                        with suppress(OSError, http.client.HTTPException, Refused):
                            outcome.append(server.stop_key(key))
                        return bool(outcome)

                    eventually(revoked, 10)

                asking = threading.Thread(target=revoke)
                asking.start()
                eventually(lambda: control_is_back(server), 10)
                time.sleep(0.1)  # the better part of a lease is left; the revoke is waiting by now
                assert not outcome, "the worker has not heard of it"
            finally:
                os.kill(worker, signal.SIGCONT)
            asking.join(10)
            ended = server.closed_events(key, 1)[0]["end"]
            answered = tuple(outcome[0][name] for name in ("acknowledged", "fenced", "cut"))
            # On a busy machine the lease may run out first: the worker cuts the stream for it, or is fenced.
            assert (answered, ended) in (
                ((1, 0, 1), "cut_by_revoke"),
                ((1, 0, 0), "interrupted"),
                ((0, 1, 0), "interrupted"),
            )
            assert server.call("GET", f"/{name}/x", key).code == "REVOKED"
            with suppress(OSError):
                while stream.recv(65536):
                    pass


def control_is_back(server: RunningServer) -> bool:
    with suppress(OSError, http.client.HTTPException):
        return bool(server.status()["pid"])
    return False


# -- someone who can write to the home, but has no signing key


def _verdict(server: RunningServer) -> tuple[str, set[str]]:
    report = server.manage("POST", "/audit/verify")
    return report["integrity"], {problem["what"] for problem in report["problems"]}


def test_a_segment_that_nobody_announced_is_neither_read_nor_charged_nor_shown() -> None:
    with RunningServer() as server, service_at(server, with_length(b"ok")) as (name, key):
        server.call("GET", f"/{name}/real", key)
        eventually(lambda: len(server.events(key)) == 1)
        journal = server.home / "journal"
        own = sorted(journal.glob("*-w0-*.seg"))[-1]
        forged = f"{int(time.time() * 1000):020d}-w7-1"
        link, lines = hashlib.sha256(b"valetkey-journal-1" + forged.encode()).digest(), b""
        for line in own.read_bytes().replace(b'"/real"', b'"/forged"').split(b"\n")[:-1]:
            payload = line[:-65]
            link = hashlib.sha256(link + hashlib.sha256(payload).digest()).digest()
            lines += payload + b" " + link.hex().encode() + b"\n"
        (journal / f"{forged}.personal").write_bytes(own.with_suffix(".personal").read_bytes())
        (journal / f"{forged}.seg").write_bytes(lines)
        _integrity, what = eventually(lambda: (found := _verdict(server))[0] == "broken" and found)
        assert what == {"stranger"}
        assert {event["path"] for event in server.events(key)} == {"/real"}
        assert server.manage("GET", f"/usage?key={key.id}")["items"][0]["calls"] == 1


def test_personal_fields_blanked_by_hand_are_named() -> None:
    with RunningServer() as server, service_at(server, with_length(b"ok")) as (name, key):
        server.call("GET", f"/{name}/x", key)
        eventually(lambda: len(server.events(key)) == 1)
        assert _verdict(server) == ("ok", set())
        beside = sorted((server.home / "journal").glob("*-w0-*.personal"))[-1]
        first = beside.read_bytes().split(b"\n")[0]
        number = first.split(b" ")[0]
        with beside.open("r+b") as file:
            file.write(number + b" " * (len(first) - len(number)))
        integrity, what = _verdict(server)
        assert integrity == "broken" and what == {"personal removed"}
