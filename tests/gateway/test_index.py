"""The key index: facts in any order make the same decisions, a change reaches the right keys, memory is bounded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_families import CHANGES, OFFICE_ONLY, family

from gateway_world import WALL, GatewayWorld, gateway_world, secret_of, upstream_service
from valetkey.decision.address import parse_address
from valetkey.decision.call import Call
from valetkey.decision.decide import decide
from valetkey.decision.limits import Limits
from valetkey.decision.path import judge_path
from valetkey.decision.policy import CompiledKey, Policy
from valetkey.decision.restrictions import Endpoints, Networks
from valetkey.gateway.facts import Fact, KeyFact, NetworkFact, PartyFact, PolicyFact, ServiceFact
from valetkey.gateway.index import KeyIndex
from valetkey.services.catalogue import load_preset

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


def compiled_of(index: KeyIndex, key_id: str) -> CompiledKey:
    entry = index.get(key_id)
    assert entry is not None
    return index.compiled(entry)


def key_fact(number: int, **changes: Any) -> KeyFact:
    fact = KeyFact(
        f"key_{number}", number.to_bytes(32, "big"), "private", "svc_weather", "env_1", "pty_ana", "pol_free",
        "default", "active", None, number,
    )  # fmt: skip
    return msgspec.structs.replace(fact, **changes)


def policy_fact(name: str, policy: Policy) -> PolicyFact:
    return PolicyFact(f"pol_{name}", msgspec.json.encode(policy).decode())


SERVICE = ServiceFact("svc_weather", upstream_service())
BASE: list[Fact] = [SERVICE, PartyFact("pty_ana", "ana"), policy_fact("free", Policy())]


# One by one, in any order, or all at once

FAMILY: list[Fact] = [
    SERVICE,
    ServiceFact("svc_stripe", upstream_service("stripe"), locked=True),
    NetworkFact("office", ("203.0.113.0/24",)),
    NetworkFact("vpn", ("10.8.0.0/16",)),
    PartyFact("pty_ana", "ana"),
    PartyFact("pty_ben", "ben", removed=True),
    policy_fact("free", Policy()),
    policy_fact("office", OFFICE_ONLY),
    policy_fact("vpn", Policy((Networks(("vpn",)), Endpoints(("GET /now",))))),
    policy_fact("nowhere", Policy((Networks(("gone",)),))),
    PolicyFact("pol_newer", '{"restrictions":[{"type":"moon","phase":"full"}]}'),
    PolicyFact("pol_torn", '{"restrictions":'),
    key_fact(1),
    key_fact(2, policy_id="pol_office"),
    key_fact(3, policy_id="pol_vpn", parent_id="key_2"),
    key_fact(4, parent_id="key_3"),
    key_fact(5, parent_id="key_4"),
    key_fact(6, holder_id="pty_ben"),
    key_fact(7, parent_id="key_6"),
    key_fact(8, holder_id="pty_nobody"),
    key_fact(9, service_id="svc_stripe"),
    key_fact(10, service_id="svc_gone"),
    key_fact(11, policy_id="pol_nowhere"),
    key_fact(12, policy_id="pol_newer"),
    key_fact(13, policy_id="pol_torn"),
    key_fact(14, state="suspended", expires=WALL),
    key_fact(15, policy_id="pol_torn", state="revoked"),
    key_fact(16, policy_id="pol_absent", expires=WALL - 1),
    key_fact(17, parent_id="key_absent"),
]
EXPECTED = {
    1: "VALID", 2: "VALID", 3: "NETWORK_DENIED", 4: "NETWORK_DENIED", 5: "SUSPENDED", 6: "REVOKED", 7: "REVOKED",
    8: "REVOKED", 9: "SERVICE_DENIED", 10: "SERVICE_DENIED", 11: "SUSPENDED", 12: "SUSPENDED", 13: "SUSPENDED",
    14: "SUSPENDED", 15: "REVOKED", 16: "SUSPENDED", 17: "SUSPENDED",
}  # fmt: skip


def codes(index: KeyIndex) -> dict[int, str]:
    return {number: code_of(index, f"key_{number}") for number in EXPECTED}


def test_a_snapshot_gives_every_key_its_decision() -> None:
    index = KeyIndex()
    index.apply(FAMILY)
    assert codes(index) == EXPECTED


@settings(max_examples=100, deadline=None)
@given(st.permutations(FAMILY), st.booleans())
def test_facts_one_by_one_in_any_order_give_what_a_snapshot_gives(
    facts: list[Fact], used_between: bool
) -> None:
    index = KeyIndex()
    for fact in facts:
        index.apply([fact])
        if used_between:
            codes(index)  # what is compiled too early must not stay
    assert codes(index) == EXPECTED


@settings(max_examples=100, deadline=None)
@given(st.permutations(FAMILY), st.data())
def test_facts_told_again_change_nothing(facts: list[Fact], data: st.DataObject) -> None:
    index = KeyIndex()
    index.apply(facts)
    again = data.draw(st.lists(st.sampled_from(FAMILY), max_size=10))
    for fact in again:
        index.apply([fact])
        assert codes(index) == EXPECTED


# What a change reaches


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_compiles_the_right_keys_anew_and_only_those(world: GatewayWorld, what: str) -> None:
    names = family(world)
    before = {name: compiled_of(world.index, key_id) for name, key_id in names.items()}
    generation = world.index.generation
    fact, expected = CHANGES[what]
    touched = world.apply(fact)
    assert world.index.generation == generation + 1
    assert {name for name, key_id in names.items() if key_id in touched} == expected
    assert len(touched) == len(set(touched))
    anew = {name for name, key_id in names.items() if compiled_of(world.index, key_id) is not before[name]}
    assert anew == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("office", {"office", "child", "grandchild"}), ("free", {"free"}), ("child", {"child"})],
)
def test_a_changed_key_compiles_itself_and_its_descendants_anew(
    world: GatewayWorld, name: str, expected: set[str]
) -> None:
    names = family(world)
    before = {each: compiled_of(world.index, key_id) for each, key_id in names.items()}
    entry = world.index.get(names[name])
    assert entry is not None
    fact = KeyFact(
        entry.id, entry.fingerprint, entry.kind, entry.service_id, entry.environment_id, entry.holder_id,
        entry.policy_id, entry.secret_name, "suspended", None, entry.block, entry.parent_id,
    )  # fmt: skip
    touched = world.apply(fact)
    assert {each for each, key_id in names.items() if key_id in touched} == expected
    for each, key_id in names.items():
        assert (compiled_of(world.index, key_id) is not before[each]) == (each in expected)
        assert (code_of(world.index, key_id) == "SUSPENDED") == (each in expected)


def test_a_policy_document_that_changes_reaches_its_keys_and_their_descendants(world: GatewayWorld) -> None:
    # Policies are stored by their digest and do not change; the index does not rely on it.
    parent, other = world.add_key(), world.add_key()
    child = world.add_key(parent=parent)
    assert code_of(world.index, child.id) == "VALID"
    document = msgspec.json.encode(Policy((Endpoints(("POST /now",)),))).decode()
    assert set(world.apply(PolicyFact(parent.fact.policy_id, document))) == {parent.id, child.id}
    assert code_of(world.index, parent.id) == code_of(world.index, child.id) == "ENDPOINT_DENIED"
    assert code_of(world.index, other.id) == "VALID"


def test_a_key_follows_its_networks_blocks(world: GatewayWorld) -> None:
    world.add_network("office", "203.0.113.0/24")
    key = world.add_key(OFFICE_ONLY)
    there = msgspec.structs.replace(CALL, address=THERE)
    assert (code_of(world.index, key.id), code_of(world.index, key.id, there)) == ("VALID", "NETWORK_DENIED")
    world.add_network("office", "10.8.0.0/16")
    assert (code_of(world.index, key.id), code_of(world.index, key.id, there)) == ("NETWORK_DENIED", "VALID")


def test_a_network_that_does_not_exist_refuses_every_call_until_it_does(world: GatewayWorld) -> None:
    key = world.add_key(Policy((Networks(("office", "0.0.0.0/0")),)))
    assert world.call(key).code == "SUSPENDED"
    world.add_network("office", "192.0.2.0/24")
    assert world.call(key).code == "VALID"


def test_an_endpoint_name_that_the_catalogue_lost_refuses_every_call(world: GatewayWorld) -> None:
    key = world.add_key(Policy((Endpoints(("chat-of-old",)),)))
    assert world.call(key).code == "SUSPENDED"


def test_a_removed_holder_has_no_living_key_and_neither_have_keys_derived_from_it(
    world: GatewayWorld,
) -> None:
    parent = world.add_key(holder="ben")
    child = world.add_key(parent=parent)
    assert world.call(child).code == "VALID"
    world.add_party("ben", removed=True)
    assert world.call(parent).code == world.call(child).code == "REVOKED"


def test_a_key_of_a_service_that_is_gone_opens_nothing_and_comes_back_with_it(world: GatewayWorld) -> None:
    key = world.add_key()
    world.apply(ServiceFact("svc_weather", None))
    assert world.call(key).code == "UNKNOWN_KEY"
    assert world.records()[-2]["code"] == "SERVICE_DENIED"
    world.add_service()
    assert world.call(key).code == "VALID"


def test_a_service_made_under_the_name_of_one_that_is_gone_does_not_take_its_keys(
    world: GatewayWorld,
) -> None:
    old = world.add_key()
    world.apply(ServiceFact("svc_second", upstream_service()), secret_of("svc_second"))
    world.apply(ServiceFact("svc_weather", None))  # told late
    assert world.index.services["weather"].id == "svc_second"
    assert world.call(old).code == "UNKNOWN_KEY"


def test_a_wide_endpoint_of_a_preset_is_closed_to_a_key_without_restrictions(world: GatewayWorld) -> None:
    preset = load_preset("openai")
    method, path = preset.wide[0].patterns[0].split()
    service = msgspec.structs.replace(upstream_service(), preset="openai")
    world.apply(ServiceFact("svc_weather", service))
    call = msgspec.structs.replace(CALL, method=method, path=judge_path(path.encode()))
    assert code_of(world.index, world.add_key().id, call) == "ENDPOINT_DENIED"
    assert code_of(world.index, world.add_key(Policy((Endpoints(("/**",)),))).id, call) == "ENDPOINT_DENIED"
    named = Policy((Endpoints((f"{method} {path}",)),))
    assert code_of(world.index, world.add_key(named).id, call) == "VALID"


def test_a_key_whose_fingerprint_changes_is_found_by_the_new_one_alone(world: GatewayWorld) -> None:
    key = world.add_key()
    old = key.fact.fingerprint
    world.change_key(key, fingerprint=b"n" * 32)
    assert world.index.find(old) is None
    assert world.index.find(b"n" * 32) is world.index.get(key.id)


def test_every_level_of_a_lineage_reserves_and_no_block_twice() -> None:
    index = KeyIndex()
    limited = policy_fact("limited", Policy(limits=Limits(uses=5)))
    keys = [
        key_fact(n, policy_id="pol_limited", parent_id=f"key_{n - 1}" if n > 1 else None) for n in (1, 2, 3)
    ]
    index.apply([*BASE, limited, *keys])
    levels = compiled_of(index, "key_3").plan.levels
    assert [(level.name, level.block) for level in levels] == [("key", 3), ("ancestor", 2), ("ancestor", 1)]
    index.apply([msgspec.structs.replace(keys[2], block=1)])
    assert code_of(index, "key_3") == "SUSPENDED"


# Memory

_LOADING = """
import json, resource, sys
from valetkey.gateway.index import KeyIndex
from valetkey.gateway.facts import KeyFact
import msgspec

