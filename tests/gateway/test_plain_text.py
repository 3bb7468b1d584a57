"""A key that comes in plain text to a port that speaks TLS: refused, recorded with whose it is, noted as exposed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway_world import REAL_KEY, Answered, GatewayWorld, MadeKey, MadeUpLine, gateway_world
from valetkey.services.placement import Query
from valetkey.wire.request import Fault

ELSEWHERE = "203.0.113.9"


def in_plain(
    world: GatewayWorld, key: MadeKey | str | None, path: str = "/weather/now", peer: str = ELSEWHERE
) -> Answered:
    async def exchange() -> Answered:
        line = MadeUpLine(peer)
        request = world.request(line, key, path)
        request.fault = Fault.PLAIN
        world.gateway.handle(request)
        await line.over.wait()
        return line.answered()

    return world.loop.run_until_complete(exchange())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[GatewayWorld]:
    with gateway_world(tmp_path) as made:
        yield made


@pytest.fixture
def key(world: GatewayWorld) -> MadeKey:
    world.add_service()
    return world.add_key()


@pytest.mark.parametrize(
    "path", ["/weather/now", "/elsewhere/now", "/v1/verify", "/healthz", "/weather/%2e%2e/x"]
)
def test_it_is_refused_wherever_it_goes_and_noted(world: GatewayWorld, key: MadeKey, path: str) -> None:
    answer = in_plain(world, key, path)
    assert (answer.status, answer.code) == (400, "TLS_REQUIRED")
    assert world.upstream().sent == []
    assert world.node.exposed.unsaid == [key.id]
    opened, closed = world.records()[-2:]
    assert (opened["code"], opened["key_id"]) == ("TLS_REQUIRED", key.id)
    assert closed["end"] == "refused"


def test_a_key_in_the_query_is_found_too(world: GatewayWorld) -> None:
    world.add_service("maps", placement=Query("appid"), accepts=(Query("appid"),))
    key = world.add_key(service="maps")
    in_plain(world, None, f"/maps/now?appid={key.value}")
    assert world.node.exposed.unsaid == [key.id]


def test_a_stranger_learns_nothing_from_the_answer(world: GatewayWorld, key: MadeKey) -> None:
    def shown(answer: Answered) -> tuple[Any, ...]:
        known = answer.json
        known.pop("call")
        return answer.status, {n: v for n, v in answer.headers.items() if n != "content-length"}, known

    revoked = world.add_key(state="revoked")
    answers = [shown(in_plain(world, which)) for which in (key, revoked, "vk_prv_unknown", None)]
    assert answers[1:] == answers[:-1]
    assert REAL_KEY not in str(answers) and key.value not in str(answers)


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
def test_on_the_machine_itself_nobody_else_has_read_it(world: GatewayWorld, key: MadeKey, peer: str) -> None:
    assert in_plain(world, key, peer=peer).code == "TLS_REQUIRED"
    assert world.node.exposed.unsaid == []


def test_it_is_said_until_it_is_noted_and_never_again(world: GatewayWorld, key: MadeKey) -> None:
    in_plain(world, key)
    in_plain(world, key)
    assert world.node.exposed.unsaid == [key.id]
    world.node.exposed.noted(key.id)
    in_plain(world, key)
    assert world.node.exposed.unsaid == []
