"""The raw upstream records what it got byte for byte, and sends what its script says."""

from __future__ import annotations

import gzip
import socket
import time
from contextlib import suppress

import pytest

from standins.raw_upstream import RawUpstream, Reply, chunked, cut_short, gzipped, head, silent, with_length


def exchange(upstream: RawUpstream, *requests: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", upstream.port), timeout=10) as end:
        for request in requests:
            end.sendall(request)
        # Where a reset is here already there is nothing left to shut down; the read says so.
        with suppress(OSError):
            end.shutdown(socket.SHUT_WR)
        received = b""
        while more := end.recv(65536):
            received += more
        return received


GET = b"GET /a%2Fb//..;x?q=%61&&z HTTP/1.1\r\nHost: h\r\nX-Odd:  two  \r\n\r\n"


def test_heads_are_recorded_as_they_came() -> None:
    with RawUpstream() as upstream:
        assert exchange(upstream, GET).endswith(b"\r\n\r\nok")
        assert upstream.heads == [GET]
        assert upstream.targets == [b"/a%2Fb//..;x?q=%61&&z"]


def test_bodies_are_recorded_with_their_framing() -> None:
    plain = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"
    framed = b"3;x=1\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n"
    with RawUpstream() as upstream:
        exchange(upstream, plain)
        exchange(upstream, b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + framed)
        assert upstream.bodies == [b"hello", framed]


def test_one_reply_a_request_and_the_last_one_over_and_over() -> None:
    with RawUpstream(with_length(b"one"), with_length(b"two")) as upstream:
        answers = [exchange(upstream, GET)[-3:] for _ in range(3)]
        assert answers == [b"one", b"two", b"two"]


def test_chunks_and_trailers_come_as_written() -> None:
    with RawUpstream(chunked(b"ab", b"cde", trailers=("X-Sum: 5",))) as upstream:
        body = exchange(upstream, GET).split(b"\r\n\r\n", 1)[1]
        assert body == b"2\r\nab\r\n3\r\ncde\r\n0\r\nX-Sum: 5\r\n\r\n"


def test_chunks_can_be_slow() -> None:
    with RawUpstream(chunked(b"a", b"b", pause=0.1)) as upstream:
        begun = time.monotonic()
        exchange(upstream, GET)
        assert time.monotonic() - begun >= 0.2


def test_it_compresses_unasked() -> None:
    with RawUpstream(gzipped(b"hello" * 100)) as upstream:
        start, body = exchange(upstream, GET).split(b"\r\n\r\n", 1)
        assert b"Content-Encoding: gzip" in start
        assert gzip.decompress(body) == b"hello" * 100


def test_it_hangs_up_early() -> None:
    with RawUpstream(cut_short(b"half", 8)) as upstream:
        assert exchange(upstream, GET).endswith(b"\r\n\r\nhalf")
    with RawUpstream(silent(0.01)) as upstream:
        assert exchange(upstream, GET) == b""


def test_it_resets() -> None:
    with RawUpstream(Reply((), then="reset")) as upstream, pytest.raises(ConnectionResetError):
        exchange(upstream, GET)


def test_it_answers_before_the_body_is_there() -> None:
    early = Reply((head("413 Content Too Large", "Content-Length: 0"),), then="close", read_body=False)
    with RawUpstream(early) as upstream:
        assert b"413" in exchange(upstream, b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n")
        assert upstream.bodies == []


def test_a_caller_that_leaves_in_the_middle_is_counted() -> None:
    with RawUpstream() as upstream:
        exchange(upstream, b"POST / HTTP/1.1\r\nContent-Length: 500\r\n\r\nonly this")
        deadline = time.monotonic() + 5
        while not upstream.cut and time.monotonic() < deadline:
            time.sleep(0.005)
        assert upstream.cut == 1
