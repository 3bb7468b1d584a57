"""What the command line shows as the first call with a new key works as it stands there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from e2e.conftest import StandIns
from running_server import RunningServer, eventually

pytestmark = pytest.mark.real


def _valetkey(server: RunningServer, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "valetkey", *arguments],
        env=server.environment, capture_output=True, text=True, timeout=20, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def _copied(shown: list[str]) -> str:
    """What a shell prints that is given the shown line with curl, and the key as it would be read in."""
    line = next(line for line in shown if "curl" in line)
    key = next(line for line in shown if line.startswith("vk_"))
    variable = line.split('"$')[1].split('"')[0]
    done = subprocess.run(
        ["bash", "-c", line.replace("curl -sS", "curl -sS --max-time 10")],
        env={"PATH": os.environ["PATH"], variable: key}, capture_output=True, text=True, timeout=20, check=True,
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize("origin", ["https://app.example", "https://*.app.example"])
@pytest.mark.parametrize("auth", ["bearer", "basic", "header:X-Key", "query:appid"])
def test_the_line_for_a_key_tied_to_an_origin_carries_one(
    server: RunningServer, standins: StandIns, origin: str, auth: str
) -> None:
    name = f"copied-{auth.split(':')[0]}"
    if name not in {service["name"] for service in server.manage("GET", "/services")["items"]}:
        server.open_service(standins.github.real_key, name, base_url=standins.github.url, auth=auth)
    shown = _valetkey(server, "key", "issue", name, "--origin", origin, "--label", origin.strip("htps:/"))
    answer = _copied(shown)
    assert "ORIGIN_DENIED" not in answer
    key_id = next(line for line in shown if line.startswith("For ")).split("key ")[1].split(",")[0]
    # A stand-in takes its own kind of credential alone; the gateway let the call through all the same.
    seen = eventually(lambda: server.manage("GET", f"/events?key={key_id}")["items"])
    assert seen[0]["code"] in ("VALID", "UPSTREAM_REFUSED_SECRET")


def test_the_line_for_a_derived_key_carries_the_origin_of_what_it_comes_from(
    server: RunningServer, standins: StandIns
) -> None:
    server.open_service(standins.github.real_key, "copied", base_url=standins.github.url, auth="bearer")
    above = _valetkey(server, "key", "issue", "copied", "--origin", "https://app.example", "--json")
    key_id = above[0].split('"id": "')[1].split('"')[0]
    shown = _valetkey(server, "key", "derive", key_id)
    assert "ORIGIN_DENIED" not in _copied(shown)
