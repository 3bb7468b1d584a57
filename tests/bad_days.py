"""A server on a bad day: what its commands say, and what no output of it may ever hold."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from running_server import RunningServer, ValetKey, eventually

SECRET = "real-key-of-a-bad-day-" + "q7W" * 8
COMMAND_SECONDS = 30.0


class Said(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


def command(server: RunningServer, *arguments: str, code: int | None = 1) -> Said:
    """Run one of the product's commands against the server's home. Asserts what holds of every output."""
    if arguments[0] == "serve":
        ports = ("--control-port", str(server.control_port), "--gateway-port", str(server.gateway_port))
        arguments = (*arguments, *ports)
    done = subprocess.run(
        [sys.executable, "-m", "valetkey", *arguments],
        env={**os.environ, **server.environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    assert_harmless(server, done.stdout + done.stderr)
    if code is not None:
        assert done.returncode == code, (arguments, done)
    return Said(done.returncode, done.stdout, done.stderr)


def refusal(server: RunningServer, *arguments: str, code: int = 1) -> str:
    """The words of a command that is refused: a sentence, and what to do."""
    said = command(server, *arguments, code=code)
    lines = said.err.strip().splitlines()
    assert lines[-2].startswith("error: ") and lines[-2].endswith("."), said
    assert lines[-1].endswith((".", "serve")), said
    return "\n".join(lines).removeprefix("error: ")


def assert_harmless(server: RunningServer, text: str) -> None:
    """No traceback, no error that nobody foresaw, no secret."""
    assert "Traceback" not in text, text
    assert "valetkey does not know" not in text, text
    unforeseen = re.findall(r" failure kind=(?!JournalFailed\b)\S+.*", text)
    assert not unforeseen, unforeseen
    secrets = [SECRET]
    if server.root_key.exists():
        secrets.append(server.root_key.read_text().strip().rpartition(":")[2] or SECRET)
    for secret in secrets:
        assert secret not in text


def told(port: int) -> tuple[int, Any]:
    """What `/readyz` says there: status, and all of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def findings(server: RunningServer) -> dict[str, Any]:
    """What the doctor finds, by name."""
    said = command(server, "doctor", "--json", code=None)
    return {one["id"]: one for one in json.loads(said.out)["items"]}


def answered(server: RunningServer, service: str, key: ValetKey, path: str = "/now") -> str | None:
    """Code of a call, None where nobody answered."""
    with suppress(OSError, http.client.HTTPException):
        return server.call("GET", f"/{service}{path}", key).code
    return None


def serves_again(server: RunningServer, service: str, key: ValetKey, seconds: float = 15.0) -> None:
    """Wait until calls are decided again and management answers, whatever failed before."""
    eventually(lambda: answered(server, service, key) == "VALID", seconds)
    eventually(lambda: _managed(server), seconds)


def _managed(server: RunningServer) -> bool:
    with suppress(OSError, http.client.HTTPException):
        return bool(server.status()["ready"])
    return False


def start_unready(server: RunningServer) -> None:
    """Start a server of which nobody expects that it decides."""
    wait = server.wait_ready
    socket = server.home / "run" / "control.sock"
    server.wait_ready = lambda seconds: eventually(socket.exists, seconds)  # type: ignore[assignment, method-assign]
    try:
        server.start()
    finally:
        server.wait_ready = wait  # type: ignore[method-assign]


def assert_proved(server: RunningServer) -> None:
    """The record is whole."""
    verdict = server.manage("POST", "/audit/verify", {})
    assert (verdict["integrity"], verdict["completeness"], verdict["problems"]) == ("ok", "ok", [])


def fill(folder: Path, leave: int = 0) -> None:
    """Fill the disk of `folder` until `leave` bytes are free."""
    descriptor = os.open(folder / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    size = 1 << 20
    with suppress(OSError):
        while (free := _free(folder)) > leave:
            os.write(descriptor, bytes(min(free - leave, size)))
    os.close(descriptor)


def _free(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def make_room(folder: Path) -> None:
    """Take away what `fill` made."""
    (folder / "filler").unlink()
