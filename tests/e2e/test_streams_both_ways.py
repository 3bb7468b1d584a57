"""Streams pass as they come, both ways, in flat memory; who leaves cancels, who does not read makes the other wait."""

from __future__ import annotations

import hashlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from e2e.flowing import LARGE, MEGABYTE, PIECE, Sink, Source
from process_tree import resident_bytes
from running_server import RunningServer, eventually
from standins.raw_upstream import RawUpstream, chunked
from valetkey.demo.standin import OpenAIStandIn

pytestmark = pytest.mark.real

GROWTH = 60 * MEGABYTE

ENDLESS = json.dumps(
    {"model": "standin-endless", "messages": [{"role": "user", "content": "x"}], "stream": True}
).encode()


class MemoryWatch:
    """The most that each worker has held since the watch began, above what it held then."""

    def __init__(self, pids: list[int]) -> None:
        self._before = {pid: resident_bytes(pid) for pid in pids}
        self._most = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def growth(self) -> int:
        return self._most

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            grown = [resident_bytes(pid) - before for pid, before in self._before.items()]
            self._most = max(self._most, *grown)


def pieces(size: int) -> Iterator[bytes]:
    """The pattern that the stand-in's files hold, `size` bytes of it."""
    for start in range(0, size, len(PIECE)):
        yield PIECE[: min(len(PIECE), size - start)]


def pattern_digest(size: int) -> str:
    digest = hashlib.sha256()
    for piece in pieces(size):
        digest.update(piece)
    return digest.hexdigest()


