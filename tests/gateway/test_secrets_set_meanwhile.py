"""A secret that is set or retired while answers are open is masked in them from the next byte on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway_world import REAL_KEY, WALL, Answered, GatewayWorld, gateway_world, secret_of
from valetkey.gateway.facts import SecretFact, SecretVersion
from valetkey.gateway.scrub import Needles, Scrubber

NEW_KEY = "newer-key-" + "N" * 24
OLD = SecretVersion("ver_old", {"key": REAL_KEY})
NEW = SecretVersion("ver_new", {"key": NEW_KEY})
PLACE = ("svc_weather", "env_1", "default")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[GatewayWorld]:
    with gateway_world(tmp_path) as made:
        made.add_service()
        yield made


class SlowAnswer:
    """An answer whose pieces come one by one; `step` happens before each but the first."""

    def __init__(self, *pieces: bytes, step: Any) -> None:
        self._left = list(pieces)
        self._step = step
        self._begun = False
        self.status = 200
        self.headers = [(b"content-type", b"text/plain")]
        self.length = self.coding = None
        self.whole = False

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        if self._begun:
            self._step()
        self._begun = True
        return self._left.pop(0) if self._left else b""

    def close(self) -> None:
        """Nothing is held."""


def answered(world: GatewayWorld, answer: Any, before: Any = lambda: None) -> Answered:
    """A call to an upstream that answers so; `before` happens while its head is awaited."""

    async def send(*_: Any, **__: Any) -> Any:
        before()
        return answer

    world.upstream().send = send  # type: ignore[method-assign]
    return world.call(world.add_key())


def rotated(world: GatewayWorld) -> Any:
    return lambda: world.apply(SecretFact(*PLACE, (NEW,), (OLD,)))


def test_a_key_that_is_set_while_an_answer_is_open_is_masked_in_the_rest_of_it(world: GatewayWorld) -> None:
    text = f"{REAL_KEY} {NEW_KEY}".encode()
    answer = answered(world, SlowAnswer(b"begun ", text, step=rotated(world)))
    assert answer.body == b"begun " + b"*" * len(REAL_KEY) + b" " + b"*" * len(NEW_KEY)


def test_a_key_that_is_set_before_the_answer_begins_is_masked_in_its_headers(world: GatewayWorld) -> None:
    late = SlowAnswer(NEW_KEY.encode(), step=lambda: None)
    late.headers.append((b"etag", NEW_KEY.encode()))
    answer = answered(world, late, before=rotated(world))
    assert (answer.headers["etag"], answer.body) == ("*" * len(NEW_KEY), b"*" * len(NEW_KEY))


def test_what_was_held_back_is_not_lost_when_the_needles_change(world: GatewayWorld) -> None:
    half = len(REAL_KEY) // 2
    pieces = (b"a" + REAL_KEY[:half].encode(), REAL_KEY[half:].encode() + b"z")
    assert answered(world, SlowAnswer(*pieces, step=rotated(world))).body == (
        b"a" + b"*" * len(REAL_KEY) + b"z"
    )
    # And a beginning that turned out to be none is handed on.
    pieces = (b"a" + NEW_KEY[:half].encode(), b"!")
    assert answered(world, SlowAnswer(*pieces, step=rotated(world))).body == (
        b"a" + NEW_KEY[:half].encode() + b"!"
    )


def test_needles_exchanged_in_the_middle_of_a_masked_stretch_keep_it_masked() -> None:
    scrubber = Scrubber(Needles([b"abcabc", b"cabcab"]))
    out = scrubber.feed(b"xabcabc")
    scrubber.needles = Needles([b"abcabc", b"cabcab", b"0123456789"])
    out += scrubber.feed(b"ab-01234") + scrubber.feed(b"56789-") + scrubber.finish()
    assert out == b"x********-**********-"


def test_a_retired_secret_is_masked_and_used_no_more(world: GatewayWorld) -> None:
    key = world.add_key()
    entry = world.index.get(key.id)
    assert entry is not None
    rotated(world)()
    assert world.index.secret(entry, WALL) == NEW
    assert world.index.secrets_of("svc_weather") == [NEW, OLD]
    world.apply(SecretFact(*PLACE, (), (NEW, OLD)))
    assert world.index.secret(entry, WALL) is None
    assert world.call(key).code == "SECRET_UNAVAILABLE"
    world.apply(secret_of("svc_weather", NEW_KEY), SecretFact(*PLACE, (NEW,), ()))
    assert world.index.secrets_of("svc_weather") == [NEW]


def test_an_answer_that_echoes_a_retired_key_is_masked(world: GatewayWorld) -> None:
    rotated(world)()
    answer = answered(world, SlowAnswer(f"cached: {REAL_KEY}".encode(), step=lambda: None))
    assert answer.body == b"cached: " + b"*" * len(REAL_KEY)
