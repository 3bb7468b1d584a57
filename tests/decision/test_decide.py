"""`decide`: compared with the plain model on generated keys and calls, and promise by promise."""

from __future__ import annotations

import os
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from models.decide_model import verdict
from valetkey.decision.address import parse_address
from valetkey.decision.call import Call, Decision
from valetkey.decision.codes import CODES, Code
from valetkey.decision.decide import decide
from valetkey.decision.path import judge_path
from valetkey.decision.policy import CompiledKey, Policy, Standing, State, compile_key, compile_policy
from valetkey.decision.restrictions import (
    CompileContext,
    Endpoints,
    Hosts,
    InvalidRestriction,
    Networks,
    Origins,
    Schedule,
)
from valetkey.keys.format import generate
from valetkey.keys.kinds import KeyKind

MONDAY_NOON = 1_789_992_000.0
NAMED = {"office": ["203.0.113.0/24", "2001:db8::/32"], "vpn": ["10.8.0.0/16"]}
WIDE = ["POST /v1/batches", "POST /v1/tokens/*"]

PLAIN: dict[str, Any] = {
    "service": "weather", "locked": False, "standings": [{"state": "active", "expires": None}],
    "policies": [{}], "networks": NAMED, "wide": [],
}  # fmt: skip
CALL: dict[str, Any] = {
    "service": "weather", "method": "GET", "path": "/v1/models", "host": "api", "address": "203.0.113.7",
    "origin": "https://app.example.com",
}  # fmt: skip


def compiled(key: dict[str, Any]) -> CompiledKey:
    context = CompileContext(
        networks={name: tuple(blocks) for name, blocks in key["networks"].items()}, wide=tuple(key["wide"])
    )
    return compile_key(
        service=key["service"],
        service_locked=key["locked"],
        standings=[
            Standing(State(s["state"]), float("inf") if s["expires"] is None else s["expires"])
            for s in key["standings"]
        ],
        policies=[compile_policy(policy_of(policy), context) for policy in key["policies"]],
        levels=[],
    )


def policy_of(policy: dict[str, Any]) -> Policy:
    restrictions: list[Any] = []
    if "schedule" in policy:
        restrictions.append(Schedule(tuple(policy["schedule"])))
    if "allow" in policy or "deny" in policy:
        restrictions.append(Endpoints(tuple(policy.get("allow", ())), tuple(policy.get("deny", ()))))
    for name, kind in (("hosts", Hosts), ("origins", Origins), ("networks", Networks)):
        if name in policy:
            restrictions.append(kind(tuple(policy[name])))
    return Policy(tuple(restrictions))


def call_of(call: dict[str, Any]) -> Call:
    return Call(
        call["method"],
        None if call["path"] is None else judge_path(call["path"].encode()),
        call["service"],
        call["host"],
        None if call["address"] is None else parse_address(call["address"]),
        call["origin"],
    )


def judge(key: dict[str, Any] | None = None, call: dict[str, Any] | None = None, **changes: Any) -> Decision:
    """Decide a plain key and call, some of whose fields are changed."""
    made = {
        **(key or PLAIN),
        **{name: value for name, value in changes.items() if name in PLAIN and name != "service"},
    }
    asked = {**(call or CALL), **{name: value for name, value in changes.items() if name in CALL}}
    return decide(compiled(made), call_of(asked), MONDAY_NOON)


# Generated keys and calls: few values, so that rules and calls meet often.


