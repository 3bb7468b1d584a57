"""Small things that swell, and things that do not end: they cost one call, and nobody else anything."""

from __future__ import annotations

import gzip
import os
import socket
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import cache

import pytest

from attack.target import SECRET, Target, request, target_of
from plain_calls import ask
from process_tree import resident_bytes
from running_server import RunningServer, ValetKey
from standins.raw_upstream import RawUpstream, Reply, chunked, head, with_length

pytestmark = pytest.mark.real

MEBI = 1 << 20


@cache
def swollen(wbits: int, size: int = 100 * MEBI) -> bytes:
    """Zeros, a thousand times smaller."""
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return b"".join(packer.compress(bytes(MEBI)) for _ in range(size // MEBI)) + packer.flush()


def answered(coding: str, body: bytes, status: str = "200 OK") -> Reply:
    return with_length(body, f"Content-Encoding: {coding}", status=status)


BOMBS = {
    "gzip": lambda: answered("gzip", swollen(31)),
    "x-gzip": lambda: answered("X-GZip", swollen(31)),
    "deflate": lambda: answered("deflate", swollen(15)),
    "bare deflate": lambda: answered("deflate", swollen(-15)),
    "in chunks": lambda: chunked(swollen(31)[:9000], swollen(31)[9000:], headers=("Content-Encoding: gzip",)),
    "until the end": lambda: Reply((head("200 OK", "Content-Encoding: gzip") + swollen(31),), then="close"),
    "many members": lambda: answered("gzip", gzip.compress(bytes(MEBI // 2), 9, mtime=0) * 200),
    "gzip in gzip": lambda: answered("gzip", gzip.compress(swollen(31), 9, mtime=0)),
    "gzip twice": lambda: answered("gzip, gzip", gzip.compress(swollen(31), 9, mtime=0)),
    "brotli": lambda: answered("br", bytes(50_000)),
    "zstandard": lambda: answered("zstd", bytes(50_000)),
    "an error": lambda: answered("gzip", swollen(31), status="500 Internal Server Error"),
    "a refusal": lambda: answered("gzip", swollen(31), status="403 Forbidden"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_costs_its_own_call_and_no_memory(attacked: RunningServer, bomb: str) -> None:
    (worker,) = attacked.worker_pids()
    with target_of(attacked, BOMBS[bomb](), with_length(b"fine")) as target:
        before = resident_bytes(worker)
        received = 0
        going = {"Connection": "close"}
        with (
            attacked.open("GET", f"/{target.service}/a", target.key, headers=going) as end,
            suppress(ConnectionError),
        ):
            while piece := end.recv(MEBI):
                received += len(piece)
        # As much as may be made of the first read. A gzip in a gzip is opened once.
        assert received < 32 * MEBI, received
        assert resident_bytes(worker) - before < 60 * MEBI
        assert attacked.call("GET", f"/{target.service}/a", target.key).body == b"fine"
    assert attacked.worker_pids() == [worker]


STRETCHED = {
    "zeros with some noise": lambda: stretched(160 * MEBI),
    "members without anything in them": lambda: gzip.compress(b"", mtime=0) * 150_000,
}


def stretched(size: int) -> bytes:
    """As much as may be made of as little as may be sent."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    pieces = [packer.compress(bytes(200_000) + os.urandom(1100)) for _ in range(size // 201_100)]
    return b"".join(pieces) + packer.flush()


@pytest.mark.parametrize("body", STRETCHED)
def test_an_answer_that_opens_to_much_more_leaves_others_their_turns(
    attacked: RunningServer, body: str
) -> None:
    with target_of(attacked, answered("gzip", STRETCHED[body]())) as target, target_of(attacked) as other:
        over = threading.Event()

        def read() -> None:
            with attacked.open("GET", f"/{target.service}/a", target.key) as end:
                while not end.recv(MEBI).endswith(b"0\r\n\r\n"):
                    pass
            over.set()

        reader = threading.Thread(target=read)
        reader.start()
        connection, calls = attacked.connect(), 0
        while not over.is_set():
            assert ask(connection, "GET", f"/{other.service}/a", other.key).status == 200
            calls += 1
        connection.close()
        reader.join()
    assert calls > 30, "without turns there is room for about ten"


# -- bodies of callers


def pour(target: Target, attack: bytes, piece: bytes, most: int) -> tuple[int, bytes]:
    """Send `piece` over and over behind the attack, until nobody takes it; how much went and what was said."""
    sent, said = 0, b""
    with socket.create_connection(("127.0.0.1", target.server.gateway_port), timeout=20) as end:
        end.sendall(target.fill(attack))
        with suppress(ConnectionError):
            while sent < most:
                end.sendall(piece)
                sent += len(piece)
        with suppress(ConnectionError):
            while more := end.recv(65536):
                said += more
    return sent, said


PIECE = b"10000\r\n" + b"x" * 65536 + b"\r\n"
NO_KEY = request(
    "POST /SERVICE/a HTTP/1.1", "Authorization: Bearer vk_prv_x", "Transfer-Encoding: chunked", key=False
)
ENDLESS = {
    "chunks without a key": (NO_KEY, PIECE),
    "chunks to nowhere": (NO_KEY.replace(b"SERVICE", b"nowhere"), PIECE),
    "chunks for a method that is not known": (NO_KEY.replace(b"POST", b"TRACE"), PIECE),
    "a length without a key": (NO_KEY.replace(b"Transfer-Encoding: chunked", b"Content-Length: 99999999"),
    b"x" * 65536),
    "an endless extension": (NO_KEY + b"5;a=", b"x" * 65536),
    "endless trailers": (NO_KEY + b"0\r\n", b"X: y\r\n" * 10_000),
    "an endless head": (request()[:-2], b"X: y\r\n" * 10_000),
    "an endless field": (request()[:-2] + b"X: ", b"y" * 65536),
    "an endless line": (b"GET /SERVICE/", b"y" * 65536),
    "an endless method": (b"", b"G" * 65536),
    "endless empty lines": (b"", b"\r\n" * 32768),
    "an endless question": (
        request("POST /v1/verify HTTP/1.1", "Authorization: Bearer vk_svc_x", "Transfer-Encoding: chunked",
        key=False), PIECE
    ),
    "an endless derivation": (
        request("POST /v1/derive HTTP/1.1", "Authorization: Bearer vk_prv_x", "Transfer-Encoding: chunked",
        key=False), PIECE
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def target(attacked: RunningServer) -> Iterator[Target]:
    with target_of(attacked) as made:
        yield made


@pytest.mark.parametrize(("attack", "piece"), ENDLESS.values(), ids=ENDLESS.keys())
def test_whoever_may_not_call_is_not_listened_to_for_long(
    target: Target, attack: bytes, piece: bytes
) -> None:
    (worker,) = target.server.worker_pids()
    heads, before = len(target.upstream.heads), resident_bytes(worker)
    sent, _ = pour(target, attack, piece, 200 * MEBI)
    assert sent < 16 * MEBI, "what the kernel and the goodbye take, and no more"
    assert resident_bytes(worker) - before < 20 * MEBI
    assert len(target.upstream.heads) == heads


def test_a_body_that_never_ends_is_cut_at_what_the_service_takes() -> None:
    with RunningServer(settings={"max_body_mb": 3}) as server, RawUpstream() as upstream:
        service = server.open_service(SECRET, base_url=upstream.url)
        target = Target(server, upstream, service, server.issue(service))
        sent, said = pour(
            target, request("POST /SERVICE/a HTTP/1.1", "Transfer-Encoding: chunked"), PIECE, 200 * MEBI
        )
        assert sent < 16 * MEBI
        assert said == b"" or b"TOO_LARGE" in said
        assert upstream.bodies == [], "it is whole to nobody"
        (event,) = server.closed_events(target.key, 1)
        assert event["code"] == "TOO_LARGE"
        assert server.call("GET", f"/{service}/a", ValetKey("", target.key.value)).body == b"ok"
