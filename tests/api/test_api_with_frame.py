"""The control API over the real operations and a real store."""

from __future__ import annotations

import base64

import pytest
from api_world import Caller, FrameDesk
from test_api_security import is_problem

VALUE = "sk-test-" + "Qw3r" * 10


@pytest.fixture
def openai(owner: Caller) -> Caller:
    """An owner who has a service with a secret."""
    assert owner("POST", "/api/v1/services", {"name": "openai", "preset": "openai"}).status == 201
    assert owner("POST", "/api/v1/secrets", {"service": "openai", "value": VALUE}).status == 201
    return owner


def test_a_key_is_issued_listed_changed_and_revoked(openai: Caller) -> None:
    issued = openai("POST", "/api/v1/keys", {"service": "openai", "terms": {"endpoints": ["GET /v1/models"]}})
    assert issued.status == 201
    key_id, value = issued.json["id"], issued.json["key"]
    assert value.startswith("vk_prv_")
    listed = openai("GET", "/api/v1/keys?service=openai&state=active&limit=1")
    assert [key["id"] for key in listed.json["items"]] == [key_id]
    assert value.encode() not in listed.body
    changed = openai("PATCH", f"/api/v1/keys/{key_id}", {"label": "new", "terms": {"rate": "2/s"}})
    assert changed.json["label"] == "new"
    assert openai("GET", f"/api/v1/keys/{key_id}").json == changed.json
    assert openai("POST", f"/api/v1/keys/{key_id}/suspend").json["state"] == "suspended"
    assert openai("POST", f"/api/v1/keys/{key_id}/resume").json["state"] == "active"
    assert openai("POST", f"/api/v1/keys/{key_id}/revoke").json["state"] == "revoked"
    is_problem(openai("POST", f"/api/v1/keys/{key_id}/resume"), 409, "CONFLICT")
    is_problem(openai("POST", f"/api/v1/keys/{key_id}/value"), 400, "INVALID")


def test_a_body_beyond_what_the_server_takes_is_noted(owner: Caller) -> None:
    wide = {"name": "films", "base_url": "https://films.example.com", "auth": "bearer", "max_body_mb": 9_000}
    (note,) = owner("POST", "/api/v1/services", wide).json["notes"]
    assert note == "This server takes no body over 5000 MB until it is started with serve --max-body-mb 9000."
    changed = [
        owner("PATCH", "/api/v1/services/films", {"max_body_mb": size}).json for size in (5_000, 5_001)
    ]
    assert [len(one["notes"]) for one in changed] == [0, 1]


@pytest.mark.parametrize("size", [0, -1, 17_180])
def test_a_largest_body_that_makes_no_sense_is_told_in_megabytes(owner: Caller, size: int) -> None:
    asked = {"name": "films", "preset": "openai", "max_body_mb": size}
    answer = owner("POST", "/api/v1/services", asked)
    is_problem(answer, 400, "INVALID")
    assert (answer.json["field"], answer.json["next_step"]) == ("max_body_mb", "Write 1 to 17179 megabytes.")


def test_pages_of_keys_hang_together(openai: Caller) -> None:
    ids = [
        openai("POST", "/api/v1/keys", {"service": "openai", "label": str(n)}).json["id"] for n in range(5)
    ]
    seen: list[str] = []
    cursor = ""
    while True:
        page = openai("GET", f"/api/v1/keys?limit=2{cursor}").json
        seen += [key["id"] for key in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert sorted(seen) == sorted(ids)
    assert len(seen) == 5


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "xx",
        "%C3%A9",
        base64.urlsafe_b64encode(b"[1]").decode(),
        base64.urlsafe_b64encode(b"{").decode(),
        "W10=",
    ],
)
def test_a_cursor_that_was_not_given_out_is_refused(openai: Caller, cursor: str) -> None:
    is_problem(openai("GET", f"/api/v1/keys?cursor={cursor}"), 400, "INVALID")


def test_a_secret_goes_in_and_never_comes_out(openai: Caller, said: list[str]) -> None:
    answers = [
        openai("POST", "/api/v1/secrets", {"service": "openai", "value": VALUE}),
        openai(
            "POST",
            "/api/v1/secrets",
            {"service": "openai", "name": "other", "value": VALUE, "strict": True},
        ),
        openai("POST", "/api/v1/secrets", {"service": "nobody", "value": VALUE}),
        openai("GET", "/api/v1/secrets"),
        openai("GET", "/api/v1/secrets/openai/default/versions"),
        openai("POST", "/api/v1/secrets/openai/default/retire", {"version": 1}),
        openai("POST", "/api/v1/secrets/openai/default/retire"),
    ]
    assert [answer.status for answer in answers] == [201, 400, 404, 200, 200, 200, 200]
    assert not [answer for answer in answers if VALUE.encode() in answer.body]
    assert said and not [line for line in said if VALUE in line]


