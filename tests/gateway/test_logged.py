"""The journal keeps no key that a caller put anywhere, however it was written, and nothing of any length."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from valetkey.gateway.logged import (
    MAX_LOGGED,
    MAX_NAME,
    MAX_NAMES,
    free_text,
    header_text,
    masked,
    query_names,
)
from valetkey.keys.format import generate
from valetkey.keys.kinds import KeyKind

KEY = generate("vk", KeyKind.PRIVATE, os.urandom).reveal_text()
BODY = KEY.split("_", 2)[2]
PARTS = [BODY[place : place + 12] for place in range(len(BODY) - 12)]


def percent(text: str) -> str:
    """Every octet encoded."""
    return "".join(f"%{byte:02X}" for byte in text.encode())


def names_of(text: str) -> str:
    return " ".join(query_names(text.encode()))


@pytest.mark.parametrize(
    "kept",
    [
        lambda key: masked(f"/a/{key}/b"),
        lambda key: masked("/" + "p" * (MAX_LOGGED - 40) + f"/{key}"),
        lambda key: names_of(f"a=1&{key}=2"),
        lambda key: names_of("y" * 30 + f"{key}=1"),
        lambda key: names_of(key.replace("_", "%5F") + "=1"),
        lambda key: names_of(percent(key)),
        lambda key: names_of(f"{key}%5B%5D=1"),
        lambda key: free_text(key),
        lambda key: free_text("A" * (MAX_LOGGED - 40) + key),
        lambda key: header_text(key.encode()),
        lambda key: header_text(b"x" * (MAX_LOGGED - 20) + key.encode()),
        lambda key: header_text(f"https://a.example/{key}?q".encode(), without_query=True),
    ],
)
def test_no_piece_of_a_key_is_kept(kept: Callable[[str], str | None]) -> None:
    shown = kept(KEY)
    assert shown is not None
    assert not [part for part in PARTS if part in shown]


def test_paths_texts_and_headers_are_shortened() -> None:
    long = "/" + "p" * 8000
    shown = [masked(long), free_text(long), header_text(long.encode())]
    assert [text is not None and len(text) <= MAX_LOGGED for text in shown] == [True] * 3
    assert masked("/short") == "/short"


def test_names_of_a_query_are_few_short_and_without_values() -> None:
    query = "&".join(f"{number:02}{'q' * 60}=secret-value" for number in range(200))
    names = query_names(query.encode())
    assert len(names) == MAX_NAMES
    assert max(map(len, names)) <= MAX_NAME
    assert not [name for name in names if "value" in name]


def test_names_are_kept_as_they_are_meant() -> None:
    assert query_names(b"b=1&%61%5Bx%5D=2&&=3&b=4") == ("a[x]", "b")


@pytest.mark.parametrize("steering", ["\x1b[2J", "\u202e", "\x00", "\x9b31m", "\r\n"])
def test_nothing_that_steers_a_terminal_is_kept(steering: str) -> None:
    shown = free_text(f"a{steering}b")
    assert shown is not None and shown.isprintable()
    assert all(name.isprintable() for name in query_names(f"a{percent(steering)}b=1".encode()))
    assert (header_text(f"a{steering}b".encode()) or "").isprintable()


def test_nothing_stays_nothing() -> None:
    assert (free_text(None), header_text(None), query_names(b"")) == (None, None, ())
