"""Sticky keys: the first call that passes every check pins the key to its address, and no other does."""

from __future__ import annotations

import random
from threading import Thread

import pytest

from valetkey.decision.address import Address, parse_address, parse_place, place_text
from valetkey.decision.call import Call, Now
from valetkey.decision.codes import Code
from valetkey.decision.decide import decide
from valetkey.decision.limits import Limits
from valetkey.decision.local_counters import LocalCounters
from valetkey.decision.path import judge_path
from valetkey.decision.policy import CompiledKey, Policy, Standing, compile_key, compile_policy
from valetkey.decision.reservation import Level, LimitRefusal, Plan, Reserved
from valetkey.decision.restrictions import CompileContext, Origins, Sticky

HERE, THERE = parse_address("203.0.113.7"), parse_address("203.0.113.8")
NOW = Now(1_790_000_000.0, 10**15)


def octets(address: Address) -> bytes:
    return address.value.to_bytes(4 if address.version == 4 else 16, "big")


def key(*policies: Policy) -> CompiledKey:
    """Its own policy first, then those that it comes from."""
    compiled = [compile_policy(policy, CompileContext()) for policy in policies]
    levels = [
        Level.compile(
            "ancestor" if place else "key", place, policy.limits, sticky=policy.find(Sticky) is not None
        )
        for place, policy in enumerate(policies)
    ]
    return compile_key(
        service="weather",
        service_locked=False,
        standings=[Standing()],
        policies=compiled,
        levels=[level for level in levels if level.limited],
    )


def call(address: Address | None, **more: str) -> Call:
    return Call("GET", judge_path(b"/now"), "weather", None, address, **more)


def made(counters: LocalCounters, judged: CompiledKey, address: Address | None) -> Code:
    """As every door does it."""
    decision = decide(judged, call(address), NOW.wall, counters.pins(judged.plan))
    if not decision.allowed:
        return decision.code
    taken = counters.reserve(judged.plan, 0, NOW, None if address is None else octets(address))
    return Code.VALID if isinstance(taken, Reserved) else taken.code


STICKY = Policy((Sticky(),))


def test_the_first_call_pins_and_calls_from_elsewhere_are_refused() -> None:
    counters, judged = LocalCounters(), key(STICKY)
    assert [made(counters, judged, address) for address in (HERE, HERE, THERE, HERE, None)] == [
        "VALID", "VALID", "NETWORK_DENIED", "VALID", "NETWORK_DENIED",
    ]  # fmt: skip
    refused = decide(judged, call(THERE), NOW.wall, counters.pins(judged.plan))
    assert refused.sentence.endswith("It is pinned to the address that used it first.")


def test_a_call_without_address_is_refused_before_anything_is_pinned() -> None:
    counters, judged = LocalCounters(), key(STICKY)
    assert made(counters, judged, None) == "NETWORK_DENIED"
    assert made(counters, judged, THERE) == "VALID"


def test_an_ipv6_caller_keeps_its_network_of_64_bits() -> None:
    counters, judged = LocalCounters(), key(STICKY)
    same, other = parse_address("2001:db8:1:2:ffff::9"), parse_address("2001:db8:1:3::9")
    assert [made(counters, judged, address) for address in (parse_address("2001:db8:1:2::1"), same, other)] == [
        "VALID", "VALID", "NETWORK_DENIED",
    ]  # fmt: skip


def test_an_address_of_one_version_is_not_that_of_the_other() -> None:
    counters, judged = LocalCounters(), key(STICKY)
    four = parse_address("0.0.0.1")
    six = Address(6, 1 << 64)  # its first 64 bits are the number 1 too
    assert made(counters, judged, six) == "VALID"
    assert made(counters, judged, four) == "NETWORK_DENIED"


def test_what_a_limit_refuses_pins_nothing() -> None:
    limits = Limits(uses=1)
    counters, judged = LocalCounters(), key(Policy((Sticky(),), limits), Policy(limits=limits))
    above = Plan((Level.compile("key", 1, limits),))
    assert isinstance(counters.reserve(above, 0, NOW), Reserved), "the one use of what it comes from"
    assert isinstance(counters.reserve(judged.plan, 0, NOW, octets(HERE)), LimitRefusal)
    assert counters.pins(judged.plan) == ()


def test_a_peek_pins_nothing_and_says_what_the_call_would_be_told() -> None:
    counters, judged = LocalCounters(), key(STICKY)
    assert counters.peek(judged.plan, 0, NOW, octets(HERE)) is None
    assert counters.pins(judged.plan) == ()
    counters.reserve(judged.plan, 0, NOW, octets(HERE))
    told = counters.peek(judged.plan, 0, NOW, octets(THERE))
    assert told is not None
    assert told.code is Code.NETWORK_DENIED


def test_what_a_call_pinned_stays_when_the_call_is_given_back() -> None:
    """Another call may have been let through by it meanwhile."""
    counters, judged = LocalCounters(), key(STICKY)
    taken = counters.reserve(judged.plan, 0, NOW, octets(HERE))
    assert isinstance(taken, Reserved)
    assert taken.pinned == (0,)
    counters.give_back(taken, NOW)
    assert counters.pins(judged.plan) == ((True, HERE.place),)


def test_a_pinned_ancestor_holds_what_comes_from_it() -> None:
    counters = LocalCounters()
    child = key(Policy(), STICKY)
    assert made(counters, child, HERE) == "VALID", "the first call of a child pins what it comes from"
    refused = decide(child, call(THERE), NOW.wall, counters.pins(child.plan))
    assert refused.code is Code.NETWORK_DENIED
    assert refused.sentence.endswith("(set where this key comes from).")
    assert made(counters, key(STICKY, STICKY), THERE) == "NETWORK_DENIED"


def test_the_pin_is_asked_where_networks_are_in_the_order_of_the_codes() -> None:
    counters = LocalCounters()
    judged = key(Policy((Sticky(), Origins(("https://app.example.com",)))))
    pins = [(True, HERE.place)]
    assert decide(judged, call(THERE), NOW.wall, pins).code is Code.NETWORK_DENIED
    assert decide(judged, call(HERE), NOW.wall, pins).code is Code.ORIGIN_DENIED
    assert counters.pins(judged.plan) == ()


@pytest.mark.parametrize("text", ["203.0.113.7", "2001:db8:1:2::/64", "::/64", "0.0.0.0"])
def test_a_place_is_written_and_read_in_one_form(text: str) -> None:
    assert place_text(parse_place(text)) == text


def test_of_many_threads_at_once_one_address_wins() -> None:
    for seed in range(20):
        counters, judged = LocalCounters(), key(STICKY)
        addresses = [Address(4, number) for number in range(8)] * 2
        random.Random(seed).shuffle(addresses)
        won: list[Address] = []

        def go(address: Address, judged=judged, counters=counters, won=won) -> None:  # type: ignore[no-untyped-def]
            if made(counters, judged, address) is Code.VALID:
                won.append(address)

        threads = [Thread(target=go, args=(address,)) for address in addresses]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 2, f"seed {seed}"
        assert len(set(won)) == 1, f"seed {seed}"
