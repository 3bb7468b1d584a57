"""A question to verify that comes slowly is judged by what holds when it is there, and not awaited for ever."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from gateway_world import GatewayWorld, MadeUpLine, gateway_world
from valetkey.gateway.facts import CredentialFact, ServiceFact


@pytest.fixture
def world(tmp_path: Path) -> Iterator[GatewayWorld]:
    with gateway_world(tmp_path) as made:
        yield made


def ask_slowly(
    world: GatewayWorld, credential: str, body: bytes, meanwhile: Callable[[], Any] | None
) -> tuple[int, Any]:
    """A question in two pieces with something between; without it the second never comes."""

    async def ask() -> tuple[int, Any]:
        line = MadeUpLine()
        request = world.request(line, credential, "/v1/verify", method="POST", length=len(body))
        request.came(body[:5])
        world.gateway.handle(request)
        await asyncio.sleep(0)
        if meanwhile is not None:
            meanwhile()
            request.came(body[5:])
            request.came_whole()
        await line.over.wait()
        answer = line.answered()
        return answer.status, answer.json

    return world.loop.run_until_complete(ask())


def question(key: str) -> bytes:
    return json.dumps({"key": key, "method": "GET", "path": "/now"}).encode()


def test_a_credential_that_ends_while_the_question_comes_opens_nothing(world: GatewayWorld) -> None:
    credential = world.add_own_service()
    key = world.add_key(service="shop")
    gone = CredentialFact("crd_shop", world.fingerprint(credential), "svc_shop", living=False)
    status, answer = ask_slowly(world, credential, question(key.value), lambda: world.apply(gone))
    assert (status, answer["code"]) == (401, "MALFORMED")
    assert world.records() == []


def test_a_key_that_ends_while_the_question_comes_is_answered_as_ended(world: GatewayWorld) -> None:
    credential = world.add_own_service()
    key = world.add_key(service="shop")
    end = lambda: world.change_key(key, state="revoked")  # noqa: E731
    assert ask_slowly(world, credential, question(key.value), end)[1]["code"] == "REVOKED"


def test_a_service_that_is_removed_while_the_question_comes_says_no_to_everything(
    world: GatewayWorld,
) -> None:
    credential = world.add_own_service()
    key = world.add_key(service="shop")
    gone = lambda: world.apply(ServiceFact("svc_shop", None))  # noqa: E731
    assert ask_slowly(world, credential, question(key.value), gone)[1].get("code") != "VALID"


def test_a_lease_that_ends_while_the_question_comes_refuses(world: GatewayWorld) -> None:
    credential = world.add_own_service()
    key = world.add_key(service="shop")

    def end() -> None:
        world.node.lease_until = 0

    assert ask_slowly(world, credential, question(key.value), end)[1]["code"] == "NOT_READY"


def test_a_question_that_never_comes_whole_is_not_awaited(world: GatewayWorld) -> None:
    credential = world.add_own_service()
    begun = time.monotonic()
    with mock.patch("valetkey.gateway.verify.QUESTION_SECONDS", 0.05):
        status, answer = ask_slowly(world, credential, question("x"), None)
    assert status >= 400 and not answer.get("valid", False)
    assert time.monotonic() - begun < 2
    assert world.records() == []


def test_keys_in_the_facts_of_a_question_are_not_kept(world: GatewayWorld) -> None:
    credential = world.add_own_service()
    key = world.add_key(service="shop")
    body = key.value.split("_", 2)[2]
    world.ask(
        credential, key=key.value, operation=f"{key.value} " + "A" * 5000,
        origin=f"https://{key.value}.example", path=f"/a/{key.value}/{'p' * 5000}",
    )  # fmt: skip
    kept = b"".join(file.read_bytes() for file in world.folder.iterdir())
    assert body.encode() not in kept
    assert b"A" * 600 not in kept and b"p" * 600 not in kept
