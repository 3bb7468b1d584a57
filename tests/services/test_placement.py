"""Each way to put a key in puts it there, nowhere else, and never shows it."""

from __future__ import annotations

import traceback
from base64 import b64decode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from valetkey.services.placement import (
    KEY,
    AnyPlacement,
    Basic,
    Bearer,
    Header,
    InvalidPlacement,
    Place,
    Query,
    SecretRefused,
    accepted_beside,
    parse_auth,
)

WAYS: list[AnyPlacement] = [
    Bearer(),
    Bearer("token"),
    Header("x-api-key"),
    Query("appid"),
    Basic(),
    Basic("password", "me"),
]


def put(way: AnyPlacement, key: str, query: bytes = b"") -> tuple[list[tuple[str, str]], bytes]:
    headers: list[tuple[str, str]] = [("accept", "*/*")]
    query = way.put_in({KEY: key}, headers, query)
    return headers[1:], query


def test_each_way_puts_the_key_where_it_says() -> None:
    assert put(Bearer(), "k1") == ([("authorization", "Bearer k1")], b"")
    assert put(Bearer("token"), "k1") == ([("authorization", "token k1")], b"")
    assert put(Header("x-api-key"), "k1") == ([("x-api-key", "k1")], b"")
    assert put(Query("appid"), "k 1&", b"q=Berlin") == ([], b"q=Berlin&appid=k%201%26")
    assert put(Query("appid"), "k1") == ([], b"appid=k1")


@pytest.mark.parametrize(
    ("way", "parts", "pair"),
    [
        (Basic(), {KEY: "k1"}, b"k1:"),
        (Basic(), {KEY: "me:k1"}, b"me:k1"),
        (Basic("password", "me"), {KEY: "k1"}, b"me:k1"),
        (Basic("password"), {KEY: "k1", "user": "you"}, b"you:k1"),
        (Basic("password", "me"), {KEY: "schlüssel"}, "me:schlüssel".encode()),
    ],
)
def test_basic_sends_user_and_password(way: Basic, parts: dict[str, str], pair: bytes) -> None:
    headers: list[tuple[str, str]] = []
    way.put_in(parts, headers, b"")
    assert b64decode(headers[0][1].removeprefix("Basic ")) == pair


@pytest.mark.parametrize(
    ("text", "way"),
    [
        ("bearer", Bearer()),
        ("basic", Basic()),
        ("header:X-Api-Key", Header("x-api-key")),
        ("Header:Authorization", Header("authorization")),
        ("query:appid", Query("appid")),
    ],
)
def test_the_command_line_names_a_way(text: str, way: AnyPlacement) -> None:
    assert parse_auth(text) == way


@pytest.mark.parametrize(
    "text", ["", "cookie", "bearer:x", "header", "header:", "query:", "basic:me", "header:a b"]
)
def test_an_unknown_way_is_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(InvalidPlacement):
        parse_auth(text)


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "Connection",
        "Content-Length",
        "Transfer-Encoding",
        "TE",
        "Trailer",
        "Upgrade",
        "Keep-Alive",
        "Proxy-Connection",
        "Proxy-Authorization",
        "Expect",
        "Cookie",
        "Content-Type",
        "Range",
        "X-Forwarded-For",
        "X-Forwarded-Anything",
        "Forwarded",
        "X-HTTP-Method-Override",
        "X-Original-URL",
        "Accept-Encoding",
        "Sec-Fetch-Site",
        "Origin",
    ],
)
def test_a_key_never_goes_into_a_header_that_frames_or_routes(name: str) -> None:
    with pytest.raises(InvalidPlacement):
        parse_auth(f"header:{name}")


@pytest.mark.parametrize("name", [":path", "x key", "x:y", "x\r\ny", "schlüssel", "", "x" * 129])
def test_names_are_tokens(name: str) -> None:
    with pytest.raises(InvalidPlacement):
        Header(name.lower())
    with pytest.raises(InvalidPlacement):
        Query(name)


def test_a_key_never_goes_into_the_method_field() -> None:
    with pytest.raises(InvalidPlacement):
        Query("_Method")


def test_places_say_what_is_to_be_emptied() -> None:
    assert Bearer("token").places == Basic().places == {Place("header", "authorization")}
    assert Query("AppId").places == {Place("query", "appid")}


@pytest.mark.parametrize("way", WAYS, ids=repr)
@pytest.mark.parametrize("bad", ["", "a\r\nb: c", "a\nb", "a\x00b", "\x7f"])
def test_secrets_that_would_break_framing_are_refused(way: AnyPlacement, bad: str) -> None:
    with pytest.raises(SecretRefused):
        put(way, bad)


@pytest.mark.parametrize("bad", ["ключ", "clé", " k", "k "])
def test_headers_take_printable_ascii_alone(bad: str) -> None:
    for way in (Bearer(), Header("x-api-key")):
        with pytest.raises(SecretRefused):
            put(way, bad)


@pytest.mark.parametrize("way", WAYS, ids=repr)
@pytest.mark.parametrize("bad", ["SECRETPART\ud800", "SECRETPART\r\n"])
def test_no_error_shows_or_keeps_the_secret(way: AnyPlacement, bad: str) -> None:
    with pytest.raises(SecretRefused) as caught:
        put(way, bad)
    assert "SECRETPART" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1), st.binary(max_size=30))
def test_a_query_keeps_its_bytes_and_gets_one_plain_field(key: str, query: bytes) -> None:
    _, result = put(Query("appid"), key, query)
    assert result.startswith(query)
    added = result[len(query) :].removeprefix(b"&")
    assert added.startswith(b"appid=")
    assert not set(added) & set(b"&;#+ \r\n\x00")


@pytest.mark.parametrize("way", WAYS, ids=repr)
def test_a_way_survives_storage(way: AnyPlacement) -> None:
    assert msgspec.json.decode(msgspec.json.encode(way), type=AnyPlacement) == way


def test_stored_ways_are_checked_again() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"type": "header", "name": "host"}', type=AnyPlacement)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"type": "query", "name": "k", "extra": 1}', type=AnyPlacement)


def test_a_caller_puts_its_key_where_ours_goes() -> None:
    assert accepted_beside(Header("x-api-key")) == (Header("x-api-key"),)
    assert accepted_beside(Basic("password", "me")) == (Basic("user"), Basic("password"))
