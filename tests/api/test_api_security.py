"""Who may come near the control API, and what stands on every answer."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from typing import Any

import pytest
from api_world import OWNER, PROGRAM, TOKEN, Caller, FakeDesk
from hypothesis import given, settings
from hypothesis import strategies as st

from valetkey.api.problems import problem
from valetkey.api.reading import MAX_BODY_BYTES, MAX_DEPTH
from valetkey.errors import NotFound
from valetkey.keys.format import generate
from valetkey.keys.kinds import KeyKind

SECRET = "sk-test-" + "Zz9y" * 8


def is_problem(answer: object, status: int, code: str) -> None:
    """A problem document of that status and code, with all that belongs to it."""
    assert answer.status == status, answer.body  # type: ignore[attr-defined]
    assert answer.headers["content-type"] == "application/problem+json"  # type: ignore[attr-defined]
    told = answer.json  # type: ignore[attr-defined]
    assert told["status"] == status
    assert told["code"] == code
    assert told["type"].endswith(f"#{code.lower()}")
    assert told["title"]
    assert told["detail"].endswith(".")
    assert told["next_step"]


@pytest.mark.parametrize(
    "path", ["/api/v1/keys", "/api/v1/nothing", "/api/v1", "/api/v1/openapi.json", "/api", "/api/v2/x"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_without_a_token_everything_under_api_is_refused_before_routing(
    remote: Caller, path: str, method: str
) -> None:
    answer = remote.with_headers(("host", "localhost"))(method, path)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="valetkey"'
    if method != "HEAD":
        is_problem(answer, 401, "NOT_AUTHENTICATED")


@pytest.mark.parametrize(
    "given",
    [
        "Bearer vk_api_wrong",
        "Bearer",
        "Bearer ",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN} {TOKEN}",
        "Bearer " + "x" * 100_000,
        "Bearer \xff\xfe",
    ],
)
def test_a_wrong_token_is_refused(remote: Caller, given: str) -> None:
    answer = remote.with_headers(("host", "localhost"), ("authorization", given))("GET", "/api/v1/status")
    is_problem(answer, 401, "NOT_AUTHENTICATED")
    assert TOKEN.encode() not in answer.body


def test_two_authorization_headers_are_nobody(remote: Caller) -> None:
    answer = remote("GET", "/api/v1/status", headers=(("authorization", f"Bearer {TOKEN}"),))
    is_problem(answer, 401, "NOT_AUTHENTICATED")


def test_the_scheme_of_the_token_is_read_in_any_case(remote: Caller) -> None:
    answer = remote.with_headers(("host", "localhost"), ("authorization", f"bEARER {TOKEN}"))
    assert answer("GET", "/api/v1/status").status == 200


def test_a_token_acts_as_its_party_and_the_socket_as_the_owner(
    desk: FakeDesk, remote: Caller, local: Caller
) -> None:
    remote("POST", "/api/v1/parties", {"name": "bo"})
    local("POST", "/api/v1/parties", {"name": "bo"})
    assert [actor for _, _, actor, _, _ in desk.asked] == [PROGRAM, OWNER]


def test_the_body_of_a_stranger_is_not_read(remote: Caller) -> None:
    answer = remote.with_headers(("host", "localhost"))("POST", "/api/v1/keys", raw=[b"x" * 600_000] * 5)
    is_problem(answer, 401, "NOT_AUTHENTICATED")


@pytest.mark.parametrize(
    "hosts",
    [
        ("evil.example",),
        ("localhost.evil.example:8200",),
        (),
        ("localhost", "localhost"),
        ("localhost:80:80",),
        ("",),
    ],
)
def test_an_unknown_host_is_refused_before_anything_else(remote: Caller, hosts: tuple[str, ...]) -> None:
    caller = remote.with_headers(*(("host", name) for name in hosts), ("authorization", f"Bearer {TOKEN}"))
    for path in ("/api/v1/status", "/healthz", "/nothing"):
        is_problem(caller("GET", path), 421, "HOST_UNKNOWN")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8200", "[::1]:8200", "[::1]"])
def test_known_hosts_are_let_in_with_and_without_a_port(remote: Caller, host: str) -> None:
    assert remote.with_headers(("host", host))("GET", "/healthz").status == 200


def test_the_unix_socket_asks_for_no_host(local: Caller) -> None:
    assert local.with_headers(("host", "whatever"))("GET", "/api/v1/status").status == 200


@pytest.mark.parametrize(
    "raw_path",
    [
        "//api/v1/status",
        "/api//v1/status",
        "/api/v1/%73tatus",
        "/%61pi/v1/status",
        "/api/v1/./status",
        "/api/v1/x/../status",
    ],
)
def test_paths_in_any_but_their_plain_form_lead_nowhere(remote: Caller, raw_path: str) -> None:
    answer = remote("GET", "/api/v1/status", raw_path=raw_path)
    is_problem(answer, 404, "NOT_FOUND")


@pytest.mark.parametrize(
    "path", ["//api/v1/status", "///api/v1/status", "/ /api/v1/status", "/x/../api/v1/status"]
)
def test_no_spelling_of_a_path_gets_by_the_token(remote: Caller, path: str) -> None:
    assert remote.with_headers(("host", "localhost"))("GET", path).status in (401, 404)


@pytest.mark.parametrize("path", ["/", "/v1/sys/health", "/v1", "/metrics", "/index.html"])
def test_paths_that_are_kept_free_are_not_found(remote: Caller, path: str) -> None:
    is_problem(remote("GET", path), 404, "NOT_FOUND")
    is_problem(remote.with_headers(("host", "localhost"))("GET", path), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/healthz"), ("GET", "/nothing"), ("GET", "/api/v1/status"), ("PUT", "/api/v1/keys")],
)
def test_every_answer_carries_the_security_headers(remote: Caller, method: str, path: str) -> None:
    for caller in (remote, remote.with_headers(("host", "localhost")), remote.with_headers(("host", "evil"))):
        headers = caller(method, path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"


def test_no_other_origin_is_ever_let_in(remote: Caller) -> None:
    asking = (("origin", "https://evil.example"), ("access-control-request-method", "POST"))
    for method in ("GET", "OPTIONS", "POST"):
        headers = remote(method, "/api/v1/keys", headers=asking).headers
        assert not [name for name in headers if name.startswith("access-control")]


def test_a_body_that_says_it_is_too_large_is_refused_unread(remote: Caller) -> None:
    answer = remote("POST", "/api/v1/keys", raw=b"{}", headers=(("content-length", str(MAX_BODY_BYTES + 1)),))
    is_problem(answer, 413, "TOO_LARGE")


def test_a_body_in_pieces_is_counted_while_it_comes(remote: Caller) -> None:
    pieces = (b" " * 65_536 for _ in range(17))
    is_problem(remote("POST", "/api/v1/keys", raw=pieces), 413, "TOO_LARGE")


def test_a_body_of_exactly_the_limit_is_read(desk: FakeDesk, remote: Caller) -> None:
    body = b'{"name":"bo"}'
    assert remote("POST", "/api/v1/parties", raw=body + b" " * (MAX_BODY_BYTES - len(body))).status == 201


def test_a_body_that_does_not_come_in_time_is_given_up(
    remote: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("valetkey.api.reading.BODY_TIMEOUT", 0.01)
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/v1/parties",
        "headers": [(name.encode(), value.encode()) for name, value in remote.headers],
    }
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def exchange() -> None:
        await remote.application(scope, asyncio.Event().wait, send)

    asyncio.run(exchange())
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]


def test_without_the_guard_the_routes_let_nobody_in(desk: FakeDesk, remote: Caller) -> None:
    unguarded = Caller(remote.application._inside, remote.headers)
    for path in ("/api/v1/status", "/api/v1/keys", "/api/v1/openapi.json"):
        is_problem(unguarded("GET", path), 401, "NOT_AUTHENTICATED")
    is_problem(unguarded("POST", "/api/v1/parties", {"name": "bo"}), 401, "NOT_AUTHENTICATED")
    assert desk.asked == []


@pytest.mark.parametrize("raw", [b"[" * (MAX_DEPTH + 1), b'{"a":' * (MAX_DEPTH + 1), b"[" * 1_000_000])
def test_deep_nesting_is_refused_before_it_is_decoded(remote: Caller, raw: bytes) -> None:
    is_problem(remote("POST", "/api/v1/keys", raw=raw), 400, "INVALID")


def test_brackets_inside_a_string_are_no_nesting(desk: FakeDesk, remote: Caller) -> None:
    assert remote("POST", "/api/v1/parties", {"name": '[\\"[{' * 40}).status == 201


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"]
)
def test_a_body_that_is_not_said_to_be_json_is_refused(remote: Caller, kind: str) -> None:
    answer = remote("POST", "/api/v1/parties", {"name": "bo"}, headers=(("content-type", kind),))
    is_problem(answer, 415, "MEDIA_TYPE_REFUSED")


def test_json_is_accepted_with_and_without_saying_so(remote: Caller) -> None:
    for kind in ("application/json", "application/json; charset=utf-8"):
        assert (
            remote("POST", "/api/v1/parties", {"name": "bo"}, headers=(("content-type", kind),)).status == 201
        )


def test_a_nul_character_goes_no_further(remote: Caller) -> None:
    is_problem(remote("POST", "/api/v1/parties", {"name": "a\0b"}), 400, "INVALID")
    is_problem(remote("GET", "/api/v1/keys?holder=a%00b"), 400, "INVALID")
    assert remote("POST", "/api/v1/parties", {"name": r"a\u0000b"}).status == 201


def test_an_upgrade_is_refused_in_our_own_words(remote: Caller) -> None:
    answer = remote("GET", "/api/v1/status", headers=(("upgrade", "websocket"), ("connection", "upgrade")))
    is_problem(answer, 501, "NOT_SUPPORTED")


def test_what_was_not_foreseen_leaves_as_a_sentence_and_is_logged_by_type_alone(
    desk: FakeDesk, remote: Caller, said: list[str]
) -> None:
    desk.fails = LookupError(f"no {SECRET} here")
    answer = remote("POST", "/api/v1/secrets", {"service": "openai", "value": SECRET})
    is_problem(answer, 500, "UNEXPECTED")
    assert "kind=LookupError" in "".join(said)
    assert SECRET not in "".join(said)
    assert SECRET.encode() not in answer.body
    assert b"Traceback" not in answer.body
    assert b"LookupError" not in answer.body


def test_a_desk_that_fails_while_recognising_lets_nobody_in(desk: FakeDesk, remote: Caller) -> None:
    async def broken(token: bytes) -> None:
        raise OSError(token)

    desk.authenticate = broken  # type: ignore[method-assign]
    is_problem(remote("GET", "/api/v1/status"), 500, "UNEXPECTED")


@pytest.mark.parametrize(
    "body",
    [
        {"service": "openai", "value": SECRET, SECRET: 1},
        {"service": "openai", "value": [SECRET]},
        {"service": "openai", "value": SECRET, "risk": SECRET},
        {"service": "openai", "value": SECRET, "strict": SECRET},
        SECRET,
        [SECRET],
    ],
)
def test_a_secret_in_a_wrong_body_is_not_echoed(
    remote: Caller, caplog: pytest.LogCaptureFixture, body: object
) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = remote("POST", "/api/v1/secrets", body)
    is_problem(answer, 400, "INVALID")
    assert SECRET.encode() not in answer.body
    assert SECRET not in caplog.text


def test_a_key_given_for_a_name_comes_back_in_no_answer() -> None:
    key = generate("vk", KeyKind.PRIVATE, os.urandom).reveal_text()
    error = NotFound(f"There is no service named {key!r}.", f"See: valetkey service show {key}")
    status, _, body = problem(error)
    assert status == 404
    assert key.encode() not in body
    assert json.loads(body)["detail"] == "There is no service named '***'."


_MARK = "zqSecretqz"
_TEXTS = st.sampled_from([_MARK, _MARK * 3, f"x`{_MARK}`", f"$.{_MARK}", f" - at `$.{_MARK}`", "openai", ""])
_NAMES = st.one_of(
    _TEXTS, st.sampled_from(["service", "terms", "hosts", "networks", "value", "name", "kind", "party"])
)
_BODIES = st.recursive(
    st.one_of(
        _TEXTS, st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_NAMES, inner, max_size=4)),
    max_leaves=12,
)
_DOOR = Caller.local(FakeDesk())


@settings(max_examples=150, deadline=None)
@given(
    path=st.sampled_from(
        ["keys", "secrets", "services", "networks", "tokens", "keys/key_a/check", "keys/key_a/revoke"]
    ),
    method=st.sampled_from(["POST", "PATCH"]),
    query=st.sampled_from(["", f"?{_MARK}=1", f"?limit={_MARK}", f"?state={_MARK}"]),
    body=_BODIES,
)
def test_no_answer_ever_repeats_what_was_sent(path: str, method: str, query: str, body: object) -> None:
    assert _MARK.encode() not in _DOOR(method, f"/api/v1/{path}{query}", body).body
