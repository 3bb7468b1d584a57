"""Callers of a server that something happens to: each call has a path of its own, to look for it in the record."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from running_server import RunningServer, ValetKey, ask, eventually
from valetkey.demo.standin import OpenAIStandIn

MODELS = "/openai/v1/models"
CHAT = "/openai/v1/chat/completions"
ENDLESS = json.dumps(
    {"model": "standin-endless", "messages": [{"role": "user", "content": "x"}], "stream": True}
).encode()


class Callers:
    """Callers that name each call by its path, and remember which ones got a status line."""

    def __init__(self, server: RunningServer, key: ValetKey, name: str = "") -> None:
        """`name` stands in the paths, so that no two such groups share one."""
        self._name = name
        self._server = server
        self._key = key
        self.acknowledged: dict[str, str] = {}
        """Code by path, in the order of the answers."""
        self.unanswered: list[str] = []
        """Paths of calls whose connection ended without an answer."""
        self.done = threading.Event()
        self.last = 0.0

    def work(self, place: int) -> None:
        number = 0
        while not self.done.is_set():
            connection = self._server.connect()
            path = None
            try:
                connection.connect()
                while not self.done.is_set():
                    number += 1
                    path = f"/v1/models/{self._name}-{place}-{number}"
                    # Some take a while upstream, so that there is always one in hand.
                    slow = {"x-standin-delay": "0.05"} if number % 5 == 0 else None
                    answer = ask(connection, "GET", f"/openai{path}", self._key, headers=slow)
                    self.acknowledged[path] = answer.code
                    self.last = time.monotonic()
            except (OSError, http.client.HTTPException):
                if path is not None:
                    self.unanswered.append(path)
            connection.close()


@contextmanager
def calling(
    server: RunningServer, key: ValetKey, number: int = 6, *, name: str = "some"
) -> Iterator[Callers]:
    callers = Callers(server, key, name)
    threads = [threading.Thread(target=callers.work, args=(place,), daemon=True) for place in range(number)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: len(callers.acknowledged) > 100, 10)
        yield callers
    finally:
        callers.done.set()
        for thread in threads:
            thread.join(20)


@contextmanager
def own_server(openai_api: OpenAIStandIn, workers: int = 2) -> Iterator[RunningServer]:
    with RunningServer(workers=workers) as running_server:
        running_server.open_service(openai_api.real_key, "openai", preset="openai", base_url=openai_api.url)
        yield running_server


def assert_nothing_is_missing(server: RunningServer, key: ValetKey, callers: Callers) -> None:
    """Every call that got a status line has its record, and the journal is proved."""
    recorded = {event["path"] for event in server.events(key)}
    decided = {path for path, code in callers.acknowledged.items() if code != "NOT_READY"}
    assert decided - recorded == set()
    verdict = server.manage("POST", "/audit/verify", {})
    assert (verdict["integrity"], verdict["completeness"], verdict["problems"]) == ("ok", "ok", [])
