"""Which requests reach which operation, and how wrong ones are told."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from api_world import WALL, Caller, FakeDesk
from test_api_security import is_problem

from valetkey.api import bodies
from valetkey.errors import Conflict, NotFound, Unavailable
from valetkey.keys.operations import ChangeKey
from valetkey.services.operations import ChangeService
from valetkey.vault.operations import RetireSecret


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"{", None),
        (b"", None),
        (b"null", None),
        (b"[]", None),
        (b"\xff", None),
        (b'{"service":"a"} {}', None),
        (b'{"service":"\\ud800"}', None),
        (b"{}", "service"),
        (b'{"service":5}', "service"),
        (b'{"service":"a","terms":{"burst":"5"}}', "terms.burst"),
        (b'{"service":"a","terms":{"burst":1e99}}', "terms.burst"),
        (b'{"service":"a","terms":{"networks":"10.0.0.0/8"}}', "terms.networks"),
        (b'{"service":"a","kind":"royal"}', "kind"),
        (b'{"service":"a","colour":"red"}', None),
        (b'{"service":"a","terms":{"colour":"red"}}', "terms"),
    ],
)
def test_a_wrong_body_is_told_with_its_field(
    desk: FakeDesk, remote: Caller, raw: bytes, field: str | None
) -> None:
    answer = remote("POST", "/api/v1/keys", raw=raw)
    is_problem(answer, 400, "INVALID")
    assert answer.json.get("field") == field
    assert desk.asked == []


@pytest.mark.parametrize("path", ["networks", "parties", "tokens", "services", "secrets", "keys/key_a/check"])
def test_a_field_that_nobody_reads_is_refused_everywhere(desk: FakeDesk, remote: Caller, path: str) -> None:
    needed: dict[str, dict[str, Any]] = {"networks": {"name": "a", "blocks": []}, "tokens": {"party": "a"}}
    body = needed.get(path, {"service": "a", "value": "b"} if path == "secrets" else {"name": "a"})
    answer = remote("POST", f"/api/v1/{path}", {**body, "colour": "red"})
    is_problem(answer, 400, "INVALID")
    assert "not known" in answer.json["detail"]
    assert desk.asked == []


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=many",
        "limit=",
        "limit=5&limit=6",
        "state=sleepy",
        "colour=red",
        "cursor=",
        f"cursor={'x' * 501}",
        "service=",
    ],
)
def test_a_query_that_is_wrong_or_unknown_is_refused(remote: Caller, query: str) -> None:
    is_problem(remote("GET", f"/api/v1/keys?{query}"), 400, "INVALID")


def test_a_query_on_a_route_without_one_is_refused(remote: Caller) -> None:
    is_problem(remote("GET", "/api/v1/status?verbose=1"), 400, "INVALID")


def test_a_body_where_none_belongs_is_refused_and_an_empty_object_is_none(remote: Caller) -> None:
    is_problem(remote("POST", "/api/v1/services/openai/lock", {"why": "x"}), 400, "INVALID")
    assert remote("POST", "/api/v1/services/openai/lock", {}).status == 200
    assert remote("POST", "/api/v1/services/openai/lock").status == 200


def test_an_unknown_address_is_told_as_such(remote: Caller) -> None:
    is_problem(remote("GET", "/api/v1/nothing"), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/keys", "GET, HEAD, POST"),
        ("/keys/key_a", "GET, HEAD, PATCH"),
        ("/services/a", "DELETE, GET, HEAD, PATCH"),
        ("/keys/key_a/revoke", "POST"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "OPTIONS", "TRACE", "BREW"])
def test_a_method_that_is_not_there_is_told_with_those_that_are(
    remote: Caller, method: str, path: str, allowed: str
) -> None:
    answer = remote(method, f"/api/v1{path}")
    is_problem(answer, 405, "METHOD_REFUSED")
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/api/v1/status", "/api/v1/audit", "/api/v1/openapi.json"]
)
def test_head_is_wherever_get_is_with_the_same_head_and_no_body(remote: Caller, path: str) -> None:
    got, asked = remote("GET", path), remote("HEAD", path)
    assert asked.status == got.status
    assert asked.headers == got.headers
    assert asked.body == b""
    assert got.body


def test_head_of_the_stream_ends(desk: FakeDesk, remote: Caller) -> None:
    desk.stream_ends = False
    answer = remote("HEAD", "/api/v1/events/stream")
    assert (answer.status, answer.body) == (200, b"")


def test_head_of_an_error_has_no_body(remote: Caller) -> None:
    answer = remote("HEAD", "/api/v1/nothing")
    assert (answer.status, answer.body) == (404, b"")


def test_the_stream_is_one_object_a_line(desk: FakeDesk, remote: Caller) -> None:
    desk.stream = [{"call": "1"}, {"call": "2\n"}]
    answer = remote("GET", "/api/v1/events/stream?key=key_a&code=VALID")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert [msgspec.json.decode(line) for line in answer.body.splitlines() if line] == desk.stream
    assert desk.listed == [{"key": "key_a", "service": None, "code": "VALID"}]


def test_the_stream_is_closed_when_the_client_leaves(desk: FakeDesk, remote: Caller) -> None:
    desk.stream, desk.stream_ends = [{"call": "1"}], False
    remote("GET", "/api/v1/events/stream", leaves=True)
    assert desk.stream_closed


def test_a_stream_that_fails_does_not_end_as_if_it_were_whole(
    desk: FakeDesk, remote: Caller, said: list[str]
) -> None:
    desk.stream = [{"call": "1"}, LookupError("something private")]
    answer = remote("GET", "/api/v1/events/stream")
    assert (answer.status, answer.ended) == (200, False)
    assert said and not [line for line in said if "private" in line]


@pytest.mark.parametrize(
    ("given", "meant"),
    [("1h", WALL - 3600), ("90d", WALL - 90 * 86_400), ("1789999999.5", 1789999999.5), (None, None)],
)
def test_since_is_a_span_back_or_an_instant(
    desk: FakeDesk, remote: Caller, given: str | None, meant: float | None
) -> None:
    assert remote("GET", "/api/v1/events" + ("" if given is None else f"?since={given}")).status == 200
    assert desk.listed[0]["since"] == meant


@pytest.mark.parametrize("given", ["yesterday", "1e999", "nan", "-5", "9" * 41])
def test_since_that_is_no_moment_is_refused(remote: Caller, given: str) -> None:
    is_problem(remote("GET", f"/api/v1/events?since={given}"), 400, "INVALID")


@pytest.mark.parametrize(("verb", "let_finish"), [("suspend", False), ("resume", False), ("revoke", True)])
def test_stopping_a_key_answers_who_has_heard(
    desk: FakeDesk, remote: Caller, verb: str, let_finish: bool
) -> None:
    answer = remote("POST", f"/api/v1/keys/key_a/{verb}", {"let_finish": True} if let_finish else None)
    assert answer.json == {
        "id": "key_a",
        "state": "revoked",
        "acknowledged": 2,
        "fenced": 1,
        "cut": 3,
        "ended": None,
        "already": False,
    }
    assert desk.asked[0][0] == f"key:{verb}"
    assert desk.asked[0][3] is let_finish


def test_the_idempotency_key_reaches_the_desk(desk: FakeDesk, remote: Caller) -> None:
    remote("POST", "/api/v1/keys", {"service": "openai"}, headers=(("idempotency-key", "a-random-word"),))
    remote("POST", "/api/v1/keys", {"service": "openai"})
    assert [token for *_, token in desk.asked] == ["a-random-word", None]


@pytest.mark.parametrize("word", ["", "x" * 129, "two words", "é"])
def test_an_idempotency_key_that_is_no_word_is_refused(desk: FakeDesk, remote: Caller, word: str) -> None:
    answer = remote("POST", "/api/v1/keys", {"service": "openai"}, headers=(("idempotency-key", word),))
    is_problem(answer, 400, "INVALID")
    assert desk.asked == []


def test_checking_a_call_names_the_key_of_the_address(desk: FakeDesk, remote: Caller) -> None:
    answer = remote(
        "POST", "/api/v1/keys/key_a/check", {"method": "GET", "path": "/v1/models", "address": "203.0.113.7"}
    )
    assert answer.json["code"] == "VALID"
    wanted = desk.checked[0]
    assert (wanted.id, wanted.method, wanted.path, wanted.address) == (
        "key_a",
        "GET",
        "/v1/models",
        "203.0.113.7",
    )
    assert (wanted.origin, wanted.host, wanted.at) == (None, None, None)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFound("There is no such thing.", "Look elsewhere.", field="service"), 404),
        (Conflict("It is there already.", "Use another name."), 409),
        (Unavailable("Not now.", "Later."), 503),
    ],
)
def test_errors_of_the_rooms_leave_with_their_words(
    desk: FakeDesk, remote: Caller, error: NotFound | Conflict | Unavailable, status: int
) -> None:
    desk.fails = error
    answer = remote("POST", "/api/v1/keys", {"service": "openai"})
    is_problem(answer, status, error.code)
    assert (answer.json["detail"], answer.json["next_step"]) == (error.sentence, error.next_step)
    assert answer.json.get("field") == error.field
    assert ("retry-after" in answer.headers) == (status == 503)


def test_a_probe_that_is_no_question_is_refused_unread(remote: Caller) -> None:
    stranger = remote.with_headers(("host", "localhost"))
    is_problem(stranger("POST", "/healthz", raw=[b"x" * 600_000] * 5), 405, "METHOD_REFUSED")
    is_problem(stranger("GET", "/healthz?verbose=1"), 400, "INVALID")


def test_health_is_told_to_everyone_and_readiness_only_in_coarse_words(
    desk: FakeDesk, remote: Caller
) -> None:
    stranger = remote.with_headers(("host", "localhost"))
    assert stranger("GET", "/healthz").json == {"status": "ok"}
    assert stranger("GET", "/readyz").json == {"status": "ok"}
    desk.ready = False
    assert stranger("GET", "/healthz").status == 200
    answer = stranger("GET", "/readyz")
    is_problem(answer, 503, "UNAVAILABLE")
    assert answer.json["missing"] == ["clock behind"]
    assert b"/srv/keys" not in answer.body and b"61" not in answer.body
    assert remote("GET", "/api/v1/status").json["missing"] == ["clock behind: 61 s"]


@pytest.mark.parametrize(
    ("body", "operation", "named"),
    [
        (bodies.ServiceChanges, ChangeService, {"name"}),
        (bodies.KeyChanges, ChangeKey, {"id"}),
        (bodies.SecretRetirement, RetireSecret, {"service", "name"}),
    ],
)
def test_bodies_have_all_fields_of_their_operation_but_those_in_the_address(
    body: type[msgspec.Struct], operation: type[msgspec.Struct], named: set[str]
) -> None:
    assert set(body.__struct_fields__) == set(operation.__struct_fields__) - named
