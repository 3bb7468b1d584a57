"""A derivation whose answer does not come is over all the same: settled, closed in the record, refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from gateway_world import GatewayWorld, MadeKey, MadeUpLine, gateway_world
from valetkey.decision.limits import Limits
from valetkey.decision.policy import Policy
from valetkey.gateway.app import Gateway
from valetkey.services.dialling import OwnListeners

Asked = Callable[[str, str, bytes], Awaitable[tuple[int, bytes]]]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[GatewayWorld]:
    with gateway_world(tmp_path) as made, mock.patch("valetkey.gateway.derive.ANSWER_SECONDS", 0.05):
        made.add_service()
        yield made


def answered_by(world: GatewayWorld, asked: Asked) -> MadeKey:
    """A gateway whose control process is `asked`; a key that may have one call open."""
    world.gateway = Gateway(world.node, own=OwnListeners(frozenset(), frozenset()), ask_control=asked)
    return world.add_key(Policy(limits=Limits(concurrency=1)))


async def never(key_id: str, call: str, body: bytes) -> tuple[int, bytes]:
    await asyncio.Event().wait()
    raise AssertionError


async def gone(key_id: str, call: str, body: bytes) -> tuple[int, bytes]:
    raise ConnectionError


async def broken(key_id: str, call: str, body: bytes) -> tuple[int, bytes]:
    raise RuntimeError("the handler is closed")


def closing(world: GatewayWorld) -> tuple[str, str | None, int | None]:
    opened, closed = world.records()[-2:]
    assert (opened["kind"], opened["code"], closed["kind"]) == ("opened", "VALID", "closed")
    assert closed["call"] == opened["call"]
    return closed["end"], closed.get("code"), closed.get("status")


@pytest.mark.parametrize("asked", [never, gone, broken])
def test_a_derivation_that_gets_no_answer_is_refused_and_holds_nothing(
    asked: Asked, world: GatewayWorld
) -> None:
    key = answered_by(world, asked)
    for _ in range(2):  # the second would be refused if the first still counted as open
        answer = world.call(key, "/v1/derive", method="POST", body=b"{}")
        assert (answer.status, answer.code) == (503, "NOT_READY")
        assert closing(world) == ("interrupted", "NOT_READY", 503)
    assert world.call(key).code == "VALID"


def test_the_control_process_learns_which_call_asks(world: GatewayWorld) -> None:
    asked: list[tuple[str, str, bytes]] = []

    async def answers(key_id: str, call: str, body: bytes) -> tuple[int, bytes]:
        asked.append((key_id, call, body))
        return 201, b"{}"

    key = answered_by(world, answers)
    assert world.call(key, "/v1/derive", method="POST", body=b"{}").status == 201
    assert closing(world) == ("complete", None, 201)
    assert asked == [(key.id, world.records()[-1]["call"], b"{}")]


def test_a_derivation_stands_in_the_record_with_its_path(world: GatewayWorld) -> None:
    key = answered_by(world, gone)
    world.call(key, "/v1/derive", method="POST", body=b"{}")
    assert world.records()[-2]["path"] == "/v1/derive"
    world.call("vk_prv_nobody", "/v1/derive", method="POST", body=b"{}")
    assert world.records()[-2]["path"] == "/v1/derive"


@pytest.mark.parametrize("path", ["/v1/derive", "/v1/verify"])
def test_valetkey_itself_is_asked_by_post_alone_and_says_so(world: GatewayWorld, path: str) -> None:
    for asker in (world.add_key(), None):
        answer = world.call(asker, path)
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
        assert answer.json["next_step"] == "Use POST."
        assert answer.json["error"]["message"].endswith("by POST. Use POST.")


def test_of_a_caller_that_left_meanwhile_the_record_does_not_say_that_it_has_a_key(
    world: GatewayWorld,
) -> None:
    line = MadeUpLine()

    async def answers(key_id: str, call: str, body: bytes) -> tuple[int, bytes]:
        request.lost()
        return 201, b"{}"

    key = answered_by(world, answers)
    request = world.request(line, key, "/v1/derive", method="POST")

    async def derive() -> None:
        world.gateway.handle(request)
        await line.over.wait()

    world.loop.run_until_complete(derive())
    assert line.written == b""
    assert closing(world) == ("client_gone", None, None)
    assert world.call(key).code == "VALID"
