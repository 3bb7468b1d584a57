"""LiteLLM's proxy as a reference, in an environment of its own: it is no dependency of ours."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from benchmarks.machine import OUT
from benchmarks.processes import BenchmarkFailed, Processes
from valetkey.demo.stage import free_port

INSTALL_SECONDS = 600
_KEY = "sk-benchmark-master"

_CONFIG = """
model_list:
  - model_name: gpt-4o-mini
    litellm_params:
      model: openai/gpt-4o-mini
      api_base: http://127.0.0.1:{upstream}/v1
      api_key: {secret}
general_settings:
  master_key: {key}
  disable_spend_logs: true
litellm_settings:
  telemetry: false
  set_verbose: false
  num_retries: 0
"""


class LiteLLM(NamedTuple):
    """A running proxy."""

    process: subprocess.Popen[bytes]
    port: int
    key: str
    version: str


def start(processes: Processes, upstream: int, secret: str) -> LiteLLM | str:
    """Install it once and start it; a sentence where that is not possible."""
    place = Path(os.environ.get("LITELLM_VENV", OUT / "litellm-venv"))
    why = _install(place)
    if why is not None:
        return why
    config = OUT / "litellm.yaml"
    config.touch(mode=0o600)
    config.write_text(_CONFIG.format(upstream=upstream, key=_KEY, secret=secret))
    port = free_port()
    command = [
        str(place / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port),
        "--num_workers", "1", "--telemetry", "False",
    ]  # fmt: skip
    environment = {
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "NO_PROXY": "127.0.0.1",
    }
    process = processes.start("litellm", command, environment)
    try:
        processes.wait_for(process, lambda: _ready(port), "LiteLLM's proxy", 120)
    except BenchmarkFailed as failure:
        processes.end(process)
        return str(failure)
    said = subprocess.run(
        [
            str(place / "bin" / "python"),
            "-c",
            "from importlib.metadata import version; print(version('litellm'))",
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return LiteLLM(process, port, _KEY, said.stdout.strip())


def _install(place: Path) -> str | None:
    if (place / "bin" / "litellm").exists():
        return None
    try:
        subprocess.run(
            [sys.executable, "-m", "venv", str(place)], check=True, capture_output=True, timeout=120
        )
        subprocess.run(
            [str(place / "bin" / "pip"), "install", "--quiet", "litellm[proxy]"],
            check=True,
            capture_output=True,
            timeout=INSTALL_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"litellm[proxy] could not be installed ({type(error).__name__})."
    return None


def _ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health/liveliness", headers={"Authorization": f"Bearer {_KEY}"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
