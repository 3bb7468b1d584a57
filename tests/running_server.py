"""A whole Valetkey server for tests: the real process tree in a folder of its own, on free ports.

It is managed over its Unix socket and called by raw HTTP, as a program would. Stopping it asserts that the
tree is gone in time and that nothing wrote a traceback.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import Any, Self, TypeVar

from plain_calls import Answer, ValetKey, ask
from process_tree import alive, children_of
from valetkey.demo.stage import free_ports
from valetkey.unix_http import UnixConnection

__all__ = ["Answer", "Refused", "RunningServer", "ValetKey", "ask", "eventually"]

START_SECONDS = 40.0
STOP_SECONDS = 5.0
"""What the product promises after SIGTERM, open streams included."""
CALL_SECONDS = 20.0

Found = TypeVar("Found")


class Refused(AssertionError):
    """A management action that was refused."""

    def __init__(self, status: int, problem: Any) -> None:
        super().__init__(f"{status}: {problem}")
        self.status = status
        self.problem = problem


def eventually(look: Callable[[], Found], seconds: float = 5.0) -> Found:
    """What `look` returns as soon as it is true. Fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"Nothing came within {seconds} s; last seen: {found!r}")
        time.sleep(0.01)
    return found


class RunningServer:
    """`with RunningServer(workers=2) as server:`; `settings` are flags of ``valetkey serve`` by name."""

    def __init__(
        self,
        *,
        workers: int = 1,
        settings: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        authority: Path | None = None,
    ) -> None:
        """`authority`: what callers trust, where the settings are such that the server speaks TLS."""
        self._authority = authority
        self.folder = Path(tempfile.mkdtemp(prefix="valetkey-test-"))
        self.home = self.folder / "home"
        self.root_key = self.folder / "root.key"
        self.control_port, self.gateway_port = free_ports()
        self._settings = {"workers": workers, **(settings or {})}
        self._environment = dict(environment or {})
        self._names = count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = self.folder / "stderr"

    # -- the process tree

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.stop()
            else:
                self.kill()
                sys.stderr.write(self.errors)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def url(self) -> str:
        """Base URL of the gateway."""
        return f"{'http' if self._authority is None else 'https'}://127.0.0.1:{self.gateway_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What the server's own commands need to find this home."""
        return {"VALETKEY_HOME": str(self.home), "VALETKEY_ROOT_KEY_FILE": str(self.root_key)}

    @property
    def errors(self) -> str:
        """Everything the tree wrote to standard error."""
        return self._errors.read_text(errors="replace") if self._errors.exists() else ""

    def start(self) -> None:
        """Start the tree and wait until it is ready."""
        command = [sys.executable, "-m", "valetkey", "serve"]
        flags = {**self._settings, "control_port": self.control_port, "gateway_port": self.gateway_port}
        for name, value in flags.items():
            values = value if isinstance(value, (list, tuple)) else [value]
            flag = f"--{name.replace('_', '-')}"
            command += [flag] if value is True else [part for one in values for part in (flag, str(one))]
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **self.environment, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                # Without a terminal SIGHUP asks it to look at its certificate.
                start_new_session=self._authority is not None,
            )
        self.wait_ready(START_SECONDS)
        # Ready says that one worker serves; with several, all must take calls before a test counts on them.
        eventually(self._all_workers_ready, START_SECONDS)

    def _all_workers_ready(self) -> bool:
        workers = self.status()["workers"]
        return len(workers) == self._settings["workers"] and all(worker["ready"] for worker in workers)

    def send_signal(self, number: int) -> None:
        """To the supervisor."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait_ready(self, seconds: float) -> None:
        """Wait until the gateway decides calls."""

        def ready() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, f"The server ended: {self.errors}"
            try:
                return self.call("GET", "/readyz").status == 200
            except (OSError, http.client.HTTPException):
                return False

        eventually(ready, seconds)

    def stop(self) -> float:
        """SIGTERM; returns the seconds until the whole tree was gone. Asserts the promises of an end."""
        assert self._process is not None
        tree = self.tree()
        begun = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP_SECONDS)
            while left := [pid for pid in tree if alive(pid)]:
                assert time.monotonic() - begun < STOP_SECONDS, f"still running: {left}"
                time.sleep(0.01)
        except (subprocess.TimeoutExpired, AssertionError):
            self.kill(tree)
            raise AssertionError(f"The tree did not end within {STOP_SECONDS} s.\n{self.errors}") from None
        took = time.monotonic() - begun
        assert code == 0, f"exit code {code}: {self.errors}"
        assert "Traceback" not in self.errors, self.errors
        assert "Exception" not in self.errors, self.errors
        return took

    def kill(self, tree: Iterable[int] = ()) -> None:
        """End what is left of this server's own processes, without mercy."""
        assert self._process is not None
        for pid in {*tree, *self.tree()}:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(STOP_SECONDS)

    def tree(self) -> list[int]:
        """Process ids of the supervisor and all below it."""
        assert self._process is not None
        found = [self._process.pid] if alive(self._process.pid) else []
        for pid in found:
            found += children_of(pid)
        return found

    @property
    def control_pid(self) -> int:
        return int(self.status()["pid"])

    def worker_pids(self) -> list[int]:
        """Process ids of the workers that serve, by slot."""
        workers = sorted(self.status()["workers"], key=lambda worker: worker["slot"])
        return [worker["pid"] for worker in workers if worker["ready"]]

    # -- the owner's side

    def status(self) -> Any:
        return self.manage("GET", "/status")

    def manage(self, method: str, path: str, body: Any = None) -> Any:
        """One management action over the Unix socket. Raises `Refused`."""
        connection = UnixConnection(self.home / "run" / "control.sock", CALL_SECONDS)
        try:
            headers = {"Content-Type": "application/json", "Host": "localhost"}
            text = None if body is None else json.dumps(body)
            connection.request(method, f"/api/v1{path}", body=text, headers=headers)
            response = connection.getresponse()
            answer = json.loads(response.read() or b"null")
        finally:
            connection.close()
        if response.status >= 400:
            raise Refused(response.status, answer)
        return answer

    def open_service(self, secret: str, name: str | None = None, **definition: Any) -> str:
        """Add an upstream service with its secret; returns its name."""
        name = name or f"service-{next(self._names)}"
        definition = {"allow_private": True, **definition}
        if "preset" not in definition:
            definition.setdefault("auth", "bearer")
        self.manage("POST", "/services", {"name": name, **definition})
        self.set_secret(name, secret)
        return name

    def set_secret(self, service: str, value: str) -> None:
        """A new version of the service's secret."""
        self.manage("POST", "/secrets", {"service": service, "value": value})

    def issue(
        self,
        service: str,
        *,
        kind: str = "private",
        expires: str | None = None,
        holder: str | None = None,
        label: str = "",
        **terms: Any,
    ) -> ValetKey:
        """A key as wide as its terms say: defaults of the kind do not get in a test's way."""
        if kind == "private":
            terms = {"rate": "100000/s", "burst": 100_000, "concurrency": 5_000, **terms}
            if terms["rate"] != "100000/s" and terms["burst"] == 100_000:
                del terms["burst"]
        request = {
            "service": service,
            "kind": kind,
            "holder": holder or f"holder-{next(self._names)}",
            "label": label,
            "terms": terms,
            "expires": expires,
        }
        issued = self.manage("POST", "/keys", request)
        return ValetKey(issued["id"], issued["key"])

    def change(self, key: ValetKey, **changes: Any) -> Any:
        """Change the terms of a key, in force at the next call."""
        return self.manage("PATCH", f"/keys/{key.id}", changes)

    def stop_key(self, key: ValetKey, how: str = "revoke", *, let_finish: bool = False) -> Any:
        """revoke, suspend or resume."""
        return self.manage("POST", f"/keys/{key.id}/{how}", {"let_finish": let_finish})

    def events(self, key: ValetKey | None = None, **wanted: Any) -> list[dict[str, Any]]:
        """All events that match, newest first, through every page."""
        asked = {"limit": 200, **wanted}
        if key is not None:
            asked["key"] = key.id
        items: list[dict[str, Any]] = []
        while True:
            query = "&".join(f"{name}={value}" for name, value in asked.items())
            page = self.manage("GET", f"/events?{query}")
            items += page["items"]
            if page["next"] is None:
                return items
            asked["cursor"] = page["next"]

    def closed_events(self, key: ValetKey, number: int, seconds: float = 5.0) -> list[dict[str, Any]]:
        """The key's events once there are `number` and all are closed, newest first."""

        def look() -> list[dict[str, Any]] | None:
            found = self.events(key)
            return found if len(found) >= number and all(e["end"] is not None for e in found) else None

        found = eventually(look, seconds)
        assert found is not None
        return found

    # -- the caller's side

    def call(
        self,
        method: str,
        path: str,
        key: ValetKey | str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | str | None = None,
        source: str = "127.0.0.1",
    ) -> Answer:
        """One call through the gateway on a connection of its own."""
        connection = self.connect(source)
        try:
            return ask(connection, method, path, key, headers=headers, body=body)
        finally:
            connection.close()

    def connect(self, source: str = "127.0.0.1") -> http.client.HTTPConnection:
        """A connection to the gateway."""
        if self._authority is not None:
            return http.client.HTTPSConnection(
                "127.0.0.1",
                self.gateway_port,
                timeout=CALL_SECONDS,
                source_address=(source, 0),
                context=self.trust(),
            )
        return http.client.HTTPConnection(
            "127.0.0.1", self.gateway_port, timeout=CALL_SECONDS, source_address=(source, 0)
        )

    def trust(self) -> ssl.SSLContext:
        """What callers of a server with TLS use."""
        return ssl.create_default_context(cafile=str(self._authority))

    def open(
        self,
        method: str,
        path: str,
        key: ValetKey,
        body: bytes | None = None,
        *,
        receive_buffer: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> socket.socket:
        """Send a call on a bare socket and leave the answer unread."""
        end = socket.socket()
        if receive_buffer is not None:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        end.settimeout(CALL_SECONDS)
        end.connect(("127.0.0.1", self.gateway_port))
        if self._authority is not None:
            end = self.trust().wrap_socket(end, server_hostname="127.0.0.1")
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.gateway_port}"]
        lines += [f"{name}: {value}" for name, value in {**key.bearer, **(headers or {})}.items()]
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        end.sendall("\r\n".join([*lines, "", ""]).encode() + (body or b""))
        return end

    def raw(self, request: bytes) -> bytes:
        """Bytes in, bytes out, until the server hangs up or one whole answer has come."""
        with socket.create_connection(("127.0.0.1", self.gateway_port), timeout=CALL_SECONDS) as end:
            end.sendall(request)
            response = http.client.HTTPResponse(end)
            received = b""
            try:
                response.begin()
                received = response.read()
            except http.client.HTTPException:
                return received
            head = "".join(f"{name}: {value}\r\n" for name, value in response.getheaders())
            return f"HTTP/1.1 {response.status}\r\n{head}\r\n".encode("latin-1") + received
