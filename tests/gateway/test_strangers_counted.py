"""Calls without a key of ours are recorded one by one only so often: whoever has none fills no disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from gateway_world import GatewayWorld, MadeUpLine, gateway_world
from valetkey.decision.policy import Policy
from valetkey.decision.restrictions import Endpoints
from valetkey.gateway import floods as gateway_floods
from valetkey.gateway.floods import MINUTE, NAMED_A_MINUTE, SINGLE_A_MINUTE, SINGLE_IN_ALL
from valetkey.wire.http1_request import Http1Request
from valetkey.wire.request import Fault

FAKE = "vk_prv_unknown"
UNCLEAR = [("x-forwarded-for", "203.0.113.7"), ("forwarded", "for=203.0.113.7")]
STRANGERS: dict[str, dict[str, Any]] = {
    "HOST_UNKNOWN": {"host": "elsewhere.example"},
    "METHOD_REFUSED": {"method": "TRACE"},
    "PATH_REFUSED": {"key": FAKE, "path": "/weather/../x"},
    "NOT_SUPPORTED": {"key": FAKE, "headers": [("upgrade", "websocket")]},
    "TOO_LARGE": {"key": FAKE, "headers": [("content-length", "99999999999999999999")]},
    "MALFORMED": {"key": FAKE, "headers": UNCLEAR},
    "UNKNOWN_KEY": {"key": FAKE},
}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[GatewayWorld]:
    with gateway_world(tmp_path, trusted_proxy=("127.0.0.1/32",)) as made:
        made.add_service()
        yield made


def opened(world: GatewayWorld) -> list[dict[str, Any]]:
    return [record for record in world.records() if record["kind"] == "opened"]


@pytest.mark.parametrize("code", STRANGERS)
def test_after_so_many_a_minute_they_are_only_counted(world: GatewayWorld, code: str) -> None:
    calls = SINGLE_A_MINUTE + 15
    assert {world.call(**STRANGERS[code]).code for _ in range(calls)} == {code}
    assert [record["code"] for record in opened(world)] == [code] * SINGLE_A_MINUTE
    world.clock.advance(MINUTE)
    world.sweep()
    (flood,) = [record for record in world.records() if record["kind"] == "flood"]
    assert (flood["code"], flood["count"]) == (code, 15)
    world.call(**STRANGERS[code])
    assert len(opened(world)) == SINGLE_A_MINUTE + 1


def test_what_was_counted_before_the_clock_was_set_back_is_written(world: GatewayWorld) -> None:
    def come(calls: int) -> int:
        before = len(opened(world))
        assert {world.call(FAKE).code for _ in range(calls)} == {"UNKNOWN_KEY"}
        return len(opened(world)) - before

    def floods() -> list[int]:
        return [record["count"] for record in world.records() if record["kind"] == "flood"]

    come(SINGLE_A_MINUTE + 15)
    world.clock.wall -= 3600
    world.sweep()
    assert floods() == [15]
    come(SINGLE_A_MINUTE + 5)
    world.clock.wall -= 3600
    assert come(3) == 3, "the next minute begins anew"
    assert floods() == [15, 5]


def test_a_million_addresses_fill_no_disk_either(world: GatewayWorld) -> None:
    def come(first: int, calls: int) -> None:
        for number in range(first, first + calls):
            world.call(
                FAKE, headers=[("x-forwarded-for", f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1")]
            )

    come(0, SINGLE_IN_ALL + NAMED_A_MINUTE + 900)
    assert len(opened(world)) == SINGLE_IN_ALL
    world.clock.advance(MINUTE)
    world.sweep()
    floods = [record for record in world.records() if record["kind"] == "flood"]
    assert len(floods) == NAMED_A_MINUTE + 1
    assert sum(flood["count"] for flood in floods) == NAMED_A_MINUTE + 900
    (others,) = [flood for flood in floods if flood["count"] > 1]
    assert others["count"] == 900 and "personal" not in others
    come(5000, 3)
    assert len(opened(world)) == SINGLE_IN_ALL + 3, "the next minute begins anew"
    # Addresses come and go faster than they can be remembered: what is forgotten is counted all the same.
    with mock.patch.object(gateway_floods, "MAX_ADDRESSES", 10):
        come(9000, SINGLE_IN_ALL + NAMED_A_MINUTE + 500)
    world.sweep(closing=True)
    floods = [record for record in world.records() if record["kind"] == "flood"]
    assert len(opened(world)) == 2 * SINGLE_IN_ALL
    assert sum(flood["count"] for flood in floods) == 2 * NAMED_A_MINUTE + 900 + 503


def test_all_refusals_of_one_address_count_together(world: GatewayWorld) -> None:
    for _ in range(10):
        for asked in STRANGERS.values():
            world.call(**asked)
    assert len(opened(world)) == SINGLE_A_MINUTE
    world.clock.advance(MINUTE)
    world.sweep()
    counted = [(record["code"], record["count"]) for record in world.records() if record["kind"] == "flood"]
    assert sum(count for _, count in counted) == 10 * len(STRANGERS) - SINGLE_A_MINUTE
    assert sorted(code for code, _ in counted) == sorted(STRANGERS), "each under its own code"
    world.call(**STRANGERS["HOST_UNKNOWN"], headers=[("x-forwarded-for", "198.51.100.9")])
    assert len(opened(world)) == SINGLE_A_MINUTE + 1


def test_only_unusable_keys_bring_a_stranger_to_be_throttled(world: GatewayWorld) -> None:
    for code in ("HOST_UNKNOWN", "METHOD_REFUSED", "PATH_REFUSED", "NOT_SUPPORTED"):
        assert {world.call(**STRANGERS[code]).code for _ in range(150)} == {code}
    assert world.call(FAKE).code == "UNKNOWN_KEY"


def test_calls_with_a_key_of_the_service_are_always_recorded(world: GatewayWorld) -> None:
    key = world.add_key(Policy((Endpoints(("GET /only",)),)))
    for _ in range(SINGLE_A_MINUTE * 2):
        assert world.call(key).code == "ENDPOINT_DENIED"
    assert len(opened(world)) == SINGLE_A_MINUTE * 2


def test_refusals_of_one_key_fill_no_disk(world: GatewayWorld) -> None:
    """A public key is in everybody's hands."""
    with mock.patch.object(gateway_floods, "KEYED_A_MINUTE", 30):
        key, other = (world.add_key(Policy((Endpoints(("GET /only",)),))) for _ in range(2))
        assert {world.call(key).code for _ in range(100)} == {"ENDPOINT_DENIED"}
        assert world.call(other).code == "ENDPOINT_DENIED"
        assert len(opened(world)) == 31
        world.clock.advance(MINUTE)
        world.sweep()
        (flood,) = [record for record in world.records() if record["kind"] == "flood"]
        assert (flood["code"], flood["count"], flood["service"]) == ("ENDPOINT_DENIED", 70, "weather")
        assert flood["key_id"] == opened(world)[0]["key_id"] and "personal" not in flood
        world.call(key)
        assert len(opened(world)) == 32, "the next minute begins anew"
        assert world.call(key, "/weather/only").code == "VALID"


def test_a_record_is_small_however_long_the_call(world: GatewayWorld) -> None:
    query = "&".join(f"{number:02}{'q' * 60}=1" for number in range(100))
    long = [(name, "a" * 5000) for name in ("user-agent", "origin", "referer")]
    world.call(FAKE, f"/weather/{'p' * 8000}?{query}", headers=long)
    (record,) = opened(world)
    assert len(record["path"]) <= 512
    assert sum(map(len, record["query_names"])) <= 16 * 40


def test_what_is_no_http_is_answered_alike_whether_it_is_recorded_or_counted(world: GatewayWorld) -> None:
    async def story() -> set[int]:
        statuses = set()
        for _ in range(SINGLE_A_MINUTE + 5):
            line = MadeUpLine("203.0.113.9")
            fault = Fault.FORM
            world.gateway.handle(
                Http1Request(line, "", b"", b"", [], length=None, keep_alive=False, fault=fault)
            )
            await line.over.wait()
            statuses.add(line.answered().status)
        return statuses

    assert world.loop.run_until_complete(story()) == {400}
    assert len(opened(world)) == SINGLE_A_MINUTE
