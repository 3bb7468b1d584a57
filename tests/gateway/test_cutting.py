"""What is cut when something changes: exactly the open calls that are no longer allowed."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_families import CHANGES, OFFICE_ONLY, family

from gateway_world import WALL, GatewayWorld, gateway_world, upstream_service
from valetkey.decision.address import parse_address
from valetkey.decision.call import Call
from valetkey.decision.codes import Code
from valetkey.decision.decide import decide
from valetkey.decision.path import judge_path
from valetkey.gateway.facts import PolicyFact, ServiceFact
from valetkey.gateway.index import KeyIndex

HERE, THERE = parse_address("203.0.113.7"), parse_address("10.8.0.1")
CALL = Call("GET", judge_path(b"/now"), "weather", "api", HERE)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[GatewayWorld]:
    with gateway_world(tmp_path) as made:
        made.add_service()
        yield made


def code_of(index: KeyIndex, key_id: str, call: Call = CALL, wall: float = WALL) -> str:
    entry = index.get(key_id)
    return decide(None if entry is None else index.compiled(entry), call, wall).code


class OpenCall:
    """Stands for an exchange: what the node asks of one."""

    def __init__(self, key_id: str, call: Call) -> None:
        self.key_id = key_id
        self.call = call
        self.answering = False
        self.connection = ("127.0.0.1", 1, "127.0.0.1", 2)
        self.why: Code | None = None

    def cut(self, end: Any, why: Code) -> bool:
        self.why = why
        return True


def open_calls(world: GatewayWorld, key_id: str) -> list[OpenCall]:
    """Open calls of one key from here and there."""
    made = [OpenCall(key_id, CALL), OpenCall(key_id, msgspec.structs.replace(CALL, address=THERE))]
    for each in made:
        world.node.enter(cast(Any, each))
    return made


def test_a_narrowed_key_keeps_the_calls_that_are_still_allowed(world: GatewayWorld) -> None:
    key, other = world.add_key(), world.add_key()
    here, there = open_calls(world, key.id)
    untouched = open_calls(world, other.id)
    world.add_network("office", "203.0.113.0/24")
    world.apply(PolicyFact("pol_narrow", msgspec.json.encode(OFFICE_ONLY).decode()))
    touched = world.change_key(key, policy_id="pol_narrow")
    assert world.node.cut_dead(touched, WALL) == 1
    assert (here.why, there.why) == (None, Code.NETWORK_DENIED)
    assert [each.why for each in untouched] == [None, None]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(CHANGES)), min_size=1, max_size=4, unique=True),
    st.sampled_from([WALL, WALL + 100]),
)
def test_exactly_the_calls_that_are_no_longer_allowed_are_cut(what: list[str], wall: float) -> None:

    with tempfile.TemporaryDirectory() as folder, gateway_world(Path(folder)) as world:
        world.add_service()
        names = family(world)
        opened = [each for key_id in names.values() for each in open_calls(world, key_id)]
        allowed = [each for each in opened if code_of(world.index, each.key_id, each.call, wall) == "VALID"]
        touched = world.apply(*(CHANGES[name][0] for name in what))
        # Told twice is cut once: a call that is cut is counted for one change only.
        cut = world.node.cut_dead([*touched, *touched], wall)
        for each in allowed:
            code = code_of(world.index, each.key_id, each.call, wall)
            assert each.why == (None if code == "VALID" else code)
        assert cut == sum(each.why is not None for each in opened)


def test_whoever_is_open_when_the_key_ends_is_cut(world: GatewayWorld) -> None:
    ends, stays = world.add_key(expires=WALL + 10), world.add_key()
    child = world.add_key(parent=ends)
    calls = [open_calls(world, key.id)[0] for key in (ends, stays, child)]
    assert world.node.cut_expired(WALL + 9.9) == 0
    assert world.node.cut_expired(WALL + 10) == 4
    assert [each.why for each in calls] == [Code.EXPIRED, None, Code.EXPIRED]


def test_calls_that_left_are_not_cut(world: GatewayWorld) -> None:
    key = world.add_key()
    gone, open_ = open_calls(world, key.id)
    world.node.leave(cast(Any, gone))
    assert world.node.cut_dead(world.change_key(key, state="revoked"), WALL) == 1
    assert (gone.why, open_.why) == (None, Code.REVOKED)


def test_a_real_call_that_a_lock_cuts_says_so(world: GatewayWorld) -> None:
    key = world.add_key()

    async def story() -> Any:
        upstream = cast(Any, world.gateway.runtime(world.index.services["weather"]).upstream)
        upstream.waits = asyncio.Event()
        call = asyncio.ensure_future(world.exchange(key))
        while not upstream.sent:
            await asyncio.sleep(0)
        world.node.cut_dead(world.apply(ServiceFact("svc_weather", upstream_service(), locked=True)), WALL)
        return await call

    answer = world.loop.run_until_complete(story())
    assert (answer.code, answer.status) == ("SERVICE_LOCKED", 423)
