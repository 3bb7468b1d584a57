"""POST /v1/verify: an own service asks whether a key may do something, and learns nothing it may not know."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from running_server import Answer, RunningServer, ValetKey
from valetkey.decision.reservation import SET_PRICE

pytestmark = pytest.mark.real

NAME = "billing"


@dataclass(frozen=True)
class OwnService:
    """An API of one's own that asks the gateway."""

    server: RunningServer
    name: str
    credential: str

    def ask(self, credential: str | None = None, **question: Any) -> Answer:
        body = json.dumps(question)
        return self.server.call("POST", "/v1/verify", credential or self.credential, body=body)

    def verdict(self, key: ValetKey | str, **facts: Any) -> dict[str, Any]:
        """The answer, which is always 200."""
        value = key.value if isinstance(key, ValetKey) else key
        answer = self.ask(key=value, **facts)
        assert answer.status == 200
        verdict: dict[str, Any] = answer.json
        assert verdict["valid"] is (verdict["code"] == "VALID")
        return verdict

    def code(self, key: ValetKey | str, **facts: Any) -> str:
        return str(self.verdict(key, **facts)["code"])


def own_service(server: RunningServer, name: str, **definition: Any) -> OwnService:
    server.manage("POST", "/services", {"name": name, "own": True, **definition})
    credential = server.manage("POST", f"/services/{name}/credential", {})["credential"]
    assert credential.startswith("vk_svc_")
    return OwnService(server, name, credential)


@pytest.fixture(scope="module")
def billing(server: RunningServer) -> Iterator[OwnService]:
    return own_service(server, NAME)


@pytest.fixture(scope="module")
def other(server: RunningServer) -> Iterator[OwnService]:
    return own_service(server, "other")


def test_a_good_key_is_valid_and_says_whose_it_is(billing: OwnService) -> None:
    key = billing.server.issue(NAME)
    verdict = billing.verdict(key, method="GET", path="/invoices")
    assert verdict["valid"] is True
    assert verdict["key_id"] == key.id
    assert verdict["holder"].startswith("holder-")
    assert billing.verdict(key)["valid"] is True


@pytest.mark.parametrize("credential", ["vk_svc_wrong", "x", "vk_svc_" + "a" * 43, ""])
def test_without_a_good_service_credential_nothing_is_said(billing: OwnService, credential: str) -> None:
    key = billing.server.issue(NAME)
    body = json.dumps({"key": key.value})
    answer = billing.server.call(
        "POST", "/v1/verify", headers={"Authorization": f"Bearer {credential}"}, body=body
    )
    assert answer.status == 401
    assert key.id not in answer.everything.decode()
    assert billing.server.call("POST", "/v1/verify", body=body).status == 401


def test_a_valet_key_is_no_service_credential(billing: OwnService) -> None:
    key = billing.server.issue(NAME)
    assert billing.ask(key.value, key=key.value).status == 401


def test_a_service_credential_is_no_valet_key(billing: OwnService) -> None:
    assert billing.code(billing.credential) == "UNKNOWN_KEY"
    assert billing.server.call("GET", f"/{NAME}/a", billing.credential).code == "UNKNOWN_KEY"


def test_a_key_of_another_service_is_denied_and_nothing_of_it_is_told(
    billing: OwnService, other: OwnService
) -> None:
    key = billing.server.issue(NAME)
    verdict = other.verdict(key)
    assert verdict["code"] == "SERVICE_DENIED"
    assert not {"key_id", "holder", "kind", "endpoint"} & set(verdict)
    upstream_key = billing.server.issue("openai")
    assert billing.verdict(upstream_key)["code"] == "SERVICE_DENIED"


@pytest.mark.parametrize(
    "value", ["", "x", "vk_prv_nobody", "vk_prv_" + "A1b" * 20, "ключ", "a" * 5000, "\n", "\u0000"]
)
def test_an_unknown_key_is_unknown_whatever_it_looks_like(billing: OwnService, value: str) -> None:
    verdict = billing.verdict(value)
    assert verdict["code"] == "UNKNOWN_KEY"
    assert not {"key_id", "holder", "kind"} & set(verdict)


@pytest.mark.parametrize(
    ("terms", "facts", "without"),
    [
        ({"networks": ["10.1.0.0/16"]}, {"address": "10.1.2.3"}, "NETWORK_DENIED"),
        ({"origins": ["https://app.example.com"]}, {"origin": "https://app.example.com"}, "ORIGIN_DENIED"),
        ({"endpoints": ["GET /invoices/*"]}, {"method": "GET", "path": "/invoices/7"}, "ENDPOINT_DENIED"),
        ({"deny_endpoints": ["GET /admin/**"]}, {"method": "GET", "path": "/invoices"}, "ENDPOINT_DENIED"),
    ],
    ids=["address", "origin", "endpoint", "denied endpoint"],
)
def test_a_fact_that_the_key_needs_and_the_question_lacks_refuses(
    billing: OwnService, terms: dict[str, Any], facts: dict[str, Any], without: str
) -> None:
    key = billing.server.issue(NAME, **terms)
    assert billing.code(key, **facts) == "VALID"
    assert billing.code(key) == without


def test_restrictions_refuse_what_they_do_not_allow(billing: OwnService) -> None:
    key = billing.server.issue(NAME, networks=["10.1.0.0/16"], endpoints=["GET /invoices/*"])
    good = {"address": "10.1.2.3", "method": "GET", "path": "/invoices/7"}
    assert billing.code(key, **good) == "VALID"
    assert billing.code(key, **{**good, "address": "10.2.2.3"}) == "NETWORK_DENIED"
    assert billing.code(key, **{**good, "address": "::ffff:10.1.2.3"}) == "VALID"
    assert billing.code(key, **{**good, "method": "POST"}) == "ENDPOINT_DENIED"
    assert billing.code(key, **{**good, "path": "/invoices/7/lines"}) == "ENDPOINT_DENIED"
    assert billing.code(key, **{**good, "path": "/invoices/%2e%2e"}) == "PATH_REFUSED"
    assert billing.code(key, **{**good, "path": "/invoices/7?x=1"}) == "VALID"


