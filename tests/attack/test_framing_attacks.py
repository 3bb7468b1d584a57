"""Requests whose border could be seen in two places: none of them becomes two, or reaches the upstream unframed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from attack.target import Target, fields_of, request, target_of
from running_server import RunningServer

pytestmark = pytest.mark.real

INNER = b"GET /SERVICE/smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer THEKEY\r\n\r\n"
OTHER = b"GET /a HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
POST = "POST /SERVICE/a HTTP/1.1"


@pytest.fixture(scope="module")
def target(attacked: RunningServer) -> Iterator[Target]:
    with target_of(attacked) as made:
        yield made


def lengths(*headers: str, body: bytes = b"hello") -> bytes:
    return request(POST, *headers, body=body)


def chunks(body: bytes, *headers: str) -> bytes:
    return request(POST, "Transfer-Encoding: chunked", *headers, body=body)


READ_IN_NO_WAY = {
    "length and chunks": lengths("Content-Length: 5", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "chunks and length": lengths("Transfer-Encoding: chunked", "Content-Length: 5", body=b"0\r\n\r\n"),
    "length 0 and chunks": lengths("Content-Length: 0", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "two lengths": lengths("Content-Length: 5", "Content-Length: 0"),
    "the same length twice": lengths("Content-Length: 5", "Content-Length: 5"),
    "a list of lengths": lengths("Content-Length: 5, 5"),
    "a length and a comma": lengths("Content-Length: 5,"),
    "no length": lengths("Content-Length:"),
    "a blank length": lengths("Content-Length:  "),
    "a signed length": lengths("Content-Length: +5"),
    "a negative length": lengths("Content-Length: -5"),
    "a hexadecimal length": lengths("Content-Length: 0x5"),
    "a length with an exponent": lengths("Content-Length: 5e0"),
    "a length with a point": lengths("Content-Length: 5.0"),
    "a length with an underscore": lengths("Content-Length: 1_0"),
    "a length in other digits": lengths("Content-Length: ٥"),
    "a length and a word": lengths("Content-Length: 5 bytes"),
    "a length and a NUL": lengths("Content-Length: 5\0"),
    "a length after a form feed": lengths("Content-Length: \f5"),
    "a length beyond 64 bits": lengths("Content-Length: 18446744073709551621"),
    "a folded length": lengths("Content-Length:\r\n 5"),
    "a space before the colon": lengths("Content-Length : 5"),
    "a tab before the colon": lengths("Content-Length\t: 5"),
    "a space before the name": lengths("X: 1", " Content-Length: 5"),
    "a NUL in the name": lengths("Content-Length\0: 5"),
    "a NUL in the value": request("GET /SERVICE/a HTTP/1.1", "X: a\0b"),
    "no colon": request("GET /SERVICE/a HTTP/1.1", "X"),
    "no name": request("GET /SERVICE/a HTTP/1.1", ": x"),
    "a name in brackets": request("GET /SERVICE/a HTTP/1.1", "X(1): x"),
    "a name beyond ASCII": request("GET /SERVICE/a HTTP/1.1", "Contént-Length: 5"),
    "a folded field": request("GET /SERVICE/a HTTP/1.1", "X: a", " b"),
    "a field folded by a tab": request("GET /SERVICE/a HTTP/1.1", "X: a", "\tTransfer-Encoding: chunked"),
    "a bare LF between fields": request("GET /SERVICE/a HTTP/1.1", "X: a\nContent-Length: 5"),
    "a bare CR between fields": request("GET /SERVICE/a HTTP/1.1", "X: a\rContent-Length: 5"),
    "a CR before the line's end": request("GET /SERVICE/a HTTP/1.1", "X: a\r"),
    "lines that end with LF alone": request().replace(b"\r\n", b"\n"),
    "a head that ends with LF alone": request().removesuffix(b"\r\n") + b"\n",
    "an unknown coding": chunks(b"0\r\n\r\n").replace(b": chunked", b": xchunked"),
    "chunks under another coding": chunks(b"0\r\n\r\n").replace(b": chunked", b": gzip, chunked"),
    "chunks twice": chunks(b"0\r\n\r\n", "Transfer-Encoding: chunked"),
    "chunks and identity": chunks(b"0\r\n\r\n", "Transfer-Encoding: identity"),
    "chunks in quotes": chunks(b"0\r\n\r\n").replace(b": chunked", b': "chunked"'),
    "chunks with a parameter": chunks(b"0\r\n\r\n").replace(b": chunked", b": chunked;q=1"),
    "chunks after a vertical tab": chunks(b"0\r\n\r\n").replace(b": chunked", b": \x0bchunked"),
    "chunks and a comma": chunks(b"0\r\n\r\n").replace(b": chunked", b": ,chunked"),
    "chunks on a folded line": chunks(b"0\r\n\r\n").replace(b": chunked", b":\r\n chunked"),
    "no coding": chunks(b"0\r\n\r\n").replace(b": chunked", b":"),
    "chunks in HTTP/1.0": chunks(b"0\r\n\r\n").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "HTTP/0.9": b"GET /SERVICE/a\r\n",
    "HTTP/1.2": request("GET /SERVICE/a HTTP/1.2"),
    "HTTP/2.0": request("GET /SERVICE/a HTTP/2.0"),
    "HTTP/1.10": request("GET /SERVICE/a HTTP/1.10"),
    "HTTP/01.1": request("GET /SERVICE/a HTTP/01.1"),
    "HTTP/1": request("GET /SERVICE/a HTTP/1"),
    "HTTP/1,1": request("GET /SERVICE/a HTTP/1,1"),
    "http/1.1": request("GET /SERVICE/a http/1.1"),
    "no version": request("GET /SERVICE/a HTTP/"),
    "a word behind the version": request("GET /SERVICE/a HTTP/1.1 x"),
    "another protocol": request("GET /SERVICE/a ICE/1.1"),
    "a tab for a space": request("GET\t/SERVICE/a HTTP/1.1"),
    "a tab before the version": request("GET /SERVICE/a\tHTTP/1.1"),
    "a space before the method": b" " + request(),
    "a record of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "an unknown expectation": lengths("Content-Length: 5", "Expect: 200-ok"),
    "two expectations": lengths("Content-Length: 5", "Expect: 100-continue, x"),
}  # fmt: skip


@pytest.mark.parametrize("attack", READ_IN_NO_WAY.values(), ids=READ_IN_NO_WAY.keys())
def test_what_could_be_read_in_two_ways_ends_the_connection_with_one_refusal(
    target: Target, attack: bytes
) -> None:
    before = len(target.upstream.heads)
    said = target.send(attack + INNER)
    assert [(one.status, one.code) for one in said] in (
        [(400, "MALFORMED")], [(400, "PATH_REFUSED")], [(405, "METHOD_REFUSED")],
    )  # fmt: skip
    assert len(target.upstream.heads) == before


BROKEN_BODIES = {
    "no size": chunks(b"\r\nhello\r\n0\r\n\r\n"),
    "a size that is no number": chunks(b"zz\r\nhello\r\n0\r\n\r\n"),
    "a size with a prefix": chunks(b"0x5\r\nhello\r\n0\r\n\r\n"),
    "a signed size": chunks(b"+5\r\nhello\r\n0\r\n\r\n"),
    "a negative size": chunks(b"-5\r\nhello\r\n0\r\n\r\n"),
    "a space before the size": chunks(b" 5\r\nhello\r\n0\r\n\r\n"),
    "a space behind the size": chunks(b"5 \r\nhello\r\n0\r\n\r\n"),
    "a size that ends with LF": chunks(b"5\nhello\r\n0\r\n\r\n"),
    "a size that ends with CR": chunks(b"5\rhello\r\n0\r\n\r\n"),
    "a size beyond 64 bits": chunks(b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    "data longer than its size": chunks(b"5\r\nhelloX\r\n0\r\n\r\n"),
    "data that ends with LF": chunks(b"5\r\nhello\n0\r\n\r\n"),
    "data that ends with CR": chunks(b"5\r\nhello\r0\r\n\r\n"),
    "no line behind the data": chunks(b"5\r\nhello0\r\n\r\n"),
    "an extension with a bare LF": chunks(b"5;a=\nb\r\nhello\r\n0\r\n\r\n"),
    "an extension with a bare CR": chunks(b"5;a=\rb\r\nhello\r\n0\r\n\r\n"),
    "an extension with a NUL": chunks(b"5;a=\0b\r\nhello\r\n0\r\n\r\n"),
    "an extension whose quotes hold a line": chunks(b'5;a="\r\n"\r\nhello\r\n0\r\n\r\n'),
    "a trailer without a colon": chunks(b"5\r\nhello\r\n0\r\nX\r\n\r\n"),
    "a trailer with a bare LF": chunks(b"5\r\nhello\r\n0\r\nX: a\nY: b\r\n\r\n"),
    "a trailer with a space before its colon": chunks(b"5\r\nhello\r\n0\r\nX : a\r\n\r\n"),
    "a folded trailer": chunks(b"5\r\nhello\r\n0\r\nX: a\r\n b\r\n\r\n"),
    "a trailer with a NUL": chunks(b"5\r\nhello\r\n0\r\nX: a\0\r\n\r\n"),
    "a trailer that names a length": chunks(b"5\r\nhello\r\n0\r\nContent-Length: 99\r\n\r\n"),
    "a trailer that names a coding": chunks(b"5\r\nhello\r\n0\r\nTransfer-Encoding: gzip\r\n\r\n"),
    "a last chunk that ends with LF": chunks(b"5\r\nhello\r\n0\n\r\n"),
    "an end with LF alone": chunks(b"5\r\nhello\r\n0\r\n\n"),
}


@pytest.mark.parametrize("attack", BROKEN_BODIES.values(), ids=BROKEN_BODIES.keys())
def test_a_body_whose_end_is_in_doubt_is_whole_to_nobody_and_nothing_behind_it_is_read(
    target: Target, attack: bytes
) -> None:
    whole, begun = len(target.upstream.bodies), len(target.upstream.heads)
    said = target.send(attack + INNER)
    assert [one.code for one in said] in ([], ["MALFORMED"])
    assert target.upstream.bodies[whole:] == []
    assert target.upstream.targets[begun:] in ([], [b"/a"])


HARMLESS_BODIES = {
    "leading zeros": (lengths("Content-Length: 0005"), b"hello"),
    "a size with leading zeros": (chunks(b"0005\r\nhello\r\n0\r\n\r\n"), b"hello"),
    "a size in capitals": (chunks(b"A\r\n0123456789\r\n0\r\n\r\n"), b"0123456789"),
    "an extension": (chunks(b"5;a=b;c=\"d\"\r\nhello\r\n0\r\n\r\n"), b"hello"),
    "a coding in capitals": (chunks(b"5\r\nhello\r\n0\r\n\r\n").replace(b": chunked", b": CHUNKED"), b"hello"),
    "a trailer that names a key": (
        chunks(b"5\r\nhello\r\n0\r\nAuthorization: Bearer evil\r\nHost: evil\r\nX-Evil: 1\r\n\r\n"),
        b"hello",
    ),
    "a request in a body": (lengths(f"Content-Length: {len(OTHER)}", body=OTHER), OTHER),
    "a request in a chunk": (chunks(b"%x\r\n%b\r\n0\r\n\r\n" % (len(OTHER), OTHER)), OTHER),
    "a body under GET": (request("GET /SERVICE/a HTTP/1.1", "Content-Length: 5", body=b"hello"), b"hello"),
    "a body under HTTP/1.0": (
        request("POST /SERVICE/a HTTP/1.0", "Content-Length: 5", "Connection: keep-alive", body=b"hello"), b"hello"
    ),
    "a body behind an offer of another protocol": (
        lengths("Content-Length: 5", "Connection: Upgrade", "Upgrade: h2c"), b"hello",
    ),
    "chunks behind an offer of another protocol": (
        chunks(b"5\r\nhello\r\n0\r\n\r\n", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA"),
        b"hello",
    ),
    "empty lines before the request": (b"\r\n\r\n" + lengths("Content-Length: 5"), b"hello"),
    "another header that looks like a length": (
        lengths("Content_Length: 99", "X-Content-Length: 99", "Content-Length: 5"), b"hello",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("attack", "body"), HARMLESS_BODIES.values(), ids=HARMLESS_BODIES.keys())
def test_a_body_that_can_be_read_in_one_way_arrives_framed_anew_and_what_follows_is_the_next_request(
    target: Target, attack: bytes, body: bytes
) -> None:
    before = len(target.upstream.heads)
    said = target.send(attack)
    assert [(one.status, one.code) for one in said] == [(200, None), (200, None)]
    assert len(target.upstream.heads) == before + 1
    framing = [
        pair
        for pair in fields_of(target.upstream.heads[-1])
        if pair[0] in (b"content-length", b"transfer-encoding")
    ]
    assert framing in ([(b"content-length", b"%d" % len(body))], [(b"transfer-encoding", b"chunked")])
    assert body in target.upstream.bodies[-1]
    assert b"evil" not in target.upstream.heads[-1] + target.upstream.bodies[-1]


LENIENT = {
    "two spaces": request("GET  /SERVICE/a HTTP/1.1"),
    "two spaces before the version": request("GET /SERVICE/a  HTTP/1.1"),
    "another protocol of the same form": request("GET /SERVICE/a RTSP/1.1"),
    "HTTP/1.0": request("GET /SERVICE/a HTTP/1.0", "Connection: keep-alive"),
    "blanks around a value": request("GET /SERVICE/a HTTP/1.1", "X: \t a \t "),
}
"""Not as RFC 9112 writes it, and still with one reading."""


@pytest.mark.parametrize("attack", LENIENT.values(), ids=LENIENT.keys())
def test_a_request_line_that_is_only_untidy_arrives_tidy(target: Target, attack: bytes) -> None:
    before = len(target.upstream.heads)
    assert [one.status for one in target.send(attack)] == [200, 200]
    assert [head.split(b"\r\n")[0] for head in target.upstream.heads[before:]] == [b"GET /a HTTP/1.1"]


def test_what_is_no_http_is_a_bad_request_however_often_it_comes(attacked: RunningServer) -> None:
    said = {attacked.raw(b"GET /a HTTP/9.9\r\n\r\n").split()[1] for _ in range(40)}
    assert said == {b"400"}, "the first are recorded one by one, the rest is counted"


def test_the_upstream_got_exactly_one_request_for_each_accepted_record(target: Target) -> None:
    target.send(request())
    target.assert_one_request_each()
