"""A key that opens less than it says, or nothing, is told when it is made and when it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import select
from test_api_true_states import Owner

from valetkey.access.actor import SYSTEM, Actor, ActorKind
from valetkey.decision.restrictions.patterns import EndpointPattern, covers, overlap
from valetkey.keys.kinds import KeyKind
from valetkey.keys.operations import IssueKey, PinKey, issue_key, pin_key
from valetkey.parties.erasure import pinned_keys
from valetkey.store import tables


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    made = Owner(tmp_path)
    made("POST", "/services", {"name": "orders", "own": True})
    yield made
    made.frame.store.close()


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"endpoints": ["POST /v2/x"]}, "nothing in common"),
        ({"networks": ["10.0.0.0/8"]}, "nothing in common"),
        ({"rate": "500/s"}, "allows less than this key alone would: At most 20 a second"),
        (
            {"endpoints": ["GET /v1/**", "POST /v2/x"]},
            "allows less than this key alone would: Only GET /v1/**.",
        ),
        ({"networks": ["127.0.0.0/8", "10.0.0.0/8"]}, "Only from 127.0.0.0/8."),
        ({"endpoints": ["GET /v1/models"]}, None),
        ({"networks": ["127.0.0.1"], "rate": "1/s"}, None),
        ({}, None),
    ],
)
def test_a_derived_key_that_says_more_than_its_parent_allows_is_warned_of(
    owner: Owner, terms: dict[str, Any], said: str | None
) -> None:
    parent = owner.issue("ana", terms={"endpoints": ["GET /v1/**"], "networks": ["127.0.0.0/8"]})
    warnings = owner.derive(parent["id"], terms=terms)["warnings"]
    assert [said in one and parent["id"] in one for one in warnings] == ([True] if said else [])


def test_a_partner_key_that_can_open_nothing_is_warned_of(owner: Owner) -> None:
    owner.partner("acme", networks=["10.0.0.0/8"])
    issued = owner.issue("acme", kind="partner", terms={"networks": ["192.0.2.0/24"]})
    assert any("nothing in common" in one and "acme" in one for one in issued["warnings"])
    # What comes from it for somebody else is held to it too.
    derived = owner.derive(issued["id"], holder="bob", terms={"networks": ["192.0.2.1"]})
    assert any("nothing in common" in one and "acme" in one for one in derived["warnings"])


def test_a_key_shows_what_it_is_held_to(owner: Owner) -> None:
    owner.partner("acme", networks=["10.0.0.0/8"])
    parent = owner.issue("acme", kind="partner", terms={"endpoints": ["GET /v1/**"]})
    derived = owner.derive(parent["id"], holder="bob")
    key, agreed = owner("GET", f"/keys/{derived['id']}")["within"]
    assert (key["what"], key["name"]) == ("key", parent["id"])
    assert "Only GET /v1/**." in key["sentences"]
    assert (agreed["what"], agreed["name"]) == ("agreement", "acme")
    assert "Only from 10.0.0.0/8." in agreed["sentences"]
    assert owner("GET", f"/keys/{parent['id']}")["within"] == [agreed]


@pytest.mark.parametrize(
    ("wide", "narrow", "covered", "common"),
    [
        ("GET /v1/**", "GET /v1/models", True, True),
        ("GET /v1/**", "GET /v1/*/x", True, True),
        ("GET /v1/**", "GET /v1/", True, True),
        ("GET /v1/**", "GET /v1", False, False),
        ("GET /v1/*", "GET /v1/", False, False),
        ("GET /v1/*", "GET /v1/**", False, True),
        ("GET /v1/x", "GET /v1/*", False, True),
        ("* /v1/x", "POST /v1/x", True, True),
        ("GET /v1/x", "HEAD /v1/x", True, True),
        ("POST /v1/x", "GET,POST /v1/x", False, True),
        ("GET a.example/v1/x", "GET /v1/x", False, True),
        ("GET a.example/v1/x", "GET b.example/v1/x", False, False),
    ],
)
def test_patterns_are_compared_by_the_calls_they_match(
    wide: str, narrow: str, covered: bool, common: bool
) -> None:
    one, other = EndpointPattern(wide), EndpointPattern(narrow)
    assert (covers(one, other), overlap(one, other), overlap(other, one)) == (covered, common, common)


def test_a_key_that_ended_with_its_token_says_so_and_one_revoked_by_hand_does_not(owner: Owner) -> None:
    token = owner("POST", "/tokens", {"party": "ci"})
    actor = Actor(ActorKind.TOKEN, "ci", f"token:{token['id']}")
    request = IssueKey(service="orders", kind=KeyKind.TEMPORARY, with_session=True)
    first, second = (
        owner.frame.perform(issue_key, msgspec.structs.replace(request, label=label), actor).answer.id
        for label in ("first", "second")
    )
    owner("POST", f"/keys/{first}/revoke")
    owner("POST", f"/tokens/{token['id']}/revoke")
    assert owner("GET", f"/keys/{second}")["because"] == f"It ended with token {token['id']}."
    assert owner("GET", f"/keys/{first}")["because"] is None


def test_a_second_revoke_says_that_it_was_dead_and_since_when(owner: Owner) -> None:
    key = owner.issue("ana")["id"]
    first = owner("POST", f"/keys/{key}/revoke")
    owner.now += 1
    second = owner("POST", f"/keys/{key}/revoke")
    assert (first["already"], second["already"], second["ended"]) == (False, True, first["ended"])


@pytest.mark.parametrize(
    ("blocks", "warned"),
    [
        (["0.0.0.0/0"], "every IPv4 address"),
        (["::/0"], "every IPv6 address"),
        (["0.0.0.0/1", "128.0.0.0/1"], "every IPv4 address"),
        (["10.0.0.0/8"], None),
    ],
)
def test_a_network_that_keeps_nobody_out_is_warned_of_and_so_is_a_key_on_it(
    owner: Owner, blocks: list[str], warned: str | None
) -> None:
    added = owner("POST", "/networks", {"name": "any", "blocks": blocks})
    named = owner.issue("ana", terms={"networks": ["any"]})
    plain = owner.issue("ben", terms={"networks": blocks})
    for answer in (added, named, plain):
        assert [warned in said for said in answer["warnings"]] == ([True] if warned else [])


def test_a_network_that_is_named_anew_says_what_it_was(owner: Owner) -> None:
    first = owner("POST", "/networks", {"name": "office", "blocks": ["203.0.113.0/24"]})
    again = owner("POST", "/networks", {"name": "office", "blocks": ["203.0.113.0/24"]})
    other = owner("POST", "/networks", {"name": "office", "listener": "10.0.0.1"})
    last = owner("POST", "/networks", {"name": "office", "blocks": ["10.0.0.0/8"]})
    assert (first["before"], again["before"]) == (None, None)
    assert other["before"] == {"blocks": ["203.0.113.0/24"], "interface": None, "listener": None}
    assert last["before"] == {"blocks": [], "interface": None, "listener": "10.0.0.1"}


def test_a_network_goes_when_no_key_and_no_agreement_names_it(owner: Owner) -> None:
    for name in ("office", "office-2"):
        owner("POST", "/networks", {"name": name, "blocks": ["203.0.113.0/24"]})
    owner.partner("acme", networks=["office"])
    key = owner.issue("ana", terms={"networks": ["10.0.0.0/8", "office"]})["id"]
    # Neither an endpoint of that name nor a longer name is the network.
    owner.issue("ben", terms={"networks": ["office-2"], "endpoints": ["GET /office"]}, label="office")
    refused = owner("DELETE", "/networks/office", status=409)
    assert refused["detail"] == f"office is named by 1 key ({key}) and by 1 agreement (acme)."
    owner("PATCH", f"/keys/{key}", {"terms": {"networks": ["10.0.0.0/8"]}})
    refused = owner("DELETE", "/networks/office", status=409)
    assert refused["detail"] == "office is named by 1 agreement (acme)."
    assert owner.issue("cem", terms={"networks": ["office"]}, label="still there")["id"]
    owner("POST", "/partners/acme/end")
    assert "by 1 key" in owner("DELETE", "/networks/office", status=409)["detail"]
    for key in [one["id"] for one in owner("GET", "/keys?holder=cem")["items"]]:
        owner("POST", f"/keys/{key}/revoke")
    assert owner("DELETE", "/networks/office")["blocks"] == ["203.0.113.0/24"]
    assert [one["name"] for one in owner("GET", "/networks")["items"]] == ["office-2"]
    with owner.frame.store.read() as connection:
        audit = tables.audit.c
        done = connection.execute(select(audit.subject).where(audit.action == "network:remove")).scalars()
        assert list(done) == ["network:office"]
    missing = owner("DELETE", "/networks/offce-2", status=404)
    assert "Did you mean 'office-2'?" in missing["next_step"]
    owner("POST", "/networks", {"name": "office", "blocks": ["10.0.0.0/8"]})
    assert owner.issue("dan", terms={"networks": ["office"]})["id"]


def test_living_keys_that_stay_pinned_are_those_of_the_party(owner: Owner) -> None:
    keys = [
        owner.issue(holder, label=str(n), terms={"sticky": True})["id"]
        for n, holder in enumerate(("ana", "ana", "ana", "ben"))
    ]
    for key in (keys[0], keys[1], keys[3]):
        owner.frame.perform(pin_key, PinKey(key, "203.0.113.7"), SYSTEM)
    owner("POST", f"/keys/{keys[1]}/revoke")
    with owner.frame.store.read() as connection:
        assert pinned_keys(connection, owner.frame.workspace, "ana") == (keys[0],)


def test_a_key_that_ends_before_it_was_asked_to_says_so(owner: Owner) -> None:
    def said(made: dict[str, Any]) -> list[str]:
        return [one for one in made["warnings"] if one.startswith("It ends")]

    owner.partner("acme", ends="2099-12-31")
    assert said(owner.issue("acme", kind="partner", label="long", expires="2100-06-01")) == [
        "It ends with the agreement, on 2100-01-01 00:00 UTC, and not on 2100-06-02 00:00 UTC as asked."
    ]
    for asked in ("2099-12-31", None):
        assert said(owner.issue("acme", kind="partner", label=f"until {asked}", expires=asked)) == []
    parent = owner.issue("ana", expires="2099-01-01T12:00Z")["id"]
    assert said(owner.derive(parent, expires="2099-01-01T13:00Z")) == [
        "It ends with the key that it comes from, on 2099-01-01 12:00 UTC, "
        "and not on 2099-01-01 13:00 UTC as asked."
    ]
    assert said(owner.derive(parent, expires="5d")) == []
