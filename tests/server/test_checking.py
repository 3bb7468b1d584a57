"""`key check`: the decision that the gateway would make, without a trace of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from doors_world import Doors, doors
from gateway_world import WALL
from valetkey.decision.codes import CODES, Code
from valetkey.decision.limits import Budget, Limits, Quota, Rate, Window
from valetkey.decision.policy import Policy
from valetkey.decision.restrictions import Endpoints, Hosts, Networks, Origins, Schedule
from valetkey.errors import Invalid, NotFound
from valetkey.services.origin import Origin

HOSTS = {"api": Origin.parse("https://api.example.com"), "files": Origin.parse("https://files.example.com")}
GOOD = {"method": "GET", "path": "/now", "address": "203.0.113.7", "origin": "https://app.example.com"}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Doors]:
    with doors(tmp_path) as made:
        made.add_pair("weather", hosts=HOSTS, price_micros=3)
        yield made


WEATHER, OWN = "svc_weather", "svc_weather-own"
RESTRICTED = Policy(
    (
        Networks(("203.0.113.0/24",)),
        Origins(("https://app.example.com",)),
        Hosts(("api",)),
        Endpoints(("GET /now",)),
        Schedule(("mon 00:00-24:00 UTC",)),
    )
)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ({}, Code.VALID),
        ({"address": "10.0.0.1"}, Code.NETWORK_DENIED),
        ({"address": None}, Code.NETWORK_DENIED),
        ({"origin": None}, Code.ORIGIN_DENIED),
        ({"host": "files"}, Code.HOST_DENIED),
        ({"host": "elsewhere"}, Code.SERVICE_DENIED),
        ({"method": "POST"}, Code.ENDPOINT_DENIED),
        ({"method": None}, Code.ENDPOINT_DENIED),
        ({"path": None}, Code.ENDPOINT_DENIED),
        ({"method": "BREW"}, Code.METHOD_REFUSED),
        ({"path": "/a/../now"}, Code.PATH_REFUSED),
        ({"path": "now"}, Code.PATH_REFUSED),
        ({"at": "2026-09-22T12:00:00Z"}, Code.SCHEDULE_DENIED),
        ({"at": "2026-09-21T12:00:00"}, Code.VALID),
        ({"at": "2026-09-21T23:30:00-02:00"}, Code.SCHEDULE_DENIED),
        ({"method": "get"}, Code.VALID),
        ({"path": "/now?units=metric"}, Code.VALID),
    ],
)
def test_the_answer_is_the_gateways_code_with_its_sentence_and_next_step(
    house: Doors, call: dict[str, Any], code: Code
) -> None:
    checked = house.check(house.add_key(WEATHER, RESTRICTED), **{**GOOD, **call})
    assert checked.code == code
    assert checked.sentence
    if call.get("address", call.get("origin", "")) is not None:
        assert checked.next_step == CODES[code].next_step
    assert checked.endpoint == ("GET /now" if code is Code.VALID else None)


@pytest.mark.parametrize(
    ("fact", "said", "next_step"),
    [
        ("address", "No address was given.", "Give the caller's address: --address."),
        ("origin", "No web origin was given.", "Give the caller's origin: --origin."),
    ],
)
def test_what_was_not_given_is_said_where_the_key_asks_for_it(
    house: Doors, fact: str, said: str, next_step: str
) -> None:
    key = house.add_key(WEATHER, RESTRICTED)
    checked = house.check(key, **{**GOOD, fact: None})
    assert checked.sentence.endswith(said)
    assert checked.next_step == next_step
    elsewhere = {"address": "10.0.0.1", "origin": "https://other.example"}[fact]
    assert "was given" not in house.check(key, **{**GOOD, fact: elsewhere}).sentence


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"state": "revoked"}, Code.REVOKED),
        ({"state": "suspended"}, Code.SUSPENDED),
        ({"expires": WALL}, Code.EXPIRED),
        ({"expires": WALL + 1}, Code.VALID),
    ],
)
def test_the_life_of_a_key_and_of_its_ancestors_counts(house: Doors, how: dict[str, Any], code: Code) -> None:
    parent = house.add_key(WEATHER, **how)
    child = house.add_key(WEATHER, parent=parent)
    grandchild = house.add_key(WEATHER, parent=child)
    assert [house.check(key, **GOOD).code for key in (parent, child, grandchild)] == [code] * 3


def test_a_lineage_deeper_than_keys_can_be_derived_is_refused(house: Doors) -> None:
    key = house.add_key(WEATHER)
    for _ in range(2):
        key = house.add_key(WEATHER, parent=key)
    assert house.check(key, **GOOD).code == Code.VALID
    deepest = house.add_key(WEATHER, parent=key)
    assert house.check(deepest, **GOOD).code == Code.SUSPENDED
    assert house.world.call(deepest).code == "SUSPENDED"


def test_an_end_that_was_reached_once_is_reached_for_ever(house: Doors) -> None:
    key = house.add_key(WEATHER, expires=WALL + 10)
    house.change("key", key.id, ended=WALL + 10)
    assert house.check(key, **GOOD).code == Code.EXPIRED


def test_an_instant_to_come_is_judged_as_if_it_were_now(house: Doors) -> None:
    key = house.add_key(WEATHER, expires=WALL + 3600)
    assert house.check(key, **GOOD).code == Code.VALID
    assert house.check(key, **GOOD, at="2027-01-01T00:00:00Z").code == Code.EXPIRED


@pytest.mark.parametrize(
    "at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "1969-12-31T00:00:00Z"]
)
def test_the_ends_of_the_calendar_are_refused_with_a_sentence(house: Doors, at: str) -> None:
    limits = Limits(quotas=(Quota(5, Window.MONTH),), budgets=(Budget(5, Window.HOUR),))
    key = house.add_key(WEATHER, Policy((Schedule(("mon-sun 00:00-24:00 Pacific/Kiritimati",)),), limits))
    with pytest.raises(Invalid) as refused:
        house.check(key, **GOOD, at=at)
    assert refused.value.field == "at"


def test_a_locked_service_and_a_service_that_is_gone_are_told_apart(house: Doors) -> None:
    key = house.add_key(WEATHER)
    house.change("service", WEATHER, locked=1)
    assert house.check(key, **GOOD).code == Code.SERVICE_LOCKED
    house.change("service", WEATHER, removed=WALL)
    assert house.check(key, **GOOD).code == Code.SERVICE_DENIED


def test_a_removed_holder_has_no_living_key(house: Doors) -> None:
    key = house.add_key(WEATHER)
    house.change("party", key.fact.holder_id, removed=WALL)
    assert house.check(key, **GOOD).code == Code.REVOKED


def test_an_own_services_key_has_no_host(house: Doors) -> None:
    key = house.add_key(OWN)
    assert house.check(key, **GOOD).code == Code.VALID
    assert house.check(key, **GOOD, host="api").code == Code.SERVICE_DENIED


def test_a_limit_that_is_reached_is_named_with_the_time_to_wait(house: Doors) -> None:
    key = house.add_key(WEATHER, Policy(limits=Limits(rate=Rate(1, 60, 1))))
    assert house.check(key, **GOOD).code == Code.VALID
    assert house.world.call(key).code == "VALID"
    checked = house.check(key, **GOOD)
    assert (checked.code, checked.limit, checked.retry_after) == (Code.RATE_LIMITED, "1 a minute", 60)
    assert "1 a minute" in checked.sentence
    house.clock.advance(60)
    assert house.check(key, **GOOD).code == Code.VALID


def test_an_ancestors_limit_counts(house: Doors) -> None:
    parent = house.add_key(WEATHER, Policy(limits=Limits(uses=1)))
    children = [house.add_key(WEATHER, parent=parent) for _ in range(2)]
    assert house.world.call(children[0]).code == "VALID"
    for key in (parent, *children):
        assert house.check(key, **GOOD).code == Code.USES_EXHAUSTED


def test_a_price_beyond_the_budget_is_told_before_it_is_spent(house: Doors) -> None:
    key = house.add_key(WEATHER, Policy(limits=Limits(budgets=(Budget(5, Window.DAY),))))
    assert house.check(key, **GOOD).code == Code.VALID
    assert house.world.call(key).code == "VALID"
    assert house.check(key, **GOOD).code == Code.BUDGET_EXCEEDED


def test_checking_spends_nothing_and_records_nothing(house: Doors) -> None:
    limits = Limits(uses=1, rate=Rate(1, 60, 1), concurrency=1, quotas=(Quota(1, Window.DAY),))
    key = house.add_key(WEATHER, Policy(limits=limits))
    records, counters = house.world.records(), house.world.peeking.read(key.fact.block)
    for _ in range(20):
        assert house.check(key, **GOOD).code == Code.VALID
    assert house.world.records() == records
    assert house.world.peeking.read(key.fact.block) == counters
    assert house.world.call(key).code == "VALID"


def test_a_network_follows_its_blocks_and_one_that_is_gone_refuses(house: Doors) -> None:
    house.add_network("office", "203.0.113.0/24")
    key = house.add_key(WEATHER, Policy((Networks(("office",)),)))
    assert house.check(key, **GOOD).code == Code.VALID
    house.add_network("office", "10.0.0.0/8")
    assert house.check(key, **GOOD).code == Code.NETWORK_DENIED
    gone = house.add_key(WEATHER, Policy((Networks(("nowhere",)),)))
    assert house.check(gone, **GOOD).code == Code.SUSPENDED


@pytest.mark.parametrize("at", ["", "yesterday", "2026-13-01", "12"])
def test_a_time_that_is_none_is_refused_with_a_sentence(house: Doors, at: str) -> None:
    with pytest.raises(Invalid) as refused:
        house.check(house.add_key(WEATHER), **GOOD, at=at)
    assert refused.value.field == "at"


def test_an_address_that_is_none_is_refused_with_a_sentence(house: Doors) -> None:
    with pytest.raises(Invalid) as refused:
        house.check(house.add_key(WEATHER), **{**GOOD, "address": "here"})
    assert refused.value.field == "address"


def test_an_unknown_key_is_not_found(house: Doors) -> None:
    with pytest.raises(NotFound):
        house.check("key_nobody", **GOOD)


def test_text_that_is_not_unicode_refuses(house: Doors) -> None:
    assert house.check(house.add_key(WEATHER), **{**GOOD, "path": "/\udcff"}).code == Code.PATH_REFUSED


def test_no_answer_holds_a_secret(house: Doors) -> None:
    key = house.add_key(WEATHER, RESTRICTED)
    checked = house.check(key, **{**GOOD, "origin": key.value, "path": f"/{key.value}"})
    assert key.value not in repr(checked)
