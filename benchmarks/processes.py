"""Processes that the benchmarks start: each is ended by its own id, in reverse order, whatever happens."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self


class BenchmarkFailed(Exception):
    """A part of the run cannot go on. The message says why."""


class Processes:
    """Everything one part has running."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: list[subprocess.Popen[bytes]] = []
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        for process in reversed(self._running):
            self.end(process)

    def start(
        self, name: str, command: Sequence[str], environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start one; what it says goes to a file of its name."""
        with (self._logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._running.append(process)
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Ask it to end, then make it."""
        if process in self._running:
            self._running.remove(process)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
        if process.poll() is None:
            process.kill()
            process.wait(5)

    def wait_for(
        self, process: subprocess.Popen[bytes], asked: Callable[[], bool], what: str, seconds: float = 60.0
    ) -> None:
        """Wait until `asked` is true. Raises `BenchmarkFailed` when the process ends first, or in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise BenchmarkFailed(f"{what} ended with {process.returncode}; see {self._logs}.")
            if asked():
                return
            time.sleep(0.01)
        raise BenchmarkFailed(f"{what} was not ready within {seconds:.0f} s; see {self._logs}.")


def answers(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