def test_events_arrive_as_they_are_sent(server: RunningServer, openai_api: OpenAIStandIn) -> None:
    key = server.issue("openai")
    delays = []
    with server.open("POST", "/openai/v1/chat/completions", key, ENDLESS) as end:
        lines = end.makefile("rb")
        while len(delays) < 20:
            line = lines.readline()
            if b'"content":"' in line and b'"content":""' not in line:
                sent = float(json.loads(line.removeprefix(b"data: "))["choices"][0]["delta"]["content"])
                delays.append(time.time() - sent)
    # a loaded machine may delay one; buffering would delay them all
    assert sorted(delays)[len(delays) // 2] < 0.1
    assert max(delays) < 1.0


def test_chunks_of_an_answer_pass_one_by_one(server: RunningServer) -> None:
    with RawUpstream(chunked(b"one", b"two", b"three", pause=0.15)) as upstream:
        service = server.open_service("secret-of-the-chunks", base_url=upstream.url)
        key = server.issue(service)
        connection = server.connect()
        connection.request("GET", f"/{service}/chunks", headers=key.bearer)
        response = connection.getresponse()
        assert response.headers["transfer-encoding"] == "chunked"
        arrived = []
        while piece := response.read1(100):
            arrived.append((piece, time.monotonic()))
        connection.close()
        assert [piece for piece, _ in arrived] == [b"one", b"two", b"three"]
        assert arrived[2][1] - arrived[0][1] > 0.2


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_large_upload_passes_in_flat_memory(server: RunningServer, framing: str) -> None:
    with Sink() as sink, MemoryWatch(server.worker_pids()) as memory:
        # OpenAI's preset accepts files of that size; a service of no preset would not
        service = server.open_service("secret-of-the-sink", preset="openai", base_url=sink.url)
        key = server.issue(service)
        connection = server.connect()
        headers = {**key.bearer, "Content-Type": "application/octet-stream"}
        if framing == "length":
            headers["Content-Length"] = str(LARGE)
        connection.request(
            "POST",
            f"/{service}/v1/files",
            body=pieces(LARGE),
            headers=headers,
            encode_chunked=framing == "chunked",
        )
        assert connection.getresponse().read() == b"ok"
        connection.close()
        assert sink.received == LARGE
        assert sink.digest.hexdigest() == pattern_digest(LARGE)
        assert sink.chunked == (framing == "chunked")
    assert memory.growth < GROWTH
    assert server.closed_events(key, 1)[0]["bytes_in"] == LARGE


def test_a_large_download_passes_in_flat_memory(server: RunningServer) -> None:
    key = server.issue("openai")
    digest = hashlib.sha256()
    with MemoryWatch(server.worker_pids()) as memory:
        connection = server.connect()
        connection.request("GET", f"/openai/v1/files/file-standin-{LARGE}/content", headers=key.bearer)
        response = connection.getresponse()
        assert response.headers["content-length"] == str(LARGE)
        while piece := response.read1(1 << 18):
            digest.update(piece)
        connection.close()
    assert digest.hexdigest() == pattern_digest(LARGE)
    assert memory.growth < GROWTH
    (event,) = server.closed_events(key, 1)
    assert (event["bytes_out"], event["end"]) == (LARGE, "complete")


def test_a_large_chunked_download_passes_whole(server: RunningServer) -> None:
    parts = [bytes([number]) * 40_000 for number in range(100)]
    with RawUpstream(chunked(*parts)) as upstream:
        service = server.open_service("secret-of-the-chunks", base_url=upstream.url)
        key = server.issue(service)
        assert server.call("GET", f"/{service}/large", key).body == b"".join(parts)


def test_a_range_passes_where_the_catalogue_names_media(server: RunningServer) -> None:
    key = server.issue("openai")
    path = "/openai/v1/files/file-standin-100000/content"
    answer = server.call("GET", path, key, headers={"Range": "bytes=70000-70003"})
    assert answer.status == 206
    assert answer.body == bytes((70000 + step) % 256 for step in range(4))


def test_a_caller_that_leaves_cancels_the_upstream(server: RunningServer, openai_api: OpenAIStandIn) -> None:
    key = server.issue("openai")
    before = openai_api.open_streams
    ends = [server.open("POST", "/openai/v1/chat/completions", key, ENDLESS) for _ in range(8)]
    eventually(lambda: openai_api.open_streams == before + 8)
    for end in ends:
        end.recv(100)
        end.close()
    eventually(lambda: openai_api.open_streams == before, 1.0)
    assert {event["end"] for event in server.closed_events(key, 8)} == {"client_gone"}


def test_a_caller_that_leaves_before_the_answer_cancels_the_upstream(server: RunningServer) -> None:
    with Sink() as sink:
        service = server.open_service("secret-of-the-sink", base_url=sink.url)
        key = server.issue(service)
        end = server.open("POST", f"/{service}/a", key, headers={"Content-Length": "1000000"})
        end.sendall(b"x" * 200_000)
        eventually(lambda: sink.received == 200_000)
        end.close()
        assert sink.hung_up.wait(1.0)
    assert server.closed_events(key, 1)[0]["end"] == "client_gone"


def test_an_upload_that_breaks_off_is_never_ended_as_if_it_were_whole(server: RunningServer) -> None:
    with Sink() as sink:
        service = server.open_service("secret-of-the-sink", base_url=sink.url)
        key = server.issue(service)
        end = server.open("POST", f"/{service}/a", key, headers={"Transfer-Encoding": "chunked"})
        end.sendall(b"5\r\nhello\r\n")
        eventually(lambda: sink.received == 5)
        end.close()
        assert sink.hung_up.wait(1.0)


def stands_still(look: Callable[[], int], seconds: float = 10.0) -> int:
    """The value once it has not changed for 0.4 s."""
    deadline = time.monotonic() + seconds
    value, since = look(), time.monotonic()
    while time.monotonic() - since < 0.4:
        assert time.monotonic() < deadline, "it never stood still"
        time.sleep(0.02)
        now = look()
        if now != value:
            value, since = now, time.monotonic()
    return value


def test_a_caller_that_does_not_read_makes_the_upstream_wait(server: RunningServer) -> None:
    with Source() as source:
        service = server.open_service("secret-of-the-source", base_url=source.url)
        key = server.issue(service)
        with server.open("GET", f"/{service}/large", key, receive_buffer=65_536):
            eventually(lambda: source.sent > 0)
            assert stands_still(lambda: source.sent) < 10 * MEGABYTE


def test_an_upstream_that_does_not_read_makes_the_caller_wait(server: RunningServer) -> None:
    with Sink() as sink:
        sink.reading.clear()
        service = server.open_service("secret-of-the-sink", base_url=sink.url)
        key = server.issue(service)
        end = server.open("POST", f"/{service}/a", key, headers={"Content-Length": str(50 * MEGABYTE)})
        sent = 0

        def push() -> None:
            nonlocal sent
            with suppress(OSError):
                while sent < 50 * MEGABYTE:
                    sent += end.send(PIECE[:100_000])

        thread = threading.Thread(target=push, daemon=True)
        thread.start()
        eventually(lambda: sent > 0)
        # what waits in four kernels' buffers and the gateway, far from the whole
        assert stands_still(lambda: sent) < 20 * MEGABYTE
        sink.reading.set()
        thread.join(20)
        response = http.client.HTTPResponse(end)
        response.begin()
        assert response.read() == b"ok"
        end.close()
        assert sink.received == 50 * MEGABYTE


def test_calls_on_a_kept_connection_leave_nothing_behind(server: RunningServer) -> None:
    """Each call once held 8 KB until its connection closed: hours, for a client with a pool."""
    key = server.issue("openai", rate="100000/s", concurrency=100)
    connection = http.client.HTTPConnection("127.0.0.1", server.gateway_port, timeout=10)

    def call(times: int) -> None:
        for _ in range(times):
            connection.request("GET", "/openai/v1/models", headers={"Authorization": f"Bearer {key.value}"})
            response = connection.getresponse()
            assert response.status == 200
            response.read()

    call(500)
    before = sum(resident_bytes(pid) for pid in server.worker_pids())
    call(4_000)
    grown = sum(resident_bytes(pid) for pid in server.worker_pids()) - before
    connection.close()
    assert grown < 8_000_000, f"4,000 calls left {grown:,} bytes"
