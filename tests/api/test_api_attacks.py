"""What a stolen token must not do, what a revoked one must not hear, and what no body may cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from unittest import mock

import pytest
from api_world import OWNER, TOKEN, WALL, Caller, FakeDesk, FrameDesk
from test_api_security import is_problem

from valetkey.access.actor import Actor
from valetkey.api.reading import MAX_BODY_BYTES, check_body
from valetkey.errors import Invalid
from valetkey.gateway.facts import SecretFact
from valetkey.server.facts import RETIRED_SECONDS, FactLoader
from valetkey.services.operations import AddService, add_service
from valetkey.vault.operations import RetireSecret, SetSecret, retire_secret, set_secret

# Bodies


@pytest.mark.parametrize(
    "body",
    [
        b'"' + b'\\"' * (MAX_BODY_BYTES // 2 - 1),
        b'"' * MAX_BODY_BYTES,
        b"\\" * MAX_BODY_BYTES,
        b'"\\' * (MAX_BODY_BYTES // 2),
        b'{"a":"' + b"\\\\" * (MAX_BODY_BYTES // 2 - 6) + b"\\",
        b'"' + b"a" * (MAX_BODY_BYTES - 1),
        b"\\u000" * (MAX_BODY_BYTES // 5),
        b"x\\" * (MAX_BODY_BYTES // 2),
    ],
)
def test_the_largest_body_is_looked_at_in_no_time_whatever_is_in_it(body: bytes) -> None:
    begun = time.process_time()
    check_body({"headers": []}, body)
    assert time.process_time() - begun < 0.7


@pytest.mark.parametrize("inside", [b'"[[[["', rb'"\"[[[["', rb'"\\"', b'"{{{{', b'"[[[[\\'])
def test_brackets_in_strings_are_no_depth_and_those_outside_are(inside: bytes) -> None:
    check_body({"headers": []}, b"[" * 32 + inside)
    with pytest.raises(Invalid):
        check_body({"headers": []}, b"[" * 33 + inside)


# Tokens


@pytest.fixture
def token(real_desk: FrameDesk) -> Caller:
    """A program with a token, at a home with a service that sends a real key."""
    owner = Caller.local(real_desk)
    assert owner("POST", "/api/v1/services", {"name": "openai", "preset": "openai"}).status == 201
    value = owner("POST", "/api/v1/tokens", {"party": "bot"}).json["token"]
    return Caller.remote(real_desk).with_headers(
        ("host", "localhost:8200"), ("authorization", f"Bearer {value}")
    )


DESTINATIONS: list[dict[str, Any]] = [
    {"base_url": "https://evil.example"},
    {"hosts": {"files": "https://evil.example"}},
    {"auth": "header:x-other"},
    {"allow_private": True},
    {"allow_plain_upstream": True},
    {"ca_file": "/etc/hostname"},
    {"price": "0.01", "base_url": "https://evil.example"},
]


@pytest.mark.parametrize("change", DESTINATIONS)
def test_a_token_cannot_send_the_real_key_elsewhere(
    token: Caller, real_desk: FrameDesk, change: dict[str, Any]
) -> None:
    before = token("GET", "/api/v1/services/openai").json
    is_problem(token("PATCH", "/api/v1/services/openai", change), 403, "NOT_PERMITTED")
    assert token("GET", "/api/v1/services/openai").json == before
    with real_desk.frame.store.read() as connection:
        kept = connection.exec_driver_sql("SELECT action, outcome FROM audit ORDER BY rowid DESC").first()
    assert kept == ("service:change", "refused"), "a refusal for want of permission is audited"


def test_a_token_may_change_what_sends_no_key(token: Caller) -> None:
    assert token("PATCH", "/api/v1/services/openai", {"price": "0.01"}).json["price"] == "0.01"


@pytest.mark.parametrize("change", [DESTINATIONS[0], DESTINATIONS[1], DESTINATIONS[3]])
def test_the_local_owner_may(token: Caller, real_desk: FrameDesk, change: dict[str, Any]) -> None:
    assert Caller.local(real_desk)("PATCH", "/api/v1/services/openai", change).status == 200


# Streams


class RevocableDesk(FakeDesk):
    """The token ends after its `good_for`th look; events come when they are put in."""

    def __init__(self, good_for: int) -> None:
        super().__init__()
        self.good_for = good_for
        self.looks = 0

    async def authenticate(self, token: bytes) -> Actor | None:
        self.looks += 1
        return await super().authenticate(token) if self.looks <= self.good_for else None

    async def _followed(self) -> AsyncIterator[Any]:
        for number in (1, 2, 3):
            yield {"call": str(number)}
        await asyncio.Event().wait()


@pytest.mark.parametrize("good_for", [1, 2, 3])
def test_a_stream_ends_before_the_first_event_after_its_token_ended(good_for: int) -> None:
    answer = Caller.remote(RevocableDesk(good_for))("GET", "/api/v1/events/stream")
    handed_on = [line for line in answer.body.splitlines() if line]
    assert len(handed_on) == good_for - 1, "one look was for the request itself"
    assert answer.ended


def test_a_quiet_stream_ends_soon_after_its_token() -> None:
    with mock.patch("valetkey.api.routes.events.LOOK_SECONDS", 0.01):
        desk = RevocableDesk(8)
        answer = Caller.remote(desk)("GET", "/api/v1/events/stream")
    assert answer.body.count(b"call") == 3
    assert answer.ended
    assert TOKEN.encode() not in answer.body


# Secrets that were retired


def test_workers_are_told_of_a_retired_secret_for_a_day(real_desk: FrameDesk) -> None:
    frame = real_desk.frame
    frame.perform(add_service, AddService(name="openai", preset="openai"), OWNER)
    values = ["sk-test-" + letter * 40 for letter in "Qw"]
    for value in values:
        frame.perform(set_secret, SetSecret("openai", value), OWNER)

    def told(wall: float) -> tuple[list[str], list[str]]:
        with frame.store.read() as connection:
            facts = list(FactLoader(frame.workspace, frame.keyring, lambda: wall).all(connection))
        (fact,) = [fact for fact in facts if isinstance(fact, SecretFact)]
        living, retired = fact.versions, fact.retired
        return [version.parts["key"] for version in living], [version.parts["key"] for version in retired]

    assert told(WALL) == ([values[1], values[0]], []), "a rotation leaves the old version living"
    frame.perform(retire_secret, RetireSecret("openai", version=1), OWNER)
    assert told(WALL) == ([values[1]], [values[0]])
    assert told(WALL + RETIRED_SECONDS - 1) == ([values[1]], [values[0]])
    assert told(WALL + RETIRED_SECONDS + 1) == ([values[1]], [])
    frame.perform(retire_secret, RetireSecret("openai"), OWNER)
    assert told(WALL) == ([], [values[1], values[0]])
