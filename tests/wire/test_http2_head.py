"""A head in HTTP/2 is read in one way or in none, and what comes out is what HTTP/1.1 would have given."""

from __future__ import annotations

import pytest
from httptools import HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st
from second import Pairs, head

from valetkey.wire.http2_head import METHODS, Head, read_head, trailers_are_sound
from valetkey.wire.request import Fault


def read(fields: Pairs, *, ended: bool = True) -> Head | Fault:
    return read_head(fields, ended=ended)


def sound(fields: Pairs, *, ended: bool = True) -> Head:
    found = read(fields, ended=ended)
    assert isinstance(found, Head)
    return found


def without(name: bytes, fields: Pairs | None = None) -> Pairs:
    return [pair for pair in fields or head() if pair[0] != name]


NONE = {
    "no method": without(b":method"),
    "no scheme": without(b":scheme"),
    "no path": without(b":path"),
    "another scheme": [(b":scheme", b"ftp"), *without(b":scheme")],
    "empty path": head(path=b""),
    "a path that is none": head(path=b"a"),
    "an absolute form": head(path=b"http://a/b"),
    "a fragment": head(path=b"/a#b"),
    "method twice": [(b":method", b"GET"), *head()],
    "path twice": [(b":path", b"/b"), *head()],
    "authority twice": [(b":authority", b"a"), *head()],
    "an unknown pseudo field": [(b":protocol", b"websocket"), *head()],
    "one of an answer": [(b":status", b"200"), *head()],
    "a pseudo field behind others": [*without(b":path"), (b"x", b"y"), (b":path", b"/")],
    "upper case": head(b"GET", b"/", (b"X-Y", b"z")),
    "upper case in the middle": head(b"GET", b"/", (b"x-Y", b"z")),
    "no name": head(b"GET", b"/", (b"", b"z")),
    "a space in a name": head(b"GET", b"/", (b"x y", b"z")),
    "a colon in a name": head(b"GET", b"/", (b"x:y", b"z")),
    "a line break in a name": head(b"GET", b"/", (b"x\r\ny", b"z")),
    "an octet beyond ASCII in a name": head(b"GET", b"/", (b"x\xc3", b"z")),
    "a line break in a value": head(b"GET", b"/", (b"x", b"a\r\nhost: b")),
    "LF in a value": head(b"GET", b"/", (b"x", b"a\nb")),
    "NUL in a value": head(b"GET", b"/", (b"x", b"a\0b")),
    "a control byte in a value": head(b"GET", b"/", (b"x", b"a\x01b")),
    "a space before a value": head(b"GET", b"/", (b"x", b" a")),
    "a tab behind a value": head(b"GET", b"/", (b"x", b"a\t")),
    "a line break in the authority": head(authority=b"a\r\nx: y"),
    "connection": head(b"GET", b"/", (b"connection", b"close")),
    "keep-alive": head(b"GET", b"/", (b"keep-alive", b"1")),
    "proxy-connection": head(b"GET", b"/", (b"proxy-connection", b"close")),
    "transfer-encoding": head(b"POST", b"/", (b"transfer-encoding", b"chunked")),
    "upgrade": head(b"GET", b"/", (b"upgrade", b"websocket")),
    "te": head(b"GET", b"/", (b"te", b"gzip")),
    "te of two": head(b"GET", b"/", (b"te", b"trailers, gzip")),
    "an unknown expectation": head(b"GET", b"/", (b"expect", b"200-ok")),
    "another host": head(b"GET", b"/", (b"host", b"b")),
    "two hosts beside the authority": head(b"GET", b"/", (b"host", b"a"), (b"host", b"a")),
    "a length of nothing": head(b"POST", b"/", (b"content-length", b"5")),
    "connect with a path": head(b"CONNECT"),
    "connect to nobody": [(b":method", b"CONNECT")],
}


@pytest.mark.parametrize("fields", NONE.values(), ids=NONE.keys())
def test_what_is_no_request_is_read_in_no_way(fields: Pairs) -> None:
    assert read(fields) is Fault.FORM


LENGTHS = [
    b"", b"+5", b"-1", b"5, 5", b"0x5", b"1 2", b"5.0", b"\xb2", b"99999999999999999999",
]  # fmt: skip


@pytest.mark.parametrize("value", LENGTHS)
def test_a_length_that_is_none_is_refused(value: bytes) -> None:
    assert read(head(b"POST", b"/", (b"content-length", value)), ended=False) is Fault.FORM


def test_two_lengths_are_refused_even_when_they_agree() -> None:
    twice = head(b"POST", b"/", (b"content-length", b"5"), (b"content-length", b"5"))
    assert read(twice, ended=False) is Fault.FORM


@pytest.mark.parametrize(
    "path", [b"/a b", b"/\x01", b"/\xff", b"/a\r\nx", b"/a\0", b"/a\tb", b" /", b"/\x7f"]
)
def test_an_octet_that_a_target_must_not_hold_has_a_fault_of_its_own(path: bytes) -> None:
    assert read(head(path=path)) is Fault.TARGET


