"""What the demo plays on: a stand-in of OpenAI's API and a whole Valetkey server, in a folder of their own."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from valetkey.errors import Unavailable
from valetkey.unix_http import UnixConnection

START_SECONDS = 30.0


class Answer:
    """What a caller got: status, headers, body, and all of it as bytes for searching."""

    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def code(self) -> str:
        """Valetkey's code, VALID where the answer is the service's."""
        return next((value for name, value in self.headers if name.lower() == "x-valetkey-code"), "VALID")

    @property
    def everything(self) -> bytes:
        return "\n".join(f"{name}: {value}" for name, value in self.headers).encode() + b"\n" + self.body


class Stage:
    """Started by `open`, cleared away by `close` unless it is kept."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="valetkey-demo-"))
        self.home = self.folder / "home"
        self.real_key = "sk-" + "".join(
            secrets.choice(string.ascii_letters + string.digits) for _ in range(48)
        )
        self.control_port, self.gateway_port = free_ports()
        self.standin_port = 0
        self.received: list[bytes] = []
        self._children: list[subprocess.Popen[str]] = []

    def open(self) -> None:
        """Start both. Raises `Unavailable` when one does not come up."""
        key_file = self.folder / "real.key"
        key_file.touch(mode=0o600)
        key_file.write_text(self.real_key)
        standin = self._start(["valetkey.demo.standin", "--key-file", str(key_file)], stdout=subprocess.PIPE)
        assert standin.stdout is not None
        said = json.loads(standin.stdout.readline() or "{}")
        self.standin_port = int(said.get("port", 0))
        key_file.unlink()
        if not self.standin_port:
            raise Unavailable("The stand-in did not start.", "Try again.")
        environment = {
            **os.environ,
            "VALETKEY_HOME": str(self.home),
            "VALETKEY_ROOT_KEY_FILE": str(self.folder / "root.key"),
        }
        ports = ["--control-port", str(self.control_port), "--gateway-port", str(self.gateway_port)]
        self._start(["valetkey", "serve", *ports], environment=environment, stderr=subprocess.PIPE)
        self._wait_ready()

    def close(self) -> None:
        """End what was started and clear the folder away."""
        for child in reversed(self._children):
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        for child in reversed(self._children):
            with suppress(subprocess.TimeoutExpired):
                child.wait(8)
            if child.poll() is None:
                child.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def wait(self) -> None:
        """Keep serving until interrupted."""
        with suppress(KeyboardInterrupt):
            self._children[-1].wait()

    # -- the owner's side

    def manage(self, method: str, path: str, body: Any = None) -> Any:
        """One management action over the Unix socket. Raises `Unavailable` when it is refused."""
        connection = UnixConnection(self.home / "run" / "control.sock", 20)
        connection.request(
            method,
            f"/api/v1{path}",
            body=None if body is None else json.dumps(body),
            headers={"Content-Type": "application/json", "Host": "localhost"},
        )
        response = connection.getresponse()
        answer = json.loads(response.read() or b"null")
        connection.close()
        if response.status >= 400:
            raise Unavailable(f"{method} {path}: {answer.get('detail')}", str(answer.get("next_step", "")))
        return answer

    # -- the caller's side

    def call(self, method: str, path: str, key: str, body: Any = None, source: str = "127.0.0.1") -> Answer:
        """One call through the gateway, as a program makes it, from a loopback address of choice."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.gateway_port, timeout=20, source_address=(source, 0)
        )
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection.request(method, path, body=None if body is None else json.dumps(body), headers=headers)
        response = connection.getresponse()
        answer = Answer(response.status, response.getheaders(), response.read())
        connection.close()
        self.received.append(answer.everything)
        return answer

    def stream(self, path: str, key: str, body: Any) -> Iterator[bytes]:
        """An open stream of events; ends when it is cut."""
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway_port, timeout=20)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection.request("POST", path, body=json.dumps(body), headers=headers)
        response = connection.getresponse()
        with suppress(http.client.IncompleteRead, ConnectionError):
            while line := response.readline():
                self.received.append(line)
                yield line
        connection.close()

    def seen_by_service(self) -> dict[str, Any]:
        """What the stand-in counted."""
        connection = http.client.HTTPConnection("127.0.0.1", self.standin_port, timeout=5)
        connection.request("GET", "/_standin/seen")
        seen: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return seen

    # -- processes

    def _start(
        self, module: list[str], environment: dict[str, str] | None = None, **streams: Any
    ) -> subprocess.Popen[str]:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter with our own modules
            [sys.executable, "-m", *module], env=environment, stdin=subprocess.DEVNULL, text=True, **streams
        )
        self._children.append(child)
        return child

    def _wait_ready(self) -> None:
        server = self._children[-1]
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if server.poll() is not None:
                said = server.stderr.read().strip() if server.stderr else ""
                raise Unavailable(f"The server did not start: {said}", "Try: valetkey serve")
            with suppress(OSError):
                connection = http.client.HTTPConnection("127.0.0.1", self.gateway_port, timeout=2)
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    return
            time.sleep(0.05)
        raise Unavailable("The server did not become ready in time.", "Try again, or: valetkey serve")


def free_ports() -> tuple[int, int]:
    """Two different free ports."""
    first = free_port()
    while (second := free_port()) == first:
        pass
    return first, second


def free_port() -> int:
    """A port below those that the system deals out: a caller that tries one of those before its server is there
    can be connected to itself."""
    for _ in range(1000):
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise OSError("no free port")
