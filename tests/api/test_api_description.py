"""The API's own description says everything, and says it truly."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
import pytest
from api_world import TOKEN, Caller, FakeDesk

from valetkey.access.operation import OPERATIONS
from valetkey.api.answers import ServicePage
from valetkey.api.document import describe
from valetkey.api.examples import ANSWERS
from valetkey.api.routes import OPEN, UNDER_API

NOT_FOR_PEOPLE = {"home", "server", "worker", "setting", "session"}
NOT_ASKED_FOR = {"key:expose", "key:abandon"}
"""What the server notes by itself."""
"""Subjects of actions that Valetkey performs on its own."""


@cache
def document() -> dict[str, Any]:
    described: dict[str, Any] = msgspec.json.decode(describe())
    return described


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document()["paths"].items():
        for method, described in item.items():
            yield path, method, described


def test_it_is_openapi_3_1_and_served_to_those_who_are_signed_in(remote: Caller) -> None:
    answer = remote("GET", "/api/v1/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == document()
    assert document()["openapi"].startswith("3.1.")
    assert document()["info"]["title"]
    assert document()["info"]["version"]


def test_every_operation_that_a_person_can_perform_is_reached_by_its_documented_example() -> None:
    desk = FakeDesk()
    caller = Caller.local(desk)
    for path, method, described in operations():
        if method == "get":
            continue
        body = None
        if "requestBody" in described:
            body = described["requestBody"]["content"]["application/json"]["schema"]["examples"][0]
        concrete = path
        for parameter in described.get("parameters", ()):
            concrete = concrete.replace(f"{{{parameter['name']}}}", "example")
        answer = caller(method.upper(), concrete, body)
        assert answer.status in (200, 201), (method, path, answer.body)
    people = {action for action in OPERATIONS if action.subject not in NOT_FOR_PEOPLE} - NOT_ASKED_FOR
    assert {action for action, *_ in desk.asked} == people


def test_every_route_is_described() -> None:
    described = {(path, method.upper()) for path, method, _ in operations()}
    served = set()
    for prefix, handlers in (("/api/v1", UNDER_API), ("", OPEN)):
        for handler in handlers:
            for path in handler.paths:
                served |= {
                    (prefix + path.replace(":str", ""), str(method)) for method in handler.http_methods
                }
    assert described == served


def test_every_operation_has_a_summary_a_description_and_a_name_of_its_own() -> None:
    names = [described["operationId"] for _, _, described in operations()]
    assert len(set(names)) == len(names)
    for path, method, described in operations():
        assert described["summary"], (path, method)
        assert described["description"], (path, method)


def _resolve(node: Any) -> Any:
    while isinstance(node, dict) and "$ref" in node:
        found: Any = document()
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        node = found
    return node


def test_every_reference_leads_somewhere() -> None:
    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                assert _resolve(node) is not None
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(document())


def test_every_answer_has_a_schema_and_every_usual_one_an_example() -> None:
    for path, method, described in operations():
        for status, answer in described["responses"].items():
            for kind, content in _resolve(answer)["content"].items():
                assert content["schema"], (path, method, status)
                assert (kind == "application/problem+json") == (int(status) >= 400)
                if not path.endswith(("/stream", "/openapi.json")):
                    assert content["examples"], (path, method, status)


def test_errors_are_declared_where_they_can_happen() -> None:
    for path, method, described in operations():
        declared = set(described["responses"])
        assert {"400", "421", "500", "503"} <= declared
        if path.startswith("/api/"):
            assert {"401", "404"} <= declared
            assert described["security"] == [{"token": []}]
        if method != "get":
            assert {"403", "409"} <= declared


def test_every_post_that_makes_something_takes_an_idempotency_key() -> None:
    for path, method, described in operations():
        names = {parameter["name"] for parameter in described.get("parameters", ())}
        assert ("Idempotency-Key" in names) == ("201" in described["responses"]), (path, method)


@pytest.mark.parametrize("kind", ANSWERS, ids=lambda kind: kind.__name__)
def test_examples_of_answers_are_answers(kind: Any) -> None:
    assert msgspec.to_builtins(msgspec.convert(ANSWERS[kind], kind)) == ANSWERS[kind]


def test_bodies_say_that_they_take_no_other_fields() -> None:
    for path, method, described in operations():
        if "requestBody" not in described:
            continue
        schema = described["requestBody"]["content"]["application/json"]["schema"]
        options = schema.get("allOf") or schema.get("oneOf") or [schema]
        body = next(_resolve(option) for option in options if "$ref" in option)
        assert body.get("additionalProperties") is False, (path, method)


def test_no_address_takes_a_secret() -> None:
    for path, _, described in operations():
        names = {p["name"] for p in described.get("parameters", ()) if p["in"] in ("query", "path")}
        assert not names & {"value", "token", "secret", "password", "credential"}, path
    assert TOKEN not in str(document())
    assert ServicePage in ANSWERS
