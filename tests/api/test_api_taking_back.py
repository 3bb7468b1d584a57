"""What a leak asks for: finding a key by its value, taking service credentials back, labels that steer nothing."""

from __future__ import annotations

from typing import Any

import pytest
from api_world import OWNER, WALL, Caller, FrameDesk
from test_api_security import is_problem

from valetkey.gateway.facts import CredentialFact
from valetkey.keys.credentials import CredentialName, make_credential, revoke_credential
from valetkey.keys.life import KeyState
from valetkey.keys.queries import list_keys
from valetkey.server.facts import FactLoader
from valetkey.services.operations import AddService, ServiceName, add_service

NEVER = "vk_prv_" + "A1b2" * 12 + "A"


@pytest.fixture
def orders(owner: Caller) -> Caller:
    """An owner who has a service of their own."""
    assert owner("POST", "/api/v1/services", {"name": "orders", "own": True}).status == 201
    return owner


def issue(caller: Caller, **fields: Any) -> dict[str, Any]:
    answer = caller("POST", "/api/v1/keys", {"service": "orders", **fields})
    assert answer.status == 201, answer.body
    return dict(answer.json)


def test_a_key_that_was_found_is_named_by_its_value_even_when_it_is_dead(
    orders: Caller, said: list[str]
) -> None:
    issued = issue(orders)
    orders("POST", f"/api/v1/keys/{issued['id']}/revoke")
    found = orders("POST", "/api/v1/keys/find", {"key": f" {issued['key']}\n"})
    assert (found.status, found.json["id"], found.json["state"]) == (200, issued["id"], "revoked")
    assert issued["key"].encode() not in found.body
    assert said and not [line for line in said if issued["key"] in line]


def test_a_value_that_is_no_key_of_ours_is_told_without_being_repeated(orders: Caller) -> None:
    credential = orders("POST", "/api/v1/services/orders/credential").json["credential"]
    token = orders("POST", "/api/v1/tokens", {"party": "bot"}).json["token"]
    for value, status, word in (
        (NEVER, 400, "checksum"),
        ("nonsense", 400, ""),
        (credential, 404, "service credential"),
        (token, 404, "API token"),
    ):
        answer = orders("POST", "/api/v1/keys/find", {"key": value})
        is_problem(answer, status, "INVALID" if status == 400 else "NOT_FOUND")
        assert word in answer.json["detail"]
        assert value.encode() not in answer.body


def test_keys_are_listed_by_their_last_four_characters(orders: Caller) -> None:
    one, _ = issue(orders), issue(orders, label="other")
    listed = orders("GET", f"/api/v1/keys?last4={one['last4']}").json["items"]
    assert [key["id"] for key in listed] == [one["id"]]
    is_problem(orders("GET", "/api/v1/keys?last4=toolong"), 400, "INVALID")


def test_keys_past_their_end_are_listed_as_expired_and_no_longer_as_active(
    orders: Caller, real_desk: FrameDesk
) -> None:
    brief, dead = issue(orders, expires="1h")["id"], issue(orders, label="gone")["id"]
    orders("POST", f"/api/v1/keys/{dead}/revoke")

    def listed(state: KeyState, now: float) -> list[str]:
        with real_desk.frame.store.read() as connection:
            return [key.id for key in list_keys(connection, real_desk.workspace, state=state, now=now).items]

    assert (listed(KeyState.ACTIVE, WALL), listed(KeyState.EXPIRED, WALL)) == ([brief], [])
    assert (listed(KeyState.ACTIVE, WALL + 3600), listed(KeyState.EXPIRED, WALL + 3600)) == ([], [brief])
    assert listed(KeyState.REVOKED, WALL + 3600) == [dead]
    assert orders("GET", "/api/v1/keys?state=expired").json["items"] == []


def test_a_service_credential_is_listed_and_taken_back(orders: Caller) -> None:
    first = orders("POST", "/api/v1/services/orders/credential").json
    second = orders("POST", "/api/v1/services/orders/credential").json
    revoked = orders("POST", f"/api/v1/services/orders/credentials/{first['id']}/revoke")
    assert (revoked.status, revoked.json["revoked"]) == (200, WALL)
    again = orders("POST", f"/api/v1/services/orders/credentials/{first['id']}/revoke")
    assert again.json["revoked"] == WALL
    page = orders("GET", "/api/v1/services/orders/credentials")
    assert {one["id"]: one["revoked"] for one in page.json["items"]} == {
        first["id"]: WALL,
        second["id"]: None,
    }
    assert first["credential"].encode() not in page.body
    assert orders("GET", "/api/v1/audit").status == 200
    is_problem(orders("GET", "/api/v1/services/nothing/credentials"), 404, "NOT_FOUND")
    is_problem(orders("POST", "/api/v1/services/orders/credentials/crd_x/revoke"), 404, "NOT_FOUND")