def some(values: list[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True)


patterns = some(
    ["/**", "GET /**", "GET /v1/models", "GET,POST /v1/*", "POST /v1/batches", "/v1/*/x", "POST /v1/tokens/*",
     "PUT /v1/models/", "HEAD /v1/**"]
)  # fmt: skip
policies = st.fixed_dictionaries(
    {},
    optional={
        "networks": some(["office", "vpn", "198.51.100.7", "203.0.113.0/25", "2001:db8:1::/48", "0.0.0.0/0"]),
        "origins": some(["https://app.example.com", "https://*.example.com", "http://localhost:3000"]),
        "hosts": some(["api", "files"]),
        "allow": patterns,
        "deny": patterns,
        "schedule": some(
            ["mon-fri 08:00-18:00 Europe/Berlin", "mon 22:00-06:00 UTC", "sat-sun 00:00-24:00 UTC",
             "mon-sun 09:00-17:30 America/New_York"]
        ),
    },
)  # fmt: skip
mostly_active = ["active"] * 5 + ["suspended", "revoked"]
times = st.floats(MONDAY_NOON - 700_000, MONDAY_NOON + 700_000)
standings = st.fixed_dictionaries(
    {
        "state": st.sampled_from(mostly_active),
        "expires": st.none() | st.none() | times | st.just(MONDAY_NOON),
    }
)
keys = st.integers(1, 3).flatmap(
    lambda depth: st.fixed_dictionaries(
        {
            "service": st.just("weather"),
            "locked": st.sampled_from([False] * 7 + [True]),
            "standings": st.lists(standings, min_size=depth, max_size=depth + 1),
            "policies": st.lists(policies, min_size=depth, max_size=depth),
            "networks": st.just(NAMED),
            "wide": st.sampled_from([[], WIDE]),
        }
    )
)
calls = st.fixed_dictionaries(
    {
        "service": st.sampled_from(["weather"] * 9 + ["stripe", None]),
        "method": st.sampled_from(["GET", "GET", "POST", "HEAD", "PUT", "DELETE", None]),
        "path": st.sampled_from(
            ["/v1/models", "/v1/models/", "/v1/batches", "/v1/batches/", "/v1/a/x", "/v1/tokens/7", "/", "/%24", None]
        ),
        "host": st.sampled_from(["api", "api", "files", None]),
        "address": st.sampled_from(
            ["203.0.113.7", "203.0.113.200", "::ffff:203.0.113.7", "10.8.1.1", "2001:db8::1", "192.0.2.1", None]
        ),
        "origin": st.sampled_from(
            ["https://app.example.com", "https://APP.example.com:443", "https://a.b.example.com", "https://example.com",
             "http://localhost:3000", "null", "", None]
        ),
    }
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(keys, calls, times | st.just(MONDAY_NOON))
def test_every_call_gets_the_code_of_the_plain_model(
    key: dict[str, Any], call: dict[str, Any], wall: float
) -> None:
    decision = decide(compiled(key), call_of(call), wall)
    assert decision.code == verdict(key, call, wall)
    assert decision.sentence.startswith(CODES[decision.code].sentence)


@settings(max_examples=200, deadline=None)
@given(keys, calls, times, st.data())
def test_one_more_restriction_never_opens_what_was_refused(
    key: dict[str, Any], call: dict[str, Any], wall: float, data: st.DataObject
) -> None:
    # Wide endpoints are the one thing that a restriction opens, by naming them; they have their own tests.
    key = {**key, "wide": []}
    assume(verdict(key, call, wall) != "VALID")
    place = data.draw(st.integers(0, len(key["policies"]) - 1))
    more = {name: rule for name, rule in data.draw(policies).items() if name not in key["policies"][place]}
    if "allow" in more and "deny" in key["policies"][place]:
        del more["allow"]  # the same restriction: it was there already
    narrowed = [dict(policy) for policy in key["policies"]]
    narrowed[place].update(more)
    for changed in (
        {**key, "policies": narrowed},
        {**key, "policies": [*key["policies"], data.draw(policies)]},
    ):
        assert not decide(compiled(changed), call_of(call), wall).allowed


@settings(max_examples=200, deadline=None)
@given(keys, keys, calls, times)
def test_what_an_ancestor_is_refused_its_child_is_refused(
    child: dict[str, Any], parent: dict[str, Any], call: dict[str, Any], wall: float
) -> None:
    parent = {**parent, "wide": child["wide"], "locked": child["locked"]}
    family = {
        **child,
        "standings": child["standings"] + parent["standings"],
        "policies": child["policies"] + parent["policies"],
    }
    alone = decide(compiled(parent), call_of(call), wall)
    together = decide(compiled(family), call_of(call), wall)
    assert alone.allowed or not together.allowed
    if not alone.allowed:
        order = list(Code)
        assert order.index(together.code) <= order.index(alone.code)


STATES = {
    "REVOKED": {"state": "revoked", "expires": None},
    "SUSPENDED": {"state": "suspended", "expires": None},
    "EXPIRED": {"state": "active", "expires": MONDAY_NOON - 1},
}


@pytest.mark.parametrize(
    ("first", "second"), [("REVOKED", "SUSPENDED"), ("REVOKED", "EXPIRED"), ("SUSPENDED", "EXPIRED")]
)
def test_revoked_is_said_before_suspended_and_that_before_expired(first: str, second: str) -> None:
    for standings in ([STATES[first], STATES[second]], [STATES[second], STATES[first]]):
        assert judge(standings=standings).code == first
    both = {"state": STATES[first]["state"], "expires": MONDAY_NOON - 1}
    assert judge(standings=[both]).code == first


def test_the_instant_of_the_end_is_too_late() -> None:
    assert judge(standings=[{"state": "active", "expires": MONDAY_NOON}]).code is Code.EXPIRED
    assert judge(standings=[{"state": "active", "expires": MONDAY_NOON + 0.001}]).allowed


def test_a_dead_key_of_a_locked_service_is_said_to_be_dead() -> None:
    assert judge(locked=True, standings=[STATES["EXPIRED"]]).code is Code.EXPIRED
    assert judge(locked=True).code is Code.SERVICE_LOCKED


def test_another_services_key_learns_nothing_of_its_state() -> None:
    assert judge(standings=[STATES["REVOKED"]], service="stripe").code is Code.SERVICE_DENIED


def test_an_unknown_key_is_unknown_whatever_the_call() -> None:
    assert decide(None, call_of(CALL), MONDAY_NOON).code is Code.UNKNOWN_KEY


EVERYTHING: dict[str, Any] = {
    "networks": ["office"], "origins": ["https://app.example.com"], "hosts": ["api"], "allow": ["GET /v1/*"],
    "schedule": ["mon-fri 08:00-18:00 Europe/Berlin"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("missing", "code"),
    [
        ("address", Code.NETWORK_DENIED),
        ("origin", Code.ORIGIN_DENIED),
        ("host", Code.HOST_DENIED),
        ("method", Code.ENDPOINT_DENIED),
        ("path", Code.ENDPOINT_DENIED),
    ],
)
def test_a_fact_that_is_missing_refuses_where_it_is_needed_and_nowhere_else(missing: str, code: Code) -> None:
    assert judge(policies=[EVERYTHING]).allowed
    assert judge(policies=[EVERYTHING], **{missing: None}).code is code
    assert judge(**{missing: None}).allowed


def test_an_ancestors_network_is_asked_before_the_keys_own_endpoint() -> None:
    decision = judge(policies=[{"allow": ["GET /v2/*"]}, {"networks": ["vpn"]}])
    assert decision.code is Code.NETWORK_DENIED
    assert decision.sentence.endswith("(set where this key comes from).")


def test_a_refusal_by_an_agreement_says_that_it_is_the_agreements() -> None:
    key = {**PLAIN, "policies": [{}, {"hosts": ["api"]}, {"networks": ["vpn"]}]}
    held = msgspec.structs.replace(compiled(key), agreed=1)
    assert decide(held, call_of(CALL), MONDAY_NOON).sentence.endswith("Only from vpn (set in the agreement).")
    elsewhere = call_of({**CALL, "host": "files", "address": "10.8.0.1"})
    assert decide(held, elsewhere, MONDAY_NOON).sentence.endswith("(set where this key comes from).")


def test_a_child_that_names_a_wide_endpoint_opens_it_only_where_its_parent_does() -> None:
    wide = {"wide": WIDE, "method": "POST", "path": "/v1/batches"}
    named, everything = {"allow": ["POST /v1/batches"]}, {"allow": ["/**"]}
    assert judge(policies=[named], **wide).allowed
    assert judge(policies=[named, named], **wide).allowed
    for parent in ({}, everything):
        assert judge(policies=[named, parent], **wide).code is Code.ENDPOINT_DENIED


def test_a_refusal_says_which_restriction_refused_in_its_own_words() -> None:
    said = judge(policies=[{"networks": ["vpn"]}]).sentence
    assert said == f"{CODES[Code.NETWORK_DENIED].sentence} Only from vpn."


def test_a_valid_call_names_the_rule_of_the_key_itself_that_it_matched() -> None:
    assert judge(policies=[{"allow": ["GET /v1/*"]}, {"allow": ["/**"]}]).endpoint == "GET /v1/*"


@settings(max_examples=100, deadline=None)
@given(keys, calls, st.sampled_from(["origin", "host", "service"]))
def test_no_sentence_holds_a_key_that_stands_where_it_should_not(
    key: dict[str, Any], call: dict[str, Any], place: str
) -> None:
    value = generate("vk", KeyKind.PRIVATE, os.urandom).reveal_text()
    asked = msgspec.structs.replace(call_of(call), **{place: value}, path=judge_path(f"/v1/{value}".encode()))
    assert value not in decide(compiled(key), asked, MONDAY_NOON).sentence


def test_a_policy_has_one_restriction_of_each_kind() -> None:
    with pytest.raises(InvalidRestriction):
        Policy((Hosts(("api",)), Hosts(("files",))))
