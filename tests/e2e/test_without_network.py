"""The whole starts and serves where there is no network but loopback: nothing it needs lies outside."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys

import pytest

from bad_days import SECRET, answered, assert_harmless, assert_proved, command, told
from namespaces import without_network
from running_server import RunningServer
from standins.raw_upstream import RawUpstream

pytestmark = pytest.mark.real

ELSEWHERE = "192.0.2.1"


def test_the_whole_starts_and_serves_without_network() -> None:
    def body() -> None:
        assert not reachable(), "there is a way out, so this would show nothing"
        with RunningServer(workers=2) as server, RawUpstream() as upstream:
            service = server.open_service(SECRET, base_url=upstream.url)
            # Presets, prices and time zones come with it.
            server.manage("POST", "/services", {"name": "openai", "preset": "openai"})
            key = server.issue(service, schedule="mon-sun 00:00-24:00 Europe/Berlin")
            assert answered(server, service, key) == "VALID"
            derived = server.call("POST", "/v1/derive", key, body="{}").json
            assert server.call("GET", f"/{service}/now", derived["key"]).code == "VALID"
            server.manage("POST", "/services", {"name": "mine", "own": True})
            credential = server.manage("POST", "/services/mine/credential")["credential"]
            own = server.issue("mine")
            asked = json.dumps({"key": own.value, "method": "GET", "path": "/x"})
            assert server.call("POST", "/v1/verify", credential, body=asked).json["code"] == "VALID"
            # An upstream that cannot be reached is the upstream's failure, not ours.
            away = server.open_service(SECRET, base_url=f"https://{ELSEWHERE}")
            assert answered(server, away, server.issue(away)) == "UPSTREAM_FAILED"
            assert told(server.gateway_port) == told(server.control_port) == (200, {"status": "ok"})
            assert server.stop_key(key)["acknowledged"] == 2
            assert answered(server, service, key) == "REVOKED"
            command(server, "doctor", "--json", code=None)
            command(server, "audit", "verify", code=0)
            assert_proved(server)
            assert_harmless(server, server.errors)

    without_network(body)


def test_the_demo_plays_without_network() -> None:
    def body() -> None:
        assert not reachable()
        played = subprocess.run(
            [sys.executable, "-m", "valetkey", "demo", "--json"],
            capture_output=True,
            text=True,
            timeout=90,
            env={**os.environ, "NO_COLOR": "1"},
            check=False,
        )
        assert played.returncode == 0, played.stderr
        assert "Traceback" not in played.stdout + played.stderr

    without_network(body)


def reachable() -> bool:
    """Whether a packet could leave for anywhere but this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        return end.connect_ex((ELSEWHERE, 9)) != errno.ENETUNREACH
