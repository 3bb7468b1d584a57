"""`valetkey doctor` beside a running server and after it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import valetkey
from running_server import RunningServer
from valetkey.unix_http import UnixConnection
from valetkey.variables import KNOWN


def doctor(server: RunningServer) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "valetkey", "doctor", "--json"],
        env={**os.environ, **server.environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


@pytest.mark.real
def test_a_running_server_is_asked_and_its_folder_is_read_when_it_is_gone() -> None:
    with RunningServer(settings={"fsync_interval_ms": 5000}) as server:
        server.manage("POST", "/services", {"name": "stripe", "preset": "stripe"})
        held = UnixConnection(server.home / "run" / "control.sock", 5)
        held.request("GET", "/api/v1/status", headers={"Host": "localhost"})
        held.getresponse().read()
        code, report = doctor(server)
        held.close()
        found = {item["id"] for item in report["items"]}
        # The flag of this server is known to the server alone.
        assert found >= {"fsync-rare", "service-without-secret", "socket-sessions"}
        assert not found & {"core-files", "memory-open", "record-unsigned", "part-open", "socket-open"}
        assert (code, report["server"], report["severity"]) == (1, "running", "weak")
        server.stop()
        code, report = doctor(server)
        found = {item["id"] for item in report["items"]}
        assert "service-without-secret" in found
        assert not found & {"fsync-rare", "checkpoint-old", "record-unsigned", "part-open"}
        assert (code, report["server"], report["not_seen"]) == (1, "not running", [])
        server.start()


def test_the_variables_that_the_source_reads_are_those_that_doctor_knows() -> None:
    source = Path(valetkey.__file__).parent
    elsewhere = {source / "variables.py", source / "vault" / "root_key.py"}
    read = {
        name
        for path in set(source.rglob("*.py")) - elsewhere
        for name in re.findall(r"\"(VALETKEY_[A-Z_]+)\"", path.read_text("utf-8"))
    }
    assert read == KNOWN