def test_workers_are_told_that_a_credential_ended(real_desk: FrameDesk) -> None:
    frame = real_desk.frame
    frame.perform(add_service, AddService(name="orders", own=True), OWNER)
    made = frame.perform(make_credential, ServiceName("orders"), OWNER)
    ended = frame.perform(revoke_credential, CredentialName("orders", made.answer.id), OWNER)
    loader = FactLoader(frame.workspace, frame.keyring)
    with frame.store.read() as connection:
        (fact,) = loader.changed(connection, ended.changed)
    assert isinstance(fact, CredentialFact)
    assert fact.living is False
    assert (ended.entry.action, ended.entry.subject) == ("credential:revoke", f"credential:{made.answer.id}")


@pytest.mark.parametrize("label", ["a\nb", "a\x1b[2J", "x" * 121, " edge", "\u202eabc"])
def test_a_label_that_could_steer_a_terminal_is_refused_everywhere(orders: Caller, label: str) -> None:
    key = issue(orders)["id"]
    for method, path, body in (
        ("POST", "/api/v1/keys", {"service": "orders", "label": label}),
        ("PATCH", f"/api/v1/keys/{key}", {"label": label}),
        ("POST", "/api/v1/tokens", {"party": "bot", "label": label}),
    ):
        answer = orders(method, path, body)
        is_problem(answer, 400, "INVALID")
        assert answer.json["field"] == "label"


def test_single_values_are_cleared_and_only_those(orders: Caller) -> None:
    key = issue(orders, terms={"uses": 5, "concurrency": 3, "rate": "5/s", "burst": 9})["id"]
    changed = orders("PATCH", f"/api/v1/keys/{key}", {"terms": {"clear": ["uses", "concurrency", "burst"]}})
    limits = changed.json["policy"]["limits"]
    assert (limits.get("uses"), limits.get("concurrency")) == (None, None)
    assert limits["rate"] == {"count": 5, "per_seconds": 1, "burst": 5}
    is_problem(orders("PATCH", f"/api/v1/keys/{key}", {"terms": {"clear": ["rate"]}}), 400, "INVALID")
    is_problem(
        orders("PATCH", f"/api/v1/keys/{key}", {"terms": {"clear": ["uses"], "uses": 2}}), 400, "INVALID"
    )
    is_problem(
        orders("POST", "/api/v1/keys", {"service": "orders", "terms": {"clear": ["uses"]}}), 400, "INVALID"
    )


def test_a_temporary_key_cannot_lose_its_only_end(orders: Caller) -> None:
    key = issue(orders, kind="temporary", terms={"uses": 5})["id"]
    is_problem(orders("PATCH", f"/api/v1/keys/{key}", {"terms": {"clear": ["uses"]}}), 400, "INVALID")
    assert (
        orders("PATCH", f"/api/v1/keys/{key}", {"expires": "1h", "terms": {"clear": ["uses"]}}).status == 200
    )


def test_a_token_says_whether_its_party_was_made(orders: Caller) -> None:
    assert orders("POST", "/api/v1/tokens", {"party": "bot"}).json["party_made"] is True
    assert orders("POST", "/api/v1/tokens", {"party": "bot"}).json["party_made"] is False


def test_secrets_of_one_service_are_listed(orders: Caller) -> None:
    orders("POST", "/api/v1/services", {"name": "openai", "preset": "openai"})
    orders("POST", "/api/v1/secrets", {"service": "openai", "value": "sk-test-" + "Qw3r" * 10})
    assert len(orders("GET", "/api/v1/secrets?service=openai").json["items"]) == 1
    assert orders("GET", "/api/v1/secrets?service=orders").json["items"] == []
    is_problem(orders("GET", "/api/v1/secrets?service=nothing"), 404, "NOT_FOUND")


def test_a_service_shows_what_it_may_reach(owner: Caller) -> None:
    body = {
        "name": "wx",
        "base_url": "http://10.0.0.5",
        "auth": "bearer",
        "allow_private": True,
        "allow_plain_upstream": True,
    }
    made = owner("POST", "/api/v1/services", body).json
    assert (made["allow_private"], made["allow_plain_upstream"], made["ca_file"]) == (True, True, None)


def test_a_budget_that_cannot_be_read_is_told_with_one_that_can(orders: Caller) -> None:
    for text in ("5", "$5/day", "5,00/day"):
        answer = orders("POST", "/api/v1/keys", {"service": "orders", "terms": {"budgets": [text]}})
        is_problem(answer, 400, "INVALID")
        assert answer.json["next_step"] == "Write for example 5.00/month."


def test_a_block_that_is_none_is_one_sentence_and_one_step(owner: Caller) -> None:
    answer = owner("POST", "/api/v1/networks", {"name": "office", "blocks": ["300.0.0.0/8"]})
    is_problem(answer, 400, "INVALID")
    assert answer.json["detail"] == "'300.0.0.0/8' is neither a network nor a name of one."
    assert answer.json["next_step"].startswith("Write an IPv4 or IPv6 network such as ")
