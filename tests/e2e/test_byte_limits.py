"""Limits of bytes, sent and received: counted before a call, metered as they pass, cut at the limit, at every level."""

from __future__ import annotations

import http.client
import json
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from threading import Barrier, Thread
from typing import Any

import pytest

from e2e.flowing import Sink, Told
from running_server import RunningServer, ValetKey, eventually
from second_calls import SecondConnection
from standins.raw_upstream import RawUpstream, Reply, chunked, cut_short, head, with_length
from valetkey.decision.counter_layout import BYTES
from valetkey.gateway.counters_keeping import KeptCounters

pytestmark = pytest.mark.real

SPENT = "QUOTA_EXCEEDED"
KILOBYTE = b"k" * 1000


@pytest.fixture
def own_server() -> Iterator[RunningServer]:
    """One that may be stopped."""
    with RunningServer(workers=2) as server:
        yield server


def checked(server: RunningServer, key: ValetKey, size: int = 0) -> str:
    call = {"method": "POST", "path": "/a", "address": "127.0.0.1", "bytes": size}
    return str(server.manage("POST", f"/keys/{key.id}/check", call)["code"])


def received(server: RunningServer, path: str, key: ValetKey) -> tuple[int, bytes, bool]:
    """Status, what came of the body, and whether it was whole."""
    connection = server.connect()
    try:
        connection.request("GET", path, headers=key.bearer)
        response = connection.getresponse()
        body = b""
        try:
            while piece := response.read1():
                body += piece
        except (http.client.HTTPException, ConnectionError):
            return response.status, body, False
        return response.status, body, True
    finally:
        connection.close()


def test_what_is_known_before_is_refused_before_anything_leaves(server: RunningServer) -> None:
    with RawUpstream(with_length(b"ok")) as upstream:
        service = server.open_service("secret-of-sizes", base_url=upstream.url)
        key = server.issue(service, bytes=["1KB/day"])
        assert (checked(server, key, 1000), checked(server, key, 1001)) == ("VALID", SPENT)
        refused = server.call("POST", f"/{service}/a", key, body=b"x" * 1001)
        assert (refused.status, refused.code) == (403, SPENT)
        assert "1 KB a day, sent and received" in refused.json["detail"]
        assert refused.header("x-should-retry") == "false"
        assert upstream.heads == []
        assert server.call("POST", f"/{service}/a", key, body=b"x" * 900).code == "VALID"
        assert (checked(server, key, 98), checked(server, key, 99)) == ("VALID", SPENT), (
            "900 and ok are spent"
        )
        (shown,) = [s for s in server.manage("GET", f"/keys/{key.id}")["sentences"] if "KB" in s]
        assert shown == "At most 1 KB a day, sent and received."


def test_an_answer_that_does_not_fit_is_not_begun(server: RunningServer) -> None:
    with RawUpstream(
        with_length(KILOBYTE), cut_short(KILOBYTE, 1_000_000), with_length(KILOBYTE)
    ) as upstream:
        service = server.open_service("secret-of-answers", base_url=upstream.url)
        key = server.issue(service, bytes=["1500B/day"])
        path = f"/{service}/a"
        assert server.call("GET", path, key).code == "VALID"
        for _ in range(2):
            refused = server.call("GET", path, key)
            assert (refused.status, refused.code) == (403, SPENT)
            assert b"kkk" not in refused.body
        events = server.closed_events(key, 3)
        assert [(e["end"], e["code"]) for e in events[:1]] == [("cut_by_quota", SPENT)]


def test_a_stream_is_cut_at_the_limit(server: RunningServer) -> None:
    with RawUpstream(chunked(*[KILOBYTE] * 50, pause=0.002)) as upstream:
        service = server.open_service("secret-of-streams", base_url=upstream.url)
        key = server.issue(service, bytes=["10500B/hour", "1GB/month"])
        status, body, whole = received(server, f"/{service}/a", key)
        assert (status, whole) == (200, False)
        assert len(body) <= 10_500
        (event,) = server.closed_events(key, 1)
        assert event["end"] == "cut_by_quota"
        assert 8_000 < event["bytes_out"] <= 10_500
        eventually(lambda: upstream.cut == 1)
        fine = server.issue(service, bytes=["50KB/hour"])
        assert received(server, f"/{service}/a", fine) == (200, KILOBYTE * 50, True), (
            "exactly what is allowed"
        )
        assert server.call("GET", f"/{service}/a", fine).code == SPENT


