"""Valetkey itself, as it is installed: `valetkey serve` over a loaded data folder, managed over its socket."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.home import OWN, Loaded
from benchmarks.load import Question
from benchmarks.machine import pin
from benchmarks.processes import BenchmarkFailed, Processes
from valetkey.demo.stage import free_ports
from valetkey.server.home import Home
from valetkey.unix_http import UnixConnection

ASKED = '{"key":"$KEY","method":"GET","path":"/v1/models","address":"127.0.0.1"}'


class Product:
    """A running server."""

    def __init__(self, loaded: Loaded, process: subprocess.Popen[bytes], gateway: int, control: int) -> None:
        self.loaded = loaded
        self.process = process
        self.gateway = gateway
        self.control = control
        self._socket = Home(loaded.folder).control_socket

    def manage(self, method: str, path: str, body: Any = None) -> Any:
        """One management action over the Unix socket. Raises `BenchmarkFailed` when it is refused."""
        connection = self.connect()
        try:
            return ask(connection, method, path, body)
        finally:
            connection.close()

    def connect(self) -> http.client.HTTPConnection:
        """A connection to the control socket, to be kept."""
        return UnixConnection(self._socket, 30)

    def workers(self) -> list[int]:
        """Process ids of the gateway workers."""
        return [int(worker["pid"]) for worker in self.manage("GET", "/status")["workers"]]

    def control_pid(self) -> int:
        """Process id of the control process."""
        return int(self.manage("GET", "/status")["pid"])

    def pin(self, workers: set[int] | None, rest: set[int] | None) -> None:
        """Keep the workers on some cores and the control process on others."""
        if workers and rest:
            for worker in self.workers():
                pin(worker, workers)
            pin(self.control_pid(), rest)

    def verify_question(self) -> Question:
        """The question of verify, with the fields that the keys' restrictions need."""
        return Question(
            "POST",
            "/v1/verify",
            {"Authorization": f"Bearer {self.loaded.credential}", "Content-Type": "application/json"},
            ASKED,
        )

    def codes(self, question: Question, keys: list[str]) -> dict[str, int]:
        """How a few keys are answered: a benchmark of refusals would measure nothing."""
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway, timeout=20)
        found: dict[str, int] = {}
        for key in keys:
            headers = {name: value.replace("$KEY", key) for name, value in question.headers.items()}
            body = question.body.replace("$KEY", key) or None
            connection.request(question.method, question.path, body, headers)
            answer = connection.getresponse()
            text = answer.read()
            code = answer.headers.get("x-valetkey-code") or f"HTTP {answer.status}"
            if question.path == "/v1/verify" and answer.status == 200:
                code = json.loads(text)["code"]
            found[code] = found.get(code, 0) + 1
        connection.close()
        return found

    def first_valid(self, deadline: float) -> float:
        """Ask until a key is VALID; return when that was (`time.monotonic`)."""
        question, key = self.verify_question(), self.loaded.keys[OWN][0]
        while time.monotonic() < deadline:
            try:
                if self.codes(question, [key]) == {"VALID": 1}:
                    return time.monotonic()
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.005)
        raise BenchmarkFailed("The server gave no VALID decision in time.")


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> Any:
    """One management action on a kept connection. Raises `BenchmarkFailed` when it is refused."""
    connection.request(
        method,
        f"/api/v1{path}",
        None if body is None else json.dumps(body),
        {"Content-Type": "application/json", "Host": "localhost"},
    )
    answer = connection.getresponse()
    text = answer.read()
    if answer.status >= 400:
        raise BenchmarkFailed(f"{method} {path} was answered {answer.status}: {text[:300]!r}")
    return json.loads(text)


@contextmanager
def serving(processes: Processes, loaded: Loaded, *, workers: int = 1) -> Iterator[Product]:
    """A server for this data folder, ready when given; ended afterwards."""
    product, _ = start(processes, loaded, workers=workers)
    try:
        yield product
    finally:
        processes.end(product.process)


def start(processes: Processes, loaded: Loaded, *, workers: int = 1) -> tuple[Product, float]:
    """Start a server; also the seconds from its exec to the first VALID decision."""
    gateway, control = free_ports()
    command = [
        sys.executable, "-m", "valetkey", "serve", "--workers", str(workers),
        "--gateway-port", str(gateway), "--control-port", str(control),
    ]  # fmt: skip
    began = time.monotonic()
    process = processes.start("valetkey", command, loaded.environment)
    product = Product(loaded, process, gateway, control)
    decided = product.first_valid(began + 60)
    if workers > 1:
        processes.wait_for(process, lambda: _all_ready(product, workers), "the workers")
    return product, decided - began


def _all_ready(product: Product, workers: int) -> bool:
    found = product.manage("GET", "/status")["workers"]
    return len(found) == workers and all(worker["ready"] for worker in found)
