"""All processes of a server write one kind of line, and at the loudest level none holds a key."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from running_server import Refused, RunningServer, ValetKey, eventually
from standins.running import made_up_key, running
from valetkey.demo.standin import OpenAIStandIn

pytestmark = pytest.mark.real


def back(server: RunningServer) -> bool:
    """Whether a control process answers again and knows both workers."""
    try:
        return len(server.worker_pids()) == 2
    except OSError:
        return False


def test_the_loudest_level_tells_of_every_process_and_of_no_key() -> None:
    api = OpenAIStandIn(made_up_key("sk-test-"))
    settings = {"log_format": "json", "log_level": "debug"}
    with running(api), RunningServer(workers=2, settings=settings) as server:
        service = server.open_service(api.real_key, base_url=api.url, name="openai")
        key, dead = server.issue(service), server.issue(service)
        server.call("GET", "/openai/v1/models", key)
        server.stop_key(dead)
        credential = server.manage("POST", "/services", {"name": "own", "own": True}) and server.manage(
            "POST", "/services/own/credential"
        )
        token = server.manage("POST", "/tokens", {"party": "bot"})
        # Keys where they do not belong: in paths, queries, bodies, names of methods and headers.
        for value in (key.value, api.real_key, credential["credential"], token["token"]):
            server.call("GET", f"/openai/v1/{value}?{value}={value}", ValetKey("x", value))
            server.raw(f"GET /{value} HTTP/1.1\r\nHost: {value}\r\n{value}: {value}\r\n\r\n".encode())
            for path in (f"/keys/{key.value}", f"/services?x={value}"):
                with pytest.raises(Refused):
                    server.manage("GET", path)
            with pytest.raises(Refused):
                server.manage("POST", "/secrets", {"service": value, "value": value})
        slain = server.worker_pids()[0]
        os.kill(slain, signal.SIGKILL)
        eventually(lambda: len(server.worker_pids()) == 2 and slain not in server.worker_pids())
        os.kill(server.control_pid, signal.SIGKILL)
        eventually(lambda: "control_ended" in server.errors)
        eventually(lambda: back(server), 20)
        server.stop()
        lines = [json.loads(line) for line in server.errors.splitlines()]
        assert {line["process"] for line in lines} == {"supervisor", "control", "worker-0", "worker-1"}
        events = {line["event"] for line in lines}
        assert events >= {
            "serving", "worker_started", "worker_ready", "worker_ended", "control_ended", "request", "change_settled",
            "stopped",
        }  # fmt: skip
        for secret in (key.value, dead.value, api.real_key, credential["credential"], token["token"]):
            body = secret.rpartition("_")[2].rpartition("-")[2]
            assert not [place for place in range(len(body) - 15) if body[place : place + 16] in server.errors]
        server.start()


def test_a_start_that_fails_says_so_in_the_chosen_form(tmp_path: Path) -> None:
    def serve(*flags: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "valetkey", "serve", "--control-port", "8300", *flags],
            env={**os.environ, "VALETKEY_HOME": str(tmp_path / "home")}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    as_text, as_json = serve(), serve("--log-format", "json")
    assert (as_text.returncode, as_json.returncode) == (2, 2)
    assert as_text.stderr.startswith("error: Both ports are 8300.")
    line = json.loads(as_json.stderr)
    assert (line["event"], line["level"], line["text"]) == ("start_refused", "error", "Both ports are 8300.")
    assert not (tmp_path / "home").exists()
