"""One call goes upstream at most once, whatever becomes of a kept connection; what never left is given back."""

from __future__ import annotations

import socket

import pytest

from running_server import RunningServer
from standins.raw_upstream import RawUpstream, Reply, head, with_length

pytestmark = pytest.mark.real

METHODS = ("GET", "PUT", "DELETE", "POST", "HEAD", "OPTIONS", "PATCH")


@pytest.fixture(scope="module")
def single(server: RunningServer) -> RunningServer:
    """The pools of both workers are used; nothing here depends on which one takes a call."""
    return server


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("then", ["close", "reset"])
def test_a_kept_connection_that_closes_under_a_call_never_makes_it_two(
    single: RunningServer, method: str, then: str
) -> None:
    kept = with_length(b"")
    dies = Reply((), then=then)  # type: ignore[arg-type]
    with RawUpstream(*[kept, dies] * 8) as upstream:
        service = single.open_service("secret-of-one-attempt", base_url=upstream.url)
        key = single.issue(service)
        answers = [
            single.call(method, f"/{service}/call/{number}", key, body=None if method == "GET" else b"{}")
            for number in range(8)
        ]
        targets = upstream.targets
        assert targets == [f"/call/{number}".encode() for number in range(8)]
        failed = [answer for answer in answers if answer.status != 200]
        assert {answer.code for answer in failed} == {"UPSTREAM_FAILED"}
        assert len(failed) == 4


@pytest.mark.parametrize("method", METHODS)
def test_a_connection_closed_while_idle_costs_at_most_one_request_a_call(
    single: RunningServer, method: str
) -> None:
    closing = Reply((head("200 OK", "Content-Length: 0"),), then="close")
    with RawUpstream(closing) as upstream:
        service = single.open_service("secret-of-one-attempt", base_url=upstream.url)
        key = single.issue(service)
        for number in range(6):
            answer = single.call(method, f"/{service}/call/{number}", key)
            assert answer.status == 200 or answer.code == "UPSTREAM_FAILED"
        assert len(upstream.targets) == len(set(upstream.targets))


def test_a_call_whose_bytes_never_left_spends_nothing(single: RunningServer) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        service = single.open_service(
            "secret-of-nobody", base_url=f"http://127.0.0.1:{nobody.getsockname()[1]}"
        )
        key = single.issue(service, uses=2, quotas=["2/month"])
        for _ in range(6):
            assert single.call("GET", f"/{service}/a", key).code == "UPSTREAM_FAILED"
    with RawUpstream() as upstream:
        single.manage("PATCH", f"/services/{service}", {"base_url": upstream.url})
        codes = [single.call("GET", f"/{service}/a", key).code for _ in range(3)]
    assert codes == ["VALID", "VALID", "USES_EXHAUSTED"]


def test_a_call_whose_bytes_left_is_spent(single: RunningServer) -> None:
    with RawUpstream(Reply((), then="close")) as upstream:
        service = single.open_service("secret-of-a-broken-upstream", base_url=upstream.url)
        key = single.issue(service, uses=2)
        codes = [single.call("GET", f"/{service}/a", key).code for _ in range(3)]
    assert codes == ["UPSTREAM_FAILED", "UPSTREAM_FAILED", "USES_EXHAUSTED"]
