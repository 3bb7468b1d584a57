"""A limit of N admits N, never N+1: two workers, 64 connections at once."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from collections.abc import Callable

import pytest

from running_server import RunningServer, ValetKey, ask, eventually
from standins.raw_upstream import RawUpstream
from valetkey.demo.standin import OpenAIStandIn

pytestmark = pytest.mark.real

CONNECTIONS = 64


def at_once(work: Callable[[int], None], number: int = CONNECTIONS) -> None:
    """Run `work` in so many threads, all let go in the same moment."""
    gate = threading.Barrier(number)
    failures: list[BaseException] = []

    def run(place: int) -> None:
        try:
            gate.wait(20)
            work(place)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(place,)) for place in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures, failures[0]


def codes_of(server: RunningServer, path: str, key: ValetKey, each: int) -> Counter[str]:
    """What 64 connections with `each` calls one after another were answered."""
    connections = [server.connect() for _ in range(CONNECTIONS)]
    for connection in connections:
        connection.connect()
    codes: list[str] = []

    def work(place: int) -> None:
        for _ in range(each):
            codes.append(ask(connections[place], "GET", path, key).code)

    at_once(work)
    for connection in connections:
        connection.close()
    return Counter(codes)


@pytest.mark.parametrize(
    ("terms", "refusal"),
    [
        ({"uses": 200}, "USES_EXHAUSTED"),
        ({"quotas": ["200/month"]}, "QUOTA_EXCEEDED"),
        ({"rate": "1/hour", "burst": 200}, "RATE_LIMITED"),
    ],
    ids=["uses", "quota", "burst"],
)
def test_two_hundred_are_two_hundred(server: RunningServer, terms: dict[str, object], refusal: str) -> None:
    with RawUpstream() as upstream:
        service = server.open_service("secret-of-the-limits", base_url=upstream.url)
        key = server.issue(service, **terms)
        codes = codes_of(server, f"/{service}/a", key, 5)
        assert codes == {"VALID": 200, refusal: CONNECTIONS * 5 - 200}
        assert len(upstream.heads) == 200


def test_a_budget_is_never_overdrawn(server: RunningServer) -> None:
    with RawUpstream() as upstream:
        service = server.open_service("secret-of-the-budget", base_url=upstream.url, price="0.03")
        key = server.issue(service, budgets=["3.10/month"])
        codes = codes_of(server, f"/{service}/a", key, 3)
        assert codes["VALID"] == len(upstream.heads) == 103


def test_five_at_once_are_five_and_each_end_makes_room_for_one(
    server: RunningServer, openai_api: OpenAIStandIn
) -> None:
    key = server.issue("openai", concurrency=5)
    body = '{"model": "standin-endless", "messages": [{"role": "user", "content": "x"}]}'
    before = openai_api.open_streams
    kept: list[http.client.HTTPConnection] = []
    codes: list[str] = []

    def work(_: int) -> None:
        connection = server.connect()
        headers = {**key.bearer, "Content-Type": "application/json"}
        connection.request("POST", "/openai/v1/chat/completions", body=body, headers=headers)
        response = connection.getresponse()
        codes.append(response.headers.get("x-valetkey-code", "VALID"))
        if response.status == 200:
            kept.append(connection)
        else:
            connection.close()

    at_once(work)
    assert Counter(codes) == {"VALID": 5, "CONCURRENCY_LIMITED": CONNECTIONS - 5}
    assert openai_api.open_streams - before == 5
    kept.pop().close()
    eventually(lambda: openai_api.open_streams - before == 4)
    eventually(lambda: server.call("GET", "/openai/v1/models", key).code == "VALID")
    for connection in kept:
        connection.close()
    eventually(lambda: openai_api.open_streams == before)


def test_a_refused_call_spends_nothing(server: RunningServer, openai_api: OpenAIStandIn) -> None:
    key = server.issue(
        "openai", uses=3, endpoints=["GET /v1/models"], rate="1/hour", burst=3, quotas=["3/month"]
    )
    for _ in range(10):
        assert server.call("GET", "/openai/v1/files", key).code == "ENDPOINT_DENIED"
    codes = [server.call("GET", "/openai/v1/models", key).code for _ in range(4)]
    assert codes == ["VALID", "VALID", "VALID", "USES_EXHAUSTED"]
