"""A server with witnesses: they get its checkpoints, a lost one is told while calls go on, and what the machine's
owner cuts off or writes anew is found without a server."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from running_server import Refused, RunningServer, eventually
from valetkey.journal.chain import personal_path, segment_path, segments_in
from valetkey.journal.witness import WitnessFile

pytestmark = pytest.mark.real


def verify(server: RunningServer, *arguments: str, home: Path | None = None) -> tuple[int, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "valetkey", "audit", "verify", "--json", *arguments],
        env={**os.environ, **server.environment, **({} if home is None else {"VALETKEY_HOME": str(home)})},
        capture_output=True,
        text=True,
    )
    return done.returncode, json.loads(done.stdout or "null") or done.stderr


def ask_with_token(server: RunningServer, body: dict[str, str]) -> int:
    """What is answered to a program elsewhere."""
    token = server.manage("POST", "/tokens", {"party": "bot"})["token"]
    connection = http.client.HTTPConnection("127.0.0.1", server.control_port, timeout=20)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection.request("POST", "/api/v1/audit/verify", json.dumps(body), headers)
    status = connection.getresponse().status
    connection.close()
    return status


def newest(path: Path) -> int:
    held = WitnessFile(path)
    held.close()
    return held.newest


def test_the_witness_finds_what_was_cut_off(tmp_path: Path) -> None:
    path, lost = tmp_path / "witness.jsonl", tmp_path / "away" / "witness"
    with RunningServer(settings={"witness": [str(path), str(lost)]}) as server:
        server.manage("POST", "/parties", {"name": "ana"})
        eventually(path.exists)
        # A witness that cannot be reached is told, and nothing else suffers.
        assert str(lost) in eventually(lambda: server.status()["degraded"])[0]
        weak = [
            item for item in server.manage("GET", "/doctor")["items"] if item["id"] == "witness-undelivered"
        ]
        assert [(item["severity"], str(lost) in item["sentence"]) for item in weak] == [("weak", True)]
        assert "witness_undelivered" in server.errors
        assert server.status()["ready"]
        assert server.call("GET", "/readyz").status == 200
        code, report = verify(server, "--witness", str(path))
        assert (code, report["integrity"], report["completeness"]) == (0, "ok", "ok")
        assert report["witnessed"] >= 1
        code, said = verify(server, "--witness", str(tmp_path / "none"))
        assert code == 1
        assert "cannot be read: no such file" in said
        lost.parent.mkdir()
        eventually(lambda: not server.status()["degraded"], 10.0)
        assert newest(lost) > 0
        assert ask_with_token(server, {"witness": str(path)}) == 403
        assert ask_with_token(server, {}) == 200
        with pytest.raises(Refused) as refused:
            server.manage("POST", "/audit/verify", {"witness": "relative"})
        assert refused.value.status == 400
        server.stop()
        assert newest(path) == newest(lost)
        code, report = verify(server, "--witness", str(path))
        assert (code, report["problems"]) == (0, [])
        # A copy is proven with the public key alone: no root key, no database.
        copy = tmp_path / "copy"
        shutil.copytree(server.home / "journal", copy / "journal")
        key = report["public_key"]
        assert verify(server, "--witness", str(path), "--key", key, home=copy)[0] == 0
        assert verify(server, "--key", "12", home=copy)[0] == 2
        # Whoever has the folder goes back to where the journal was at some checkpoint: all is well but for the witness.
        control = max(name for name in segments_in(copy / "journal") if name.control)
        lines = segment_path(copy / "journal", control).read_bytes().splitlines(keepends=True)
        kept = 1 + next(index for index, line in enumerate(lines) if b'"kind":"checkpoint"' in line)
        segment_path(copy / "journal", control).write_bytes(b"".join(lines[:kept]))
        signed = json.loads(lines[kept - 1][:-66])["segments"]
        for name in segments_in(copy / "journal"):
            segment = segment_path(copy / "journal", name)
            if str(name) not in signed:
                segment.unlink()
                personal_path(copy / "journal", name).unlink()
            elif name != control:
                all_lines = segment.read_bytes().splitlines(keepends=True)
                segment.write_bytes(b"".join(all_lines[: signed[str(name)][0]]))
        assert verify(server, "--key", key, home=copy)[1]["problems"] == []
        code, report = verify(server, "--witness", str(path), "--key", key, home=copy)
        assert (code, report["completeness"]) == (1, "broken")
        found = {(problem["segment"], problem["seq"], problem["what"]) for problem in report["problems"]}
        assert (str(control), kept + 1, "truncated") in found
        server.start()
