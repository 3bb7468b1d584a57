"""The root key is changed while calls go on: none fails, and an interruption at any moment is taken up again."""

from __future__ import annotations

import http.client
import os
import random
import signal
import threading
import time
from contextlib import suppress

import pytest
from callers import MODELS, calling, own_server

from long_results import Results
from running_server import RunningServer, eventually
from valetkey.demo.standin import OpenAIStandIn
from valetkey.vault.root_key import FileRootKey

pytestmark = pytest.mark.real

BACK_SECONDS = 30.0
CHANGES = 10


def rewrap(server: RunningServer) -> str:
    """Id of the new root key, which lies in its place when this returns."""
    answer = server.manage("POST", "/vault/rewrap", {})
    assert FileRootKey(server.root_key).load().id == answer["root_key"] != answer["former"]
    return str(answer["root_key"])


def test_the_root_key_is_changed_under_load_and_no_call_fails(
    openai_api: OpenAIStandIn, results: Results
) -> None:
    took = []
    with own_server(openai_api) as server:
        key = server.issue("openai")
        with calling(server, key) as callers:
            for _ in range(CHANGES):
                begun = time.monotonic()
                rewrap(server)
                took.append(time.monotonic() - begun)
            # What is sealed afterwards is sealed as before.
            server.set_secret("openai", openai_api.real_key)
            seen = len(callers.acknowledged)
            eventually(lambda: len(callers.acknowledged) > seen + 100)
        assert (set(callers.acknowledged.values()), callers.unanswered) == ({"VALID"}, [])
        actions = [entry["action"] for entry in server.manage("GET", "/audit")["items"]]
        assert actions.count("vault:rewrap") == CHANGES
        server.stop()
        server.start()
        assert server.call("GET", MODELS, key).code == "VALID"
        assert server.manage("POST", "/audit/verify", {})["integrity"] == "ok"
        results.note(
            f"{CHANGES} root keys in turn at {len(callers.acknowledged):,} calls, none failed; p50 "
            f"{sorted(took)[CHANGES // 2] * 1000:.0f} ms, longest {max(took) * 1000:.0f} ms"
        )


class Rewrapping:
    """Changes the root key again and again, whether that is answered or not."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self.done = threading.Event()
        self.answered = 0
        self.cut = 0
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self.done.is_set():
            try:
                self._server.manage("POST", "/vault/rewrap", {})
                self.answered += 1
            except (ConnectionResetError, http.client.HTTPException):
                self.cut += 1
            except OSError:
                time.sleep(0.01)  # there is nobody at the socket yet

    def stop(self) -> None:
        self.done.set()
        self._thread.join(20)


@pytest.mark.parametrize("kills", [2, pytest.param(40, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_killed_half_way_it_is_taken_up_again(
    kills: int, openai_api: OpenAIStandIn, results: Results
) -> None:
    draw = random.Random(kills)
    with own_server(openai_api) as server:
        key, workers = server.issue("openai"), server.worker_pids()
        rewrapping = Rewrapping(server)
        with calling(server, key, 3) as callers:
            for _ in range(kills):
                before, control = rewrapping.answered, server.control_pid
                eventually(lambda: rewrapping.answered > before + 2, BACK_SECONDS)  # noqa: B023
                time.sleep(draw.random() * 0.05)  # the moment is part of what is tried
                os.kill(control, signal.SIGKILL)

                def back() -> bool:
                    with suppress(OSError, http.client.HTTPException):
                        return server.control_pid != control and server.worker_pids() == workers  # noqa: B023
                    return False

                eventually(back, BACK_SECONDS)
        rewrapping.stop()
        assert set(callers.acknowledged.values()) <= {"VALID", "NOT_READY"}
        assert callers.unanswered == []
        rewrap(server)
        beside = {path.name for path in server.root_key.parent.glob("root.key*")}
        assert {name for name in beside if "former" not in name} == {"root.key"}
        server.stop()
        server.start()
        assert server.call("GET", MODELS, key).code == "VALID"
        results.note(
            f"control process killed {kills} times while root keys changed ({rewrapping.answered} changes answered, "
            f"{rewrapping.cut} cut off): opened each time, the workers the same, "
            f"{len(callers.acknowledged):,} calls answered"
        )
