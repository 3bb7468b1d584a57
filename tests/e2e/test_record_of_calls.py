"""Calls are seen within a second, counted, and proved."""

from __future__ import annotations

import http.client
import json
import threading
import time
from contextlib import suppress
from typing import Any

import pytest

from running_server import CALL_SECONDS, RunningServer, eventually
from valetkey.demo.standin import OpenAIStandIn
from valetkey.unix_http import UnixConnection

pytestmark = pytest.mark.real

MODELS = "/openai/v1/models"
CHAT = "/openai/v1/chat/completions"


def test_a_call_is_seen_within_a_second_with_all_that_is_known(server: RunningServer) -> None:
    key = server.issue("openai")
    answer = server.call("GET", f"{MODELS}?secret=value", key, headers={"User-Agent": "tests/1.0"})
    (event,) = eventually(lambda: [e for e in server.events(key) if e["end"]], 1.0)
    assert event["key_id"] == key.id
    assert (event["code"], event["status"], event["end"]) == ("VALID", 200, "complete")
    assert (event["method"], event["path"], event["address"]) == ("GET", "/v1/models", "127.0.0.1")
    assert (event["user_agent"], event["service"]) == ("tests/1.0", "openai")
    assert event["bytes_out"] == len(answer.body)
    assert abs(event["time"] - time.time()) < 5
    assert 0 < event["first_byte_ms"] <= event["last_byte_ms"]
    assert "value" not in json.dumps(event)


def test_an_open_call_is_seen_while_it_is_open(server: RunningServer) -> None:
    key = server.issue("openai")
    body = json.dumps({"model": "standin-endless", "messages": [{"role": "user", "content": "x"}]}).encode()
    with server.open("POST", CHAT, key, body) as end:
        end.recv(100)
        (event,) = eventually(lambda: server.events(key), 1.0)
        assert (event["end"], event["code"]) == (None, "VALID")


def test_a_refusal_is_seen_with_its_code_and_its_call_is_named_to_the_caller(server: RunningServer) -> None:
    key = server.issue("openai", endpoints=["GET /v1/files"])
    answer = server.call("GET", MODELS, key)
    (event,) = server.closed_events(key, 1)
    assert (event["code"], event["status"], event["end"]) == ("ENDPOINT_DENIED", 403, "refused")
    assert event["call"] == answer.json["call"]


def test_events_are_followed_as_they_come(server: RunningServer) -> None:
    key = server.issue("openai")
    connection = UnixConnection(server.home / "run" / "control.sock", CALL_SECONDS)
    connection.request("GET", f"/api/v1/events/stream?key={key.id}", headers={"Host": "localhost"})
    seen: list[dict[str, object]] = []
    heads = threading.Event()

    def follow() -> None:
        response = connection.getresponse()
        heads.set()
        with suppress(OSError, http.client.HTTPException, ValueError, AttributeError):  # closed under it
            while line := response.readline():
                if line.strip():
                    seen.append(json.loads(line))

    threading.Thread(target=follow, daemon=True).start()
    assert heads.wait(5.0), "the head of the stream leaves at once, before any event"
    for number in range(3):
        server.call("GET", f"{MODELS}/{number}", key)
    eventually(lambda: {f"/v1/models/{n}" for n in range(3)} <= {str(e["path"]) for e in seen}, 3.0)
    connection.sock.close()


def test_usage_counts_what_was_called_allowed_and_refused(
    server: RunningServer, openai_api: OpenAIStandIn
) -> None:
    service = server.open_service(openai_api.real_key, preset="openai", base_url=openai_api.url, price="0.01")
    key = server.issue(service, endpoints=["GET /v1/models"])
    answers = [server.call("GET", f"/{service}/v1/models", key) for _ in range(7)]
    for _ in range(3):
        server.call("GET", f"/{service}/v1/files", key)

    def page() -> Any:
        found = server.manage("GET", f"/usage?key={key.id}")
        return found if found["items"] and found["items"][0]["calls"] == 10 else None

    found = eventually(page)
    (usage,) = found["items"]
    assert (usage["allowed"], usage["refused"]) == (7, 3)
    assert usage["codes"] == {"ENDPOINT_DENIED": 3}
    assert usage["cost"] == 70_000
    assert usage["bytes_out"] >= sum(len(answer.body) for answer in answers)
    assert sum(usage["hours"]) == 10
    assert [(address["value"], address["calls"]) for address in found["addresses"]] == [("127.0.0.1", 10)]


def test_the_journal_is_proved_and_management_actions_are_in_it(server: RunningServer) -> None:
    key = server.issue("openai")
    server.stop_key(key)
    verdict = server.manage("POST", "/audit/verify", {})
    assert (verdict["integrity"], verdict["completeness"], verdict["problems"]) == ("ok", "ok", [])
    assert verdict["records"] > 0
    actions = [(item["action"], item["subject"]) for item in server.manage("GET", "/audit?limit=20")["items"]]
    assert ("key:revoke", f"key:{key.id}") in [(a.replace(".", ":"), s) for a, s in actions]


def test_plain_secrets_are_nowhere_in_the_home(server: RunningServer, openai_api: OpenAIStandIn) -> None:
    key = server.issue("openai")
    server.call("GET", MODELS, key)
    for file in server.home.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert openai_api.real_key.encode() not in content, file
            assert key.value.encode() not in content, file
    assert openai_api.real_key not in server.errors
