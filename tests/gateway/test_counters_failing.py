"""Counters that fail when a call ends: it is recorded, answered and over all the same, and stays spent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from gateway_world import GatewayWorld, MadeKey, MadeUpLine, gateway_world
from valetkey.decision.limits import Limits
from valetkey.decision.policy import Policy
from valetkey.gateway.upstream import UpstreamFailed

FAILS = OSError("the file is gone")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[GatewayWorld]:
    with gateway_world(tmp_path) as made:
        made.add_service()
        yield made


@pytest.fixture
def key(world: GatewayWorld) -> MadeKey:
    return world.add_key(Policy(limits=Limits(uses=2)))


def test_a_call_that_cannot_be_settled_is_answered_and_recorded(world: GatewayWorld, key: MadeKey) -> None:
    with mock.patch.object(world.node, "counters", mock.Mock(wraps=world.counters)) as counters:
        counters.settle.side_effect = FAILS
        assert world.call(key).code == "VALID"
    assert world.node.open == {}
    assert [record["kind"] for record in world.records()] == ["opened", "closed"]


def test_a_call_that_cannot_be_given_back_is_answered_and_stays_spent(
    world: GatewayWorld, key: MadeKey
) -> None:
    world.upstream().fails = UpstreamFailed("refused", sent=False)
    with mock.patch.object(world.node, "counters", mock.Mock(wraps=world.counters)) as counters:
        counters.give_back.side_effect = FAILS
        assert world.call(key).code == "UPSTREAM_FAILED"
    assert world.node.open == {}
    assert "given_back" not in world.records()[-1]
    world.upstream().fails = None
    assert [world.call(key).code for _ in range(2)] == ["VALID", "USES_EXHAUSTED"]


def test_a_call_that_is_withdrawn_is_answered_though_it_cannot_be_given_back(
    world: GatewayWorld, key: MadeKey
) -> None:
    line = MadeUpLine()

    async def call() -> None:
        world.gateway.handle(world.request(line, key, "/weather/now"))
        world.node.lease_until = 0
        await asyncio.wait_for(line.over.wait(), 5)

    with mock.patch.object(world.node, "counters", mock.Mock(wraps=world.counters)) as counters:
        counters.give_back.side_effect = FAILS
        world.loop.run_until_complete(call())
    assert line.answered().code == "NOT_READY"
    assert world.node.open == {}
