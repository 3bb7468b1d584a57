"""What the control process says is missing: words without names for everyone, details for the owner."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import pytest

from running_server import RunningServer, eventually
from valetkey.readiness import Missing
from valetkey.server import readiness
from valetkey.server.readiness import Lacking, lacking, words
from valetkey.server.workers import Worker

WALL = 1_790_000_000.0


def worker(*, ready: bool, joined: bool) -> Worker:
    return cast(Worker, SimpleNamespace(slot=0, pid=17, ready=ready, channel=object() if joined else None))


SERVING = worker(ready=True, joined=True)


def looked(journal: Path, workers: Iterable[Worker] = (SERVING,), **facts: Any) -> list[Lacking]:
    usual: dict[str, Any] = {"journal_failed": False, "newest": WALL, "wall": WALL}
    return lacking(workers, journal=journal, **{**usual, **facts})


@pytest.mark.parametrize(
    ("workers", "facts", "expected"),
    [
        ([SERVING], {}, None),
        ([SERVING, worker(ready=False, joined=False)], {}, None),
        ([SERVING], {"newest": WALL + 60}, None),
        ([], {}, Missing.KEYS),
        ([worker(ready=False, joined=True)], {}, Missing.KEYS),
        ([worker(ready=True, joined=False)], {}, Missing.CONTROL),
        ([SERVING], {"journal_failed": True}, Missing.JOURNAL),
        ([SERVING], {"newest": WALL + 61}, Missing.CLOCK),
    ],
)
def test_each_lack_has_its_word(
    tmp_path: Path, workers: list[Worker], facts: dict[str, Any], expected: Missing | None
) -> None:
    found = looked(tmp_path, workers, **facts)
    assert words(found) == ([] if expected is None else [expected.value])
    assert all(one.detail for one in found)


def test_a_full_disk_is_told_with_its_figures_to_the_owner_alone(tmp_path: Path) -> None:
    with mock.patch.object(readiness, "free_and_held_back", return_value=(10**9, 2 * 10**9)):
        found = looked(tmp_path)
    assert words(found) == ["disk nearly full"]
    assert re.search(r"1\.00 GB .* 2\.00 GB", found[0].detail)
    assert words(looked(tmp_path / "gone")) == ["disk nearly full"]


def test_a_word_is_told_once(tmp_path: Path) -> None:
    starting = worker(ready=False, joined=True)
    assert words(looked(tmp_path, [starting, starting])) == ["keys not loaded"]


@pytest.mark.real
def test_a_worker_that_does_not_serve_is_told_on_the_control_port_until_it_does() -> None:
    import http.client
    import json
    import os

    def asked() -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", server.control_port, timeout=5)
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        told = answer.status, json.loads(answer.read())
        connection.close()
        return told

    with RunningServer() as server:
        assert asked() == (200, {"status": "ok"})
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        status, told = eventually(lambda: found if (found := asked())[0] == 503 else None)
        # First its link is seen to be gone, then that it is dead and another one starts.
        assert status == 503
        assert told["missing"] in (["control process out of reach"], ["keys not loaded"])
        assert str(server.home) not in json.dumps(told)
        eventually(lambda: asked()[0] == 200)
        assert server.status()["not_ready"] == []