@pytest.mark.parametrize("method", [b"get", b"G T", b"", b"GET\xff", b"G(", b"1", b"-GET", b"TRACK", b"PRI"])
def test_a_method_that_is_none_has_one_too(method: bytes) -> None:
    assert read(head(method)) is Fault.METHOD


@pytest.mark.parametrize("method", sorted(METHODS - {b"CONNECT"}))
def test_the_methods_are_those_of_the_other_version(method: bytes) -> None:
    assert sound(head(method)).method.encode() == method
    HttpRequestParser(object()).feed_data(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n")


@pytest.mark.parametrize(
    "fields",
    [
        head(b"GET", b"/", (b"x", b"a" * 33_000)),
        head(b"GET", b"/" + b"a" * 33_000),
        head(b"GET", b"/", *((b"x%d" % n, b"a") for n in range(200))),
    ],
    ids=["value", "target", "fields"],
)
def test_a_head_is_as_large_as_in_the_other_version(fields: Pairs) -> None:
    assert read(fields) is Fault.SIZE


@pytest.mark.parametrize(
    ("path", "raw", "query"),
    [
        (b"/a%2Fb//..;x", b"/a%2Fb//..;x", b""),
        (b"/a?b=%61&c?d", b"/a", b"b=%61&c?d"),
        (b"*", b"*", b""),
        (b'/"<>^`{|}\\', b'/"<>^`{|}\\', b""),
    ],
)
def test_the_octets_of_a_path_are_kept(path: bytes, raw: bytes, query: bytes) -> None:
    found = sound(head(path=path))
    assert (found.raw_path, found.query) == (raw, query)


def test_the_authority_becomes_the_one_host() -> None:
    for fields in (head(), head(b"GET", b"/", (b"x", b"y"), (b"host", b"A"))):
        assert [value for name, value in sound(fields).headers if name == b"host"] == [b"a"]
    alone = [*without(b":authority"), (b"host", b"b"), (b"x", b"y")]
    assert sound(alone).headers == [(b"host", b"b"), (b"x", b"y")]
    assert sound(without(b":authority")).headers == []


def test_two_hosts_without_an_authority_stay_two_for_the_judge_to_refuse() -> None:
    two = [*without(b":authority"), (b"host", b"a"), (b"host", b"a")]
    assert sound(two).headers == [(b"host", b"a"), (b"host", b"a")]


def test_the_target_of_connect_is_the_authority() -> None:
    found = sound([(b":method", b"CONNECT"), (b":authority", b"b:443")])
    assert (found.method, found.raw_path) == ("CONNECT", b"b:443")


def test_crumbs_of_cookies_are_joined_where_the_first_stood() -> None:
    crumbs = head(b"GET", b"/", (b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2"), (b"cookie", b"c=3"))
    assert sound(crumbs).headers[1:] == [(b"cookie", b"a=1; b=2; c=3"), (b"x", b"y")]


def test_order_octets_and_repetition_are_kept() -> None:
    fields = head(b"GET", b"/", (b"x-b", b"\xe9"), (b"x-a", b""), (b"x-b", b"2"), (b"te", b"Trailers"))
    assert sound(fields).headers[1:] == fields[4:]


@pytest.mark.parametrize(
    ("more", "ended", "length", "expects"),
    [
        ([], True, 0, False),
        ([], False, None, False),
        ([(b"content-length", b"5")], False, 5, False),
        ([(b"content-length", b"0")], True, 0, False),
        ([(b"content-length", b"5"), (b"expect", b"100-Continue")], False, 5, True),
        ([(b"expect", b"100-continue")], True, 0, False),
    ],
)
def test_how_the_body_comes(more: Pairs, ended: bool, length: int | None, expects: bool) -> None:
    found = sound(head(b"POST", b"/", *more), ended=ended)
    assert (found.length, found.expects) == (length, expects)


@pytest.mark.parametrize(
    "trailers",
    [
        [(b":path", b"/b")],
        [(b"X", b"y")],
        [(b"x", b"a\nb")],
        [(b"transfer-encoding", b"chunked")],
        [(b"", b"")],
    ],
)
def test_trailers_that_would_be_more_than_trailers_are_not_sound(trailers: Pairs) -> None:
    assert not trailers_are_sound(trailers)
    assert trailers_are_sound([(b"x-checksum", b"1")])


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [b":method", b":path", b":scheme", b":authority", b"host", b"cookie", b"te", b"x"]
            )
            | st.binary(max_size=4),
            st.sampled_from([b"GET", b"/", b"http", b"a"]) | st.binary(max_size=6),
        ),
        max_size=8,
    ),
    st.booleans(),
)
def test_whatever_comes_what_is_read_could_stand_in_the_other_version(fields: Pairs, ended: bool) -> None:
    found = read(fields, ended=ended)
    if isinstance(found, Head):
        lines = [
            found.raw_path + b"?" + found.query,
            *(name + b": " + value for name, value in found.headers),
        ]
        assert not any(octet in line for line in lines for octet in (b"\r", b"\n", b"\0"))
        assert all(name == name.lower() and not name.startswith(b":") for name, _ in found.headers)
        assert len([name for name, _ in found.headers if name == b"cookie"]) <= 1
