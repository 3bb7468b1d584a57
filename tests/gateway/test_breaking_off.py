"""A call that is recorded as allowed but cannot be begun: its record is closed, and it holds nothing any more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from gateway_world import GatewayWorld, MadeKey, MadeUpLine, gateway_world
from valetkey.decision.limits import Limits
from valetkey.decision.policy import Policy
from valetkey.gateway.runtime import ServiceRuntime
from valetkey.wire.http1_request import Http1Request

CANNOT_BE_WATCHED = RuntimeError("the request is in no state to be watched")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[GatewayWorld]:
    with gateway_world(tmp_path) as made:
        made.add_service()
        yield made


def begin(world: GatewayWorld, key: MadeKey, *, leased: bool = True) -> MadeUpLine:
    """A call that is over before it reached its upstream."""
    line = MadeUpLine()

    async def call() -> None:
        world.gateway.handle(world.request(line, key, "/weather/now"))
        world.node.lease_until = int(leased)
        await asyncio.wait_for(line.over.wait(), 5)
        await asyncio.sleep(0)

    with mock.patch.object(Http1Request, "watch", side_effect=CANNOT_BE_WATCHED):
        world.loop.run_until_complete(call())
    world.node.lease_until = 1
    return line


def runtime(world: GatewayWorld) -> ServiceRuntime:
    async def find() -> ServiceRuntime:
        return world.gateway.runtime(world.index.services["weather"])

    return world.loop.run_until_complete(find())


def test_a_call_that_cannot_be_begun_is_closed_as_interrupted_and_leaves_its_place(
    world: GatewayWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    key = world.add_key(Policy(limits=Limits(concurrency=1)))
    assert begin(world, key).was_reset
    opened, closed = world.records()
    assert (opened["kind"], opened["code"]) == ("opened", "VALID")
    assert (closed["kind"], closed["call"], closed["end"]) == ("closed", opened["call"], "interrupted")
    assert world.node.open == {} and world.upstream().sent == []
    assert world.call(key).code == "VALID", "the place that it had reserved is free"
    assert "RuntimeError" in capsys.readouterr().err


@pytest.mark.parametrize("leased", [True, False])
def test_a_service_that_changes_after_a_call_that_was_not_carried_closes_its_way_upstream(
    world: GatewayWorld, leased: bool
) -> None:
    before = runtime(world)
    begin(world, world.add_key(), leased=leased)
    with mock.patch.object(before.upstream, "close") as close:
        before.use()
        before.retire()
        close.assert_not_called()
        before.leave()
        close.assert_called_once_with()


def test_a_service_that_changes_before_a_call_is_carried_keeps_its_way_upstream_until_the_call_has_ended(
    world: GatewayWorld,
) -> None:
    before, key, line = runtime(world), world.add_key(), MadeUpLine()

    async def call() -> None:
        world.gateway.handle(world.request(line, key, "/weather/now"))
        before.retire()
        close.assert_not_called()
        await asyncio.wait_for(line.over.wait(), 5)

    with mock.patch.object(before.upstream, "close") as close:
        world.loop.run_until_complete(call())
        close.assert_called_once_with()
    assert line.answered().code == "VALID"