def resident():
    for line in open("/proc/self/status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024

facts = sys.stdin.buffer.read()
index = KeyIndex()
decoder = msgspec.msgpack.Decoder(list[KeyFact])
before = resident()
# In chunks, as the control process sends them.
for start in range(0, 100_000, 1000):
    keys = [
        KeyFact(f"key_{n:028}", n.to_bytes(32, "big"), "private", "svc_1", "env_1", f"pty_{n % 1000}", f"pol_{n % 50}",
                "default", "active", 1.9e9 + n, n)
        for n in range(start, start + 1000)
    ]
    index.apply(decoder.decode(msgspec.msgpack.encode(keys)))
print(json.dumps([index.count, resident() - before]))
"""


def test_a_hundred_thousand_keys_take_less_than_eighty_megabytes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LOADING], input=b"", capture_output=True, check=True, timeout=60
    )
    count, taken = json.loads(done.stdout)
    assert count == 100_000
    assert taken < 80_000_000, f"{taken / 1e6:.1f} MB"


def test_equal_policies_are_compiled_once(world: GatewayWorld) -> None:
    world.apply(policy_fact("free", Policy()), *(key_fact(n) for n in range(100, 110)))
    compiled = {id(compiled_of(world.index, f"key_{n}").policies[0]) for n in range(100, 110)}
    assert len(compiled) == 1


def test_a_secret_is_the_newest_version_that_has_not_expired(world: GatewayWorld) -> None:
    key = world.add_key()
    entry = world.index.get(key.id)
    assert entry is not None
    newer, older = (
        secret_of("svc_weather", "newer", WALL).versions,
        secret_of("svc_weather", "older").versions,
    )
    world.apply(msgspec.structs.replace(secret_of("svc_weather"), versions=(*newer, *older)))
    for wall, value in ((WALL - 1, "newer"), (WALL, "older")):
        found = world.index.secret(entry, wall)
        assert found is not None
        assert found.parts == {"key": value}
    assert {v.parts["key"] for v in world.index.secrets_of("svc_weather")} == {"newer", "older"}


def test_what_is_made_of_a_service_goes_when_its_secret_changes(world: GatewayWorld) -> None:
    before = world.upstream()
    assert world.upstream() is before
    world.apply(secret_of("svc_weather", "another"))
    assert world.upstream() is not before
