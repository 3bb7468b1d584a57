"""What strangers are told, what happens when nothing can be known or recorded, and that refusals spend nothing."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_world import REAL_KEY, Answered, GatewayWorld, MadeKey, gateway_world, secret_of
from valetkey.decision.address import parse_address
from valetkey.decision.call import Call
from valetkey.decision.codes import Code
from valetkey.decision.limits import Budget, Limits, Quota, Rate, Window
from valetkey.decision.path import judge_path
from valetkey.decision.policy import Policy
from valetkey.decision.restrictions import Endpoints
from valetkey.gateway.client_address import address_bytes
from valetkey.gateway.floods import BUCKET_A_SECOND, SINGLE_A_MINUTE
from valetkey.gateway.upstream import UpstreamFailed
from valetkey.journal.errors import JournalFailed
from valetkey.journal.segment import SegmentWriter
from valetkey.readiness import Missing
from valetkey.services.origin import Origin

HOSTS = {"api": Origin.parse("https://api.example.com"), "files": Origin.parse("https://files.example.com")}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[GatewayWorld]:
    with gateway_world(tmp_path) as made:
        made.add_service(hosts=HOSTS, ceiling=1000)
        yield made


# Strangers


def seen(answer: Answered) -> tuple[Any, ...]:
    problem = answer.json
    problem.pop("call", None)
    return answer.status, answer.headers, problem


def test_strangers_learn_nothing_from_what_they_are_told(world: GatewayWorld) -> None:
    world.add_service("stripe")
    world.add_own_service("shop")
    foreign, good = world.add_key(service="stripe"), world.add_key()
    typo = good.value[:-1] + ("A" if good.value[-1] != "A" else "B")
    answers = [
        seen(world.call(*asked))
        for asked in (
            ("vk_prv_unknown", "/weather/now"), (typo, "/weather/now"), (foreign, "/weather/now"),
            (good, "/nothing/now"), ("vk_prv_unknown", "/nothing/now"), (good, "/shop/now"),
            (good, "/weather:elsewhere/now"), (good, "/"),
        )
    ]  # fmt: skip
    assert all(answer == answers[0] for answer in answers)
    assert answers[0][2]["code"] == "UNKNOWN_KEY"
    codes = [record["code"] for record in world.records() if record["kind"] == "opened"]
    assert codes == [
        "UNKNOWN_KEY",
        "UNKNOWN_KEY",
        *["SERVICE_DENIED"] * 2,
        "UNKNOWN_KEY",
        *["SERVICE_DENIED"] * 3,
    ]


@pytest.mark.parametrize(
    "fault", [{"path": "/{}/a%2Fb"}, {"headers": [("content-length", "9" * 12)]}, {"method": "TRACE"}]
)
def test_a_service_that_does_not_exist_refuses_as_one_that_does(
    world: GatewayWorld, fault: dict[str, Any]
) -> None:
    call = {"path": "/{}/now", **fault}
    answers = [
        seen(world.call("vk_prv_x", **{**call, "path": call["path"].format(name)}))
        for name in ("weather", "nothing")
    ]
    assert answers[0] == answers[1]


def test_an_unknown_keys_value_is_nowhere_in_the_record(world: GatewayWorld) -> None:
    value = world.add_key().value[:-2] + "zz"
    world.call(value, f"/weather/{value}?{value}=1", headers=[("referer", value), ("user-agent", value)])
    text = b"".join(path.read_bytes() for path in world.folder.iterdir())
    assert value.encode() not in text


def test_what_strangers_send_is_recorded_singly_then_counted_then_throttled(world: GatewayWorld) -> None:
    answers = [world.call("vk_prv_x", address="203.0.113.9") for _ in range(BUCKET_A_SECOND + 5)]
    assert [a.code for a in answers] == ["UNKNOWN_KEY"] * BUCKET_A_SECOND + ["THROTTLED"] * 5
    assert answers[-1].status == 429
    assert int(answers[-1].headers["retry-after"]) == 1
    assert "x-should-retry" not in answers[-1].headers
    records = world.records()
    assert sum(record["kind"] == "opened" for record in records) == SINGLE_A_MINUTE
    world.clock.advance(61)
    world.sweep()
    flood = world.records()[-1]
    assert (flood["kind"], flood["count"]) == ("flood", BUCKET_A_SECOND + 5 - SINGLE_A_MINUTE)
    # Whoever has a key that works is never throttled by strangers behind the same address.
    assert world.call(world.add_key(), address="203.0.113.9").code == "VALID"


# Not ready


LACKS = {
    "loaded": Missing.KEYS, "lease": Missing.CONTROL, "journal": Missing.JOURNAL, "draining": Missing.STOPPING,
    "disk": Missing.DISK, "clock": Missing.CLOCK,
}  # fmt: skip


@pytest.mark.parametrize("why", LACKS)
def test_a_node_that_cannot_know_refuses_everything(world: GatewayWorld, why: str) -> None:
    credential, key = world.add_own_service(), world.add_key()
    match why:
        case "loaded":
            world.node.loaded = False
        case "lease":
            world.node.lease_until = 0
        case "journal":
            world.journal.close()
        case "draining":
            world.node.draining = True
        case "disk":
            world.node.disk_low = True
        case "clock":
            world.node.index.newest = world.clock.wall + 61
            world.node.look_around()
    for answer in (
        world.call(key),
        world.call("vk_prv_x", "/nothing/x"),
        world.ask(credential, key=key.value),
    ):
        assert (answer.code, answer.status, answer.headers["retry-after"]) == ("NOT_READY", 503, "1")
        assert "x-should-retry" not in answer.headers
    told = world.call(path="/readyz")
    assert (told.status, told.headers["retry-after"]) == (503, "1")
    assert json.loads(told.body) == {"status": "not ready", "missing": [LACKS[why].value]}
    assert world.node.unready() is LACKS[why]
    assert json.loads(world.call(path="/healthz").body) == {"status": "ok"}


def test_a_probe_is_told_all_that_is_missing(world: GatewayWorld) -> None:
    assert json.loads(world.call(path="/readyz").body) == {"status": "ok"}
    world.node.loaded, world.node.disk_low, world.node.clock_behind = False, True, True
    missing = json.loads(world.call(path="/readyz").body)["missing"]
    assert missing == ["keys not loaded", "disk nearly full", "clock behind"]
    assert world.node.unready() is world.node.missing()[0]
    assert not re.search(r"[0-9/]", "".join(Missing))


def full_disk() -> AbstractContextManager[Any]:
    """While it lasts, no call can be recorded."""
    return mock.patch.multiple(
        SegmentWriter,
        append_all=mock.Mock(side_effect=JournalFailed("The disk is full.")),
    )


def test_a_call_that_cannot_be_recorded_is_not_made_and_spends_nothing(world: GatewayWorld) -> None:
    key = world.add_key(Policy(limits=Limits(uses=1)))
    with full_disk():
        assert world.call(key).code == "NOT_READY"
    assert world.upstream().sent == []
    assert world.call(key).code == "VALID"


def test_a_refusal_that_cannot_be_recorded_is_not_said(world: GatewayWorld) -> None:
    with full_disk():
        assert world.call(world.add_key(state="revoked")).code == "NOT_READY"


def test_a_question_that_cannot_be_recorded_is_not_answered_and_spends_nothing(world: GatewayWorld) -> None:
    credential = world.add_own_service()
    key = world.add_key(Policy(limits=Limits(uses=1)), service="shop")
    with full_disk():
        assert world.ask(credential, key=key.value).code == "NOT_READY"
    assert world.ask(credential, key=key.value).json["valid"]


def test_without_counters_a_key_with_limits_is_refused_and_one_without_is_not(world: GatewayWorld) -> None:
    limited, free = world.add_key(Policy(limits=Limits(uses=9))), world.add_key()
    world.counters.close()
    assert world.call(limited).code == "NOT_READY"
    assert world.call(free).code == "VALID"


# After VALID


def test_a_call_without_a_secret_is_given_back(world: GatewayWorld) -> None:
    key = world.add_key(Policy(limits=Limits(uses=1, concurrency=1)))
    world.apply(secret_of("svc_weather", expires=world.clock.wall))
    assert world.call(key).code == "SECRET_UNAVAILABLE"
    world.apply(secret_of("svc_weather"))
    assert world.call(key).code == "VALID"


def test_an_upstream_that_was_not_reached_gives_the_call_back_and_one_that_broke_off_does_not(
    world: GatewayWorld,
) -> None:
    key = world.add_key(Policy(limits=Limits(uses=2)))
    world.upstream().fails = UpstreamFailed("no connection", sent=False)
    for _ in range(3):
        answer = world.call(key)
        assert (answer.code, answer.status) == ("UPSTREAM_FAILED", 502)
        assert "x-should-retry" not in answer.headers
    world.upstream().fails = UpstreamFailed("broke off", sent=True)
    assert [world.call(key).code for _ in range(3)] == [
        "UPSTREAM_FAILED",
        "UPSTREAM_FAILED",
        "USES_EXHAUSTED",
    ]
    closed = [record for record in world.records() if record["kind"] == "closed"]
    assert [record.get("code") for record in closed[:3]] == ["UPSTREAM_FAILED"] * 3
    assert REAL_KEY.encode() not in b"".join(path.read_bytes() for path in world.folder.iterdir())


# Refused calls spend nothing


limits = st.builds(
    Limits,
    rate=st.none() | st.just(Rate(5, 1, 3)),
    address_rate=st.none() | st.just(Rate(1, 1, 2)),
    concurrency=st.none() | st.integers(1, 2),
    quotas=st.sampled_from([(), (Quota(3, Window.DAY),)]),
    budgets=st.sampled_from([(), (Budget(4, Window.HOUR),)]),
    uses=st.none() | st.integers(1, 4),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(limits, min_size=1, max_size=3),
    st.lists(
        st.tuples(
            st.integers(0, 2), st.sampled_from(["/a", "/b"]), st.none() | st.integers(0, 3), st.booleans()
        ),
        max_size=25,
    ),
)
def test_refused_calls_spend_nothing_at_any_level(
    levels: list[Limits], steps: list[tuple[int, str, int | None, bool]]
) -> None:
    with tempfile.TemporaryDirectory() as folder, gateway_world(Path(folder)) as world:
        world.add_service()
        chain: list[MadeKey] = []
        for own in levels:
            policy = Policy((Endpoints(("/a",)),), own)
            chain.append(world.add_key(policy, parent=chain[-1] if chain else None))
        address = parse_address("203.0.113.7")
        blocks = range(len(levels) + 2)
        for which, path, cost, wait in steps:
            if wait:
                world.clock.advance(0.3)
            entry = world.index.get(chain[which % len(chain)].id)
            assert entry is not None
            call = Call("GET", judge_path(path.encode()), "weather", "api", address)
            before = [world.peeking.read(block) for block in blocks]
            plan = world.index.compiled(entry).plan
            told = world.peeking.peek(plan, cost, world.clock.now(), address_bytes(address))
            decision, reserved = world.node.judge(
                entry, call, world.clock.now(), cost, address_bytes(address)
            )
            after = [world.peeking.read(block) for block in blocks]
            if path == "/b":
                assert decision.code is Code.ENDPOINT_DENIED
            else:
                assert decision.code == (Code.VALID if told is None else told.code)
            if not decision.allowed:
                assert reserved is None
                assert after == before
            # A refusal leaves the next answer as it was, for the address's own rate too.
            if not decision.allowed and path == "/a":
                assert world.peeking.peek(plan, cost, world.clock.now(), address_bytes(address)) == told


# Verify


def test_verify_wants_a_service_credential_and_a_question_that_can_be_read(world: GatewayWorld) -> None:
    credential, key = world.add_own_service(), world.add_key(service="shop")
    assert world.ask(credential, key=key.value).json["code"] == "VALID"
    for bad in ("", "vk_svc_unknown", key.value):
        assert world.ask(bad, key=key.value).status == 401
    assert world.call(credential, "/v1/verify", body=b"{}").code == "METHOD_REFUSED"
    for body in (
        b"",
        b"{}",
        b"[]",
        b'{"key":1}',
        b'{"key":"x","unknown":1}',
        b'{"key":"x","cost":-1}',
        b'{"key":"x","cost":"NaN"}',
    ):
        told = world.call(credential, "/v1/verify", method="POST", body=body)
        assert (told.status, told.json["valid"], told.json["code"]) == (200, False, "MALFORMED")
    assert world.call(credential, "/v1/verify", method="POST", body=b" " * 70_000).status == 413


def test_verify_is_no_oracle_for_other_services_keys(world: GatewayWorld) -> None:
    credential, foreign = world.add_own_service(), world.add_key(state="revoked")
    told = world.ask(credential, key=foreign.value).json
    assert told["code"] == "SERVICE_DENIED"
    assert not {"key_id", "holder", "kind"} & told.keys()


def test_an_open_call_is_cut_the_moment_its_key_is_revoked(world: GatewayWorld) -> None:
    key = world.add_key()

    async def story() -> Answered:
        world.gateway.runtime(world.index.services["weather"]).upstream.waits = asyncio.Event()  # type: ignore[attr-defined]
        call = asyncio.ensure_future(world.exchange(key))
        while not world.node.open:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        touched = world.change_key(key, state="revoked")
        assert world.node.cut_dead(touched, world.clock.wall) == 1
        return await call

    answer = world.loop.run_until_complete(story())
    assert answer.code == "REVOKED"
    assert world.records()[-1]["end"] == "cut_by_revoke"
