"""wrk as the load generator: a Lua script gives each call its own key, and wrk's own figures are read back."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.processes import BenchmarkFailed

CONNECTIONS = 32
THREADS = 1
"""One is enough for 60,000 calls a second, and leaves the cores to those that are measured."""

# Requests are made once for all keys, so that wrk itself costs the same for everyone.
_SCRIPT = """
local made, at = {}, 0
function init(args)
  for line in io.lines("%(keys)s") do
    local headers = {%(headers)s}
    made[#made + 1] = wrk.format("%(method)s", "%(path)s", headers, %(body)s)
  end
end
function request()
  at = at %% #made + 1
  return made[at]
end
function done(summary, latency, requests)
  io.write(string.format(
    "FIGURES {\\"calls\\":%%d,\\"micros\\":%%d,\\"refused\\":%%d,\\"broken\\":%%d,\\"p50\\":%%f,\\"p99\\":%%f}\\n",
    summary.requests, summary.duration, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
"""


class Shot(NamedTuple):
    """What one run of wrk saw."""

    rate: float
    """Calls answered a second."""
    calls: int
    refused: int
    """Answers other than 2xx and 3xx."""
    broken: int
    """Connections that failed, and time-outs."""
    p50: float
    p99: float
    """Milliseconds."""


class Question(NamedTuple):
    """One kind of call. ``$KEY`` in a header or in the body stands for a key of the list."""

    method: str
    path: str
    headers: dict[str, str]
    body: str = ""


def write_script(place: Path, question: Question, keys: Sequence[str]) -> Path:
    """A script for wrk that goes round the keys."""
    listed = place.with_suffix(".keys")
    listed.touch(mode=0o600)
    listed.write_text("\n".join(keys) + "\n")
    headers = ", ".join(f"[{_lua(name)}] = {_lua(value)}" for name, value in question.headers.items())
    place.write_text(
        _SCRIPT
        % {
            "keys": listed,
            "headers": headers,
            "method": question.method,
            "path": question.path,
            "body": _lua(question.body) if question.body else "nil",
        }
    )
    return place


def shoot(
    port: int, script: Path, seconds: int, *, connections: int = CONNECTIONS, cores: set[int] | None = None
) -> Shot:
    """Load a port for some seconds. Raises `BenchmarkFailed` when wrk does not give its figures."""
    command = [
        "wrk", "-t", str(THREADS), "-c", str(connections), "-d", f"{seconds}s", "--timeout", "10s", "--latency",
        "-s", str(script), f"http://127.0.0.1:{port}",
    ]  # fmt: skip
    if cores:
        command = ["taskset", "-c", ",".join(map(str, sorted(cores))), *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    found = re.search(r"^FIGURES (.*)$", done.stdout, re.MULTILINE)
    if found is None:
        raise BenchmarkFailed(f"wrk gave no figures: {done.stdout[-300:]} {done.stderr[-300:]}")
    said = json.loads(found[1])
    return Shot(
        said["calls"] / (said["micros"] / 1e6), said["calls"], said["refused"], said["broken"], said["p50"], said["p99"]
    )  # fmt: skip


def _lua(text: str) -> str:
    pieces = [json.dumps(piece) for piece in text.split("$KEY")]
    return " .. line .. ".join(pieces)