def test_services_are_shown_changed_locked_and_removed(openai: Caller) -> None:
    assert openai("PATCH", "/api/v1/services/openai", {"price": "0.02"}).json["price"] == "0.02"
    assert openai("POST", "/api/v1/services/openai/lock").json["locked"] is True
    assert openai("GET", "/api/v1/services").json["items"][0]["locked"] is True
    assert openai("POST", "/api/v1/services/openai/unlock").json["locked"] is False
    is_problem(openai("POST", "/api/v1/services/openai/credential"), 400, "INVALID")
    assert openai("DELETE", "/api/v1/services/openai").status == 200
    is_problem(openai("GET", "/api/v1/services/openai"), 404, "NOT_FOUND")


def test_networks_and_parties_are_added_and_listed(owner: Caller) -> None:
    assert owner("POST", "/api/v1/networks", {"name": "office", "blocks": ["203.0.113.0/24"]}).status == 201
    assert owner("POST", "/api/v1/parties", {"name": "bo"}).status == 201
    is_problem(owner("POST", "/api/v1/parties", {"name": "bo"}), 409, "CONFLICT")
    assert [n["name"] for n in owner("GET", "/api/v1/networks").json["items"]] == ["office"]
    assert "bo" in [p["name"] for p in owner("GET", "/api/v1/parties").json["items"]]


def test_a_token_opens_the_api_until_it_is_revoked_and_breeds_no_other(
    real_desk: FrameDesk, owner: Caller
) -> None:
    made = owner("POST", "/api/v1/tokens", {"party": "ci-runner"}).json
    program = Caller.remote(real_desk).with_headers(
        ("host", "localhost"), ("authorization", f"Bearer {made['token']}")
    )
    assert program("GET", "/api/v1/tokens").json["items"][0]["id"] == made["id"]
    is_problem(program("POST", "/api/v1/tokens", {"party": "ci-runner"}), 403, "NOT_PERMITTED")
    assert owner("POST", f"/api/v1/tokens/{made['id']}/revoke").status == 200
    is_problem(program("GET", "/api/v1/tokens"), 401, "NOT_AUTHENTICATED")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/keys", {"service": "openai", "terms": {"uses": 10**30}}),
        ("/api/v1/keys", {"service": "openai", "terms": {"burst": -1, "rate": "5/s"}}),
        ("/api/v1/keys", {"service": "openai", "terms": {"concurrency": 2**63}}),
        ("/api/v1/keys", {"service": "openai", "expires": "x"}),
        ("/api/v1/keys", {"service": "openai", "expires": "999999999y"}),
        ("/api/v1/keys", {"service": "openai", "terms": {"schedule": "x"}}),
        ("/api/v1/keys", {"service": "openai", "terms": {"quotas": ["x"]}}),
        ("/api/v1/keys", {"service": "openai", "terms": {"budgets": ["1e5/day"]}}),
        ("/api/v1/keys", {"service": "openai", "terms": {"networks": ["x/y"]}}),
        ("/api/v1/keys", {"service": "openai", "terms": {"origins": [""]}}),
        ("/api/v1/keys", {"service": "openai", "terms": {"hosts": ["\u2603"]}}),
        ("/api/v1/keys", {"service": "openai", "terms": {"endpoints": ["GET"]}}),
        ("/api/v1/services", {"name": "x"}),
        ("/api/v1/services", {"name": "UPPER", "own": True}),
        ("/api/v1/services", {"name": "ok", "own": True, "price": "Infinity"}),
        ("/api/v1/services", {"name": "ok", "preset": "../../etc/passwd"}),
        ("/api/v1/services", {"name": "ok", "base_url": "http://[", "auth": "bearer"}),
        ("/api/v1/services", {"name": "ok", "base_url": "https://a.example", "auth": "header:"}),
        ("/api/v1/networks", {"name": "office", "blocks": []}),
        ("/api/v1/networks", {"name": "office", "blocks": ["300.0.0.0/8"]}),
        ("/api/v1/parties", {"name": ""}),
        ("/api/v1/parties", {"name": "a\nb"}),
        ("/api/v1/secrets", {"service": "openai", "value": ""}),
        ("/api/v1/secrets", {"service": "openai", "value": "x" * 900_000}),
        ("/api/v1/secrets", {"service": "openai", "value": "a\u0007b"}),
        ("/api/v1/secrets", {"service": "openai", "value": VALUE, "name": "../x"}),
        ("/api/v1/secrets/openai/default/retire", {"version": 10**30}),
        ("/api/v1/secrets/openai/default/retire", {"version": 0}),
        ("/api/v1/tokens", {"party": " "}),
    ],
)
def test_values_that_cannot_be_are_refused_and_break_nothing(openai: Caller, path: str, body: object) -> None:
    is_problem(openai("POST", path, body), 400, "INVALID")