def test_the_life_of_a_key_decides(billing: OwnService) -> None:
    key = billing.server.issue(NAME)
    billing.server.stop_key(key, "suspend")
    assert billing.code(key) == "SUSPENDED"
    billing.server.stop_key(key, "resume")
    assert billing.code(key) == "VALID"
    billing.server.stop_key(key)
    assert billing.code(key) == "REVOKED"


def test_a_cost_over_the_budget_is_refused_and_spends_nothing(billing: OwnService) -> None:
    key = billing.server.issue(NAME, budgets=["1.00/month"])
    assert billing.code(key, cost=0.6) == "VALID"
    assert billing.code(key, cost="0.5") == "BUDGET_EXCEEDED"
    assert billing.code(key, cost="0.400001") == "BUDGET_EXCEEDED"
    assert billing.code(key, cost="0.4") == "VALID"
    assert billing.code(key, cost="0.000001") == "BUDGET_EXCEEDED"


def test_a_budget_where_nothing_has_a_price_is_not_called_spent(billing: OwnService) -> None:
    key = billing.server.issue(NAME, budgets=["1.00/month"])
    said = billing.verdict(key)
    assert said["code"] == "BUDGET_EXCEEDED"
    assert "has no price" in said["sentence"]
    assert "spent" not in said["sentence"]
    assert said["next_step"] == SET_PRICE
    checked = billing.server.manage("POST", f"/keys/{key.id}/check", {"method": "GET", "path": "/"})
    assert (checked["sentence"], checked["next_step"]) == (said["sentence"], SET_PRICE)


@pytest.mark.parametrize("cost", [-1, "-0.01", "NaN", "Infinity", "a lot", 1e300])
def test_a_cost_that_is_no_price_is_malformed_and_spends_nothing(billing: OwnService, cost: object) -> None:
    key = billing.server.issue(NAME, budgets=["1.00/month"])
    assert billing.code(key, cost=cost) == "MALFORMED"
    assert billing.code(key, cost=1) == "VALID"


def test_uses_are_spent_by_asking_and_stop_at_the_limit(billing: OwnService) -> None:
    key = billing.server.issue(NAME, uses=3)
    assert [billing.code(key) for _ in range(5)] == ["VALID"] * 3 + ["USES_EXHAUSTED"] * 2


def test_a_rate_says_when_to_come_again(billing: OwnService) -> None:
    key = billing.server.issue(NAME, rate="1/min", burst=1)
    assert billing.code(key) == "VALID"
    verdict = billing.verdict(key)
    assert verdict["code"] == "RATE_LIMITED"
    assert 0 < verdict["retry_after"] <= 60


@pytest.mark.parametrize(
    "body",
    ["", "{}", "[]", "null", '{"key": 1}', '{"key": "a", "unknown": 1}', "{", '{"key":"\\ud800"}', "\xff"],
)
def test_a_question_that_is_none_is_malformed_without_an_echo(billing: OwnService, body: str) -> None:
    answer = billing.server.call("POST", "/v1/verify", billing.credential, body=body.encode("latin-1"))
    assert answer.status == 200
    assert (answer.json["valid"], answer.json["code"]) == (False, "MALFORMED")
    assert "unknown" not in answer.body.decode().lower()


def test_a_question_of_a_megabyte_is_too_large(billing: OwnService) -> None:
    body = json.dumps({"key": "a" * 1_000_000})
    assert billing.server.call("POST", "/v1/verify", billing.credential, body=body).status == 413


def test_only_post_asks(billing: OwnService) -> None:
    assert billing.server.call("GET", "/v1/verify", billing.credential).status == 405


def test_a_question_is_recorded_as_a_call(billing: OwnService) -> None:
    key = billing.server.issue(NAME)
    verdict = billing.verdict(key, method="GET", path="/invoices/7", address="192.0.2.9", operation="read")
    (event,) = billing.server.closed_events(key, 1)
    assert event["call"] == verdict["call"]
    assert (event["code"], event["path"], event["address"]) == ("VALID", "/invoices/7", "192.0.2.9")


def test_an_own_service_is_not_forwarded_to(billing: OwnService) -> None:
    key = billing.server.issue(NAME)
    assert billing.server.call("GET", f"/{NAME}/invoices", key).code == "UNKNOWN_KEY"


def test_a_credential_that_was_taken_back_asks_nothing_any_more_and_its_neighbour_goes_on(
    server: RunningServer,
) -> None:
    parcels = own_service(server, "parcels")
    second = server.manage("POST", "/services/parcels/credential", {})
    key = server.issue("parcels")
    ended = server.manage("POST", f"/services/parcels/credentials/{second['id']}/revoke", {})
    assert ended["acknowledged"] >= 1
    assert parcels.ask(second["credential"], key=key.value).status == 401
    assert parcels.verdict(key)["valid"] is True
    listed = server.manage("GET", "/services/parcels/credentials")["items"]
    assert [one["revoked"] is None for one in listed if one["id"] == second["id"]] == [False]


def test_a_key_is_found_by_its_value_after_it_died(server: RunningServer, billing: OwnService) -> None:
    key = server.issue(NAME)
    server.stop_key(key)
    found = server.manage("POST", "/keys/find", {"key": key.value})
    assert (found["id"], found["state"]) == (key.id, "revoked")