def test_an_upload_in_chunks_is_cut_at_the_limit(server: RunningServer) -> None:
    with Sink() as sink:
        service = server.open_service("secret-of-uploads", base_url=sink.url)
        key = server.issue(service, bytes=["100KB/day"])
        connection = server.connect()
        pieces = (b"u" * 20_000 for _ in range(50))
        try:
            connection.request("POST", f"/{service}/a", body=pieces, headers=key.bearer, encode_chunked=True)
            response = connection.getresponse()
            assert (response.status, json.loads(response.read())["code"]) == (403, SPENT)
        except ConnectionError:
            pass  # it was still sending when it was told
        finally:
            connection.close()
        (event,) = server.closed_events(key, 1)
        assert (event["end"], event["code"]) == ("cut_by_quota", SPENT)
        assert sink.hung_up.wait(5)
        assert sink.received <= 100_000


def test_workers_together_pass_no_more_than_the_limit(server: RunningServer) -> None:
    with RawUpstream(chunked(*[b"s" * 700] * 60)) as upstream:
        service = server.open_service("secret-of-workers", base_url=upstream.url)
        key = server.issue(service, bytes=["100KB/day"])
        got: list[int] = []
        together = Barrier(8)

        def go() -> None:
            together.wait()
            for _ in range(3):
                status, body, _ = received(server, f"/{service}/a", key)
                if status == 200:
                    got.append(len(body))

        threads = [Thread(target=go) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(got) <= 100_000
        out = [e for e in server.closed_events(key, 24) if e["status"] == 200]
        assert 100_000 - 60 * 700 < sum(event["bytes_out"] for event in out) <= 100_000
        assert checked(server, key, 60 * 700) == SPENT


def test_bytes_count_at_all_that_a_key_shares(server: RunningServer) -> None:
    with RawUpstream(with_length(KILOBYTE)) as upstream:
        service = server.open_service("secret-of-shared-bytes", base_url=upstream.url)
        path = f"/{service}/a"
        ours, theirs = server.issue(service, holder="byte-holder"), server.issue(service)
        server.manage("PATCH", "/limits", {"holder": "byte-holder", "terms": {"bytes": ["2KB/day"]}})
        assert [server.call("GET", path, ours).code for _ in range(3)] == ["VALID", "VALID", SPENT]
        assert server.call("GET", path, theirs).code == "VALID"
        parent = server.issue(service, bytes=["2KB/day"])
        made = server.manage("POST", f"/keys/{parent.id}/derive", {"terms": {"bytes": ["1500B/day"]}})
        child = ValetKey(made["id"], made["key"])
        assert [server.call("GET", path, child).code for _ in range(2)] == ["VALID", SPENT]
        assert [server.call("GET", path, parent).code for _ in range(2)] == ["VALID", SPENT]
        server.change(parent, terms={"bytes": ["1GB/day"]})
        assert server.call("GET", path, parent).code == "VALID"
        server.change(parent, terms={"bytes": []})
        assert server.manage("GET", f"/keys/{parent.id}")["policy"]["limits"].get("bytes") is None


class OpenCall:
    """A call whose answer comes bit by bit."""

    def __init__(self, server: RunningServer, told: Told, place: int, path: str, key: ValetKey) -> None:
        self._told, self._place = told, place
        self.end = server.open("GET", path, key)
        self.plain: int | None = None

    def begin(self, length: int | None = None) -> OpenCall:
        self._told.begin(self._place, length)
        self.plain = length
        self._response = http.client.HTTPResponse(self.end)
        self._response.begin()
        return self

    def gets(self, size: int) -> bool:
        """Whether so many bytes that the upstream sends reach the caller. If not, the answer is broken off."""
        self._told.send(self._place, b"k" * size, plain=self.plain is not None)
        try:
            while size and (piece := self._response.read1(size)):
                size -= len(piece)
        except (http.client.HTTPException, ConnectionError):
            return False
        return not size

    def send_end(self) -> None:
        self._told.end(self._place)

    def finish(self) -> None:
        self.send_end()
        assert self._response.read() == b""

    def close(self) -> None:
        self._response.close()
        self.end.close()


@pytest.fixture
def told() -> Iterator[Told]:
    with Told() as upstream:
        yield upstream


def test_a_limit_that_is_set_counts_what_open_answers_have_moved_and_cuts_them(
    server: RunningServer, told: Told
) -> None:
    service = server.open_service("secret-of-set-while-open", base_url=told.url)
    key = server.issue(service)
    stream = OpenCall(server, told, 0, f"/{service}/a", key).begin()
    assert stream.gets(1300)
    server.change(key, terms={"bytes": ["2KB/day"]})
    assert (checked(server, key, 700), checked(server, key, 701)) == ("VALID", SPENT), "the stream is silent"
    assert stream.gets(400)
    assert (checked(server, key, 300), checked(server, key, 301)) == ("VALID", SPENT)
    assert not stream.gets(301)
    (event,) = server.closed_events(key, 1)
    assert (event["end"], event["bytes_out"]) == ("cut_by_quota", 1700)
    assert (checked(server, key, 300), checked(server, key, 301)) == ("VALID", SPENT), "counted once"


def test_a_limit_that_is_set_below_what_passed_leaves_nothing(server: RunningServer, told: Told) -> None:
    service = server.open_service("secret-of-set-too-low", base_url=told.url)
    key = server.issue(service)
    stream = OpenCall(server, told, 0, f"/{service}/a", key).begin()
    assert stream.gets(1300)
    server.change(key, terms={"bytes": ["1KB/day"]})
    assert server.call("GET", f"/{service}/a", key).code == SPENT
    assert not stream.gets(1)


def test_a_limit_that_is_tightened_cuts_what_is_open(server: RunningServer, told: Told) -> None:
    service = server.open_service("secret-of-tightened", base_url=told.url)
    key = server.issue(service, bytes=["1GB/day"])
    path = f"/{service}/a"
    stream = OpenCall(server, told, 0, path, key).begin()
    assert stream.gets(1300)
    whole = OpenCall(server, told, 1, path, key).begin(50_000)
    assert whole.gets(500)
    server.change(key, terms={"bytes": ["2KB/day"]})
    assert (checked(server, key, 200), checked(server, key, 201)) == ("VALID", SPENT), (
        "what was counted before it passed is given back"
    )
    assert not whole.gets(400)
    assert stream.gets(200)
    assert not stream.gets(1)
    server.change(key, terms={"bytes": ["3KB/day"]})
    assert (checked(server, key, 1000), checked(server, key, 1001)) == ("VALID", SPENT)


@pytest.mark.parametrize("level", ["holder", "service"])
def test_a_shared_limit_binds_what_is_open_in_all_workers(
    server: RunningServer, told: Told, level: str
) -> None:
    service = server.open_service(f"secret-of-open-{level}", base_url=told.url)
    keys = [server.issue(service, holder=f"open-{level}", label=str(i)) for i in range(2)]
    streams = [OpenCall(server, told, i, f"/{service}/a", keys[i % 2]).begin() for i in range(8)]
    assert all(stream.gets(1000) for stream in streams)
    subject = {"holder": f"open-{level}"} if level == "holder" else {"service": service}
    server.manage("PATCH", "/limits", {**subject, "terms": {"bytes": ["10KB/day"]}})
    assert (checked(server, keys[0], 2000), checked(server, keys[1], 2001)) == ("VALID", SPENT)
    for stream in streams[:4]:
        stream.finish()
    assert [stream.gets(500) for stream in streams[4:]] == [True] * 4
    assert not any(stream.gets(1) for stream in streams[4:])
    assert sum(e["bytes_out"] for key in keys for e in server.closed_events(key, 4)) == 10_000


def test_calls_that_end_while_limits_begin_count_once(server: RunningServer, told: Told) -> None:
    service = server.open_service("secret-of-ending-meanwhile", base_url=told.url)
    key = server.issue(service)
    streams = [OpenCall(server, told, i, f"/{service}/a", key).begin() for i in range(40)]
    assert all(stream.gets(100) for stream in streams)

    def end_them() -> None:
        for stream in streams:
            stream.close()

    ending = Thread(target=end_them)
    ending.start()
    server.change(key, terms={"bytes": ["1MB/day"]})
    ending.join()
    server.closed_events(key, 40)
    assert (checked(server, key, 996_000), checked(server, key, 996_001)) == ("VALID", SPENT)


def test_a_call_that_ends_while_a_limit_is_being_counted_is_recorded_after_that(
    server: RunningServer, told: Told
) -> None:
    service = server.open_service("secret-of-held-ends", base_url=told.url)
    key = server.issue(service)
    stream = OpenCall(server, told, 0, f"/{service}/a", key).begin()
    assert stream.gets(1300)
    server.change(key, terms={"bytes": ["2KB/day"]})
    with closing(sqlite3.connect(server.home / "valetkey.db")) as database:
        (block,) = database.execute("SELECT block FROM keys WHERE id = ?", (key.id,)).fetchone()
    counters = KeptCounters.open(server.home / "counters", make=False)
    try:
        before = counters.read(block)[BYTES + 1]
        counters.hold(block, [BYTES + 1], time.time())
        stream.send_end()
        stream.end.settimeout(0.3)
        with pytest.raises(TimeoutError):
            stream.end.recv(1)
        assert server.events(key)[0]["end"] is None
        counters.raise_to(block, {BYTES + 1: before})
    finally:
        counters.close()
    server.closed_events(key, 1)
    assert (checked(server, key, 700), checked(server, key, 701)) == ("VALID", SPENT)


def test_a_limit_set_while_open_cuts_streams_of_http2(server: RunningServer, told: Told) -> None:
    service = server.open_service("secret-of-set-in-http2", base_url=told.url)
    key = server.issue(service)
    bearer = (b"authorization", key.bearer["Authorization"].encode())
    with SecondConnection(server.gateway_port) as caller:
        stream = caller.open("GET", f"/{service}/a", bearer)
        told.begin(0)
        told.send(0, b"k" * 1300)
        caller.until(lambda: len(caller.bodies[stream]) == 1300)
        server.change(key, terms={"bytes": ["2KB/day"]})
        told.send(0, b"k" * 700)
        caller.until(lambda: len(caller.bodies[stream]) == 2000)
        told.send(0, b"k")
        caller.until(lambda: stream in caller.resets)
        assert len(caller.bodies[stream]) == 2000 and stream not in caller.ended


def test_an_upload_is_cut_by_a_limit_set_meanwhile(server: RunningServer) -> None:
    with Sink() as sink:
        service = server.open_service("secret-of-upload-meanwhile", base_url=sink.url)
        key = server.issue(service)
        end = server.open("POST", f"/{service}/a", key, headers={"Content-Length": "500000"})
        end.sendall(b"u" * 100_000)
        eventually(lambda: sink.received == 100_000)
        server.change(key, terms={"bytes": ["150KB/day"]})
        end.sendall(b"u" * 50_000)
        eventually(lambda: sink.received == 150_000)
        end.sendall(b"u")
        assert sink.hung_up.wait(5)
        end.close()
        assert sink.received == 150_000
        (event,) = server.closed_events(key, 1)
        assert event["end"] == "cut_by_quota"


def test_an_own_service_says_what_its_calls_move(server: RunningServer) -> None:
    server.manage("POST", "/services", {"name": "bytes-own", "own": True})
    credential = server.manage("POST", "/services/bytes-own/credential", {})["credential"]
    key = server.issue("bytes-own", bytes=["1KB/day"])

    def ask(**more: Any) -> str:
        body = json.dumps({"key": key.value, "method": "GET", "path": "/a", **more})
        return str(server.call("POST", "/v1/verify", credential, body=body).json["code"])

    assert [ask(bytes=size) for size in (600, 600, 400, 0)] == ["VALID", SPENT, "VALID", SPENT]
    assert ask(bytes=-1) == "MALFORMED"
    assert checked(server, key) == SPENT


def test_a_call_that_never_left_gives_its_bytes_back(server: RunningServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    service = server.open_service("secret-of-nowhere", base_url=f"http://127.0.0.1:{port}")
    key = server.issue(service, bytes=["1KB/day"])
    for _ in range(5):
        assert server.call("POST", f"/{service}/a", key, body=b"x" * 900).code == "UPSTREAM_FAILED"
    assert checked(server, key, 1000) == "VALID"


def test_a_body_that_breaks_off_counts_as_far_as_it_came(server: RunningServer) -> None:
    with RawUpstream(Reply((head("200 OK", "Content-Length: 2") + b"ok",))) as upstream:
        service = server.open_service("secret-of-breaking-off", base_url=upstream.url)
        key = server.issue(service, bytes=["1KB/day"])
        end = socket.create_connection(("127.0.0.1", server.gateway_port))
        lines = [f"POST /{service}/a HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {key.value}"]
        end.sendall("\r\n".join([*lines, "Content-Length: 1000", "", "x" * 100]).encode())
        eventually(lambda: server.events(key))
        assert checked(server, key) == SPENT, "all that it said it would send"
        end.close()
        (event,) = server.closed_events(key, 1)
        assert event["bytes_in"] == 100
        eventually(lambda: checked(server, key, 900) == "VALID")
        assert checked(server, key, 901) == SPENT


def test_bytes_are_counted_anew_from_the_record(own_server: RunningServer) -> None:
    server = own_server
    with RawUpstream(with_length(KILOBYTE)) as upstream:
        service = server.open_service("secret-of-the-record", base_url=upstream.url)
        path = f"/{service}/a"
        key, later = server.issue(service, bytes=["10KB/day"]), server.issue(service)
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        nowhere = server.open_service("secret", base_url=f"http://127.0.0.1:{port}")
        given_back = server.issue(nowhere, bytes=["1KB/day"])
        server.call("POST", f"/{nowhere}/a", given_back, body=b"x" * 900)
        for _ in range(3):
            assert server.call("POST", path, key, body=b"x" * 500).code == "VALID"
            assert server.call("GET", path, later).code == "VALID"
        server.change(later, terms={"bytes": ["4KB/day"]})
        assert (checked(server, later, 1000), checked(server, later, 1001)) == ("VALID", SPENT)
        server.stop()
        (server.home / "counters").unlink()
        server.start()
        assert (checked(server, key, 5500), checked(server, key, 5501)) == ("VALID", SPENT)
        assert (checked(server, later, 1000), checked(server, later, 1001)) == ("VALID", SPENT)
        assert checked(server, given_back, 1000) == "VALID"
