"""Temporary keys that end with what made them: a process of the machine, or an API token."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from running_server import Refused, RunningServer, ValetKey, eventually
from standins.raw_upstream import RawUpstream
from valetkey.processes import running_process

pytestmark = pytest.mark.real


@pytest.fixture
def own_server() -> Iterator[RunningServer]:
    """One that may be stopped."""
    with RunningServer(workers=2) as server:
        yield server


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """Something that runs until it is ended."""
    running = subprocess.Popen(["sleep", "300"])
    yield running
    running.kill()
    running.wait()


def tied(server: RunningServer, service: str, pid: int, **more: Any) -> ValetKey:
    asked = {
        "service": service,
        "kind": "temporary",
        "holder": f"holder-of-{pid}",
        "with_session": True,
        "session_process": {"pid": pid},
    }
    issued = server.manage("POST", "/keys", {**asked, **more})
    assert issued["sentences"][-1] == f"Ends with process {pid}."
    assert server.manage("GET", f"/keys/{issued['id']}")["session"] == f"process {pid}"
    return ValetKey(issued["id"], issued["key"])


def code(server: RunningServer, service: str, key: ValetKey) -> str:
    return server.call("GET", f"/{service}/a", key).code


def with_token(server: RunningServer, token: str, path: str, body: Any) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.control_port, timeout=20)
    try:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request("POST", f"/api/v1{path}", body=json.dumps(body), headers=headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_a_key_ends_with_its_process(server: RunningServer, process: subprocess.Popen[bytes]) -> None:
    with RawUpstream() as upstream:
        service = server.open_service("secret-of-processes", base_url=upstream.url)
        key = tied(server, service, process.pid)
        made = server.manage("POST", f"/keys/{key.id}/derive", {})
        child = ValetKey(made["id"], made["key"])
        assert [code(server, service, one) for one in (key, child)] == ["VALID", "VALID"]
        connection = server.connect()
        connection.request("POST", f"/{service}/a", headers={**key.bearer, "Content-Length": "1000000"})
        eventually(lambda: len(server.events(key)) == 2)
        process.kill()  # and not fetched by its parent: it is over all the same
        eventually(lambda: code(server, service, key) == "REVOKED")
        assert code(server, service, child) == "REVOKED"
        ends = {event["end"] for event in server.closed_events(key, 3)}
        assert "cut_by_revoke" in ends
        connection.close()
        entry = next(e for e in server.manage("GET", "/audit")["items"] if e["action"] == "session:end")
        assert (entry["actor"], entry["details"]["keys"]) == ("system:valetkey", [key.id])


def test_a_key_whose_process_ended_while_no_server_ran_is_dead_at_the_start(
    own_server: RunningServer, process: subprocess.Popen[bytes]
) -> None:
    server = own_server
    with RawUpstream() as upstream, subprocess.Popen(["sleep", "300"]) as other:
        service = server.open_service("secret-of-starts", base_url=upstream.url)
        key, living = tied(server, service, process.pid), tied(server, service, other.pid)
        server.stop()
        process.kill()
        server.start()
        assert [code(server, service, one) for one in (key, living)] == ["REVOKED", "VALID"]
        other.kill()
        eventually(lambda: code(server, service, living) == "REVOKED")


def test_a_key_is_dead_when_the_revoke_of_its_token_returns(server: RunningServer) -> None:
    with RawUpstream() as upstream:
        service = server.open_service("secret-of-tokens", base_url=upstream.url)
        token = server.manage("POST", "/tokens", {"party": "signed-in"})
        asked = {"service": service, "kind": "temporary", "with_session": True, "label": "tied"}
        status, issued = with_token(server, token["token"], "/keys", asked)
        assert status == 201, issued
        assert issued["sentences"][-1] == f"Ends with token {token['id']}."
        _, loose = with_token(
            server, token["token"], "/keys", {**asked, "with_session": False, "label": "loose"}
        )
        parent = server.issue(service)
        _, derived = with_token(server, token["token"], f"/keys/{parent.id}/derive", {"with_session": True})
        keys = [ValetKey(one["id"], one["key"]) for one in (issued, derived, loose)]
        assert [code(server, service, key) for key in keys] == ["VALID"] * 3
        server.manage("POST", f"/tokens/{token['id']}/revoke")
        assert [code(server, service, key) for key in keys] == ["REVOKED", "REVOKED", "VALID"]
        entry = next(e for e in server.manage("GET", "/audit")["items"] if e["action"] == "token:revoke")
        assert sorted(entry["details"]["keys"]) == sorted([issued["id"], derived["id"]])


def test_what_cannot_be_tied_is_told_why(server: RunningServer) -> None:
    service = server.open_service("secret-of-mistakes", base_url="http://127.0.0.1:1")
    token = server.manage("POST", "/tokens", {"party": "signed-in-too"})["token"]
    own = running_process(os.getpid())
    assert own is not None
    here = {"pid": own.pid, "started": own.started}
    asked = {"service": service, "kind": "temporary", "holder": "tied", "with_session": True}
    for body, says in (
        ({**asked, "kind": "private", "session_process": here}, "Only a temporary key"),
        (asked, "not said with which process"),
        ({**asked, "session_process": {"pid": 2**22 - 1}}, "no such process"),
        ({**asked, "session_process": {"pid": own.pid, "started": own.started + 1}}, "no such process"),
        ({**asked, "with_session": False, "session_process": here}, "not tied to it"),
    ):
        with pytest.raises(Refused, match=says):
            server.manage("POST", "/keys", body)
    status, answer = with_token(server, token, "/keys", {**asked, "session_process": here})
    assert (status, answer["code"]) == (400, "INVALID")
    root = server.issue(service)
    derived = server.call("POST", "/v1/derive", root, body=json.dumps({"with_session": True}))
    assert (derived.status, derived.json["code"]) == (400, "INVALID"), "whoever holds a key has no session"


def test_the_command_line_ties_to_the_sign_in_that_it_runs_under(server: RunningServer) -> None:
    """A session of its own, as a terminal or a job has: its first process is a shell that goes on for a while."""
    with RawUpstream() as upstream:
        service = server.open_service("secret-of-sign-ins", base_url=upstream.url)
        command = f"{sys.executable} -m valetkey key issue {service} --kind temporary --with-session --json"
        shell = subprocess.Popen(
            ["sh", "-c", f"({command} | cat); read line"],
            env={**os.environ, **server.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert shell.stdin is not None
        assert shell.stdout is not None
        issued = json.loads(shell.stdout.readline())
        key = ValetKey(issued["id"], issued["key"])
        assert issued["sentences"][-1] == f"Ends with process {shell.pid}."
        assert code(server, service, key) == "VALID"
        shell.communicate(b"\n")
        eventually(lambda: code(server, service, key) == "REVOKED")
