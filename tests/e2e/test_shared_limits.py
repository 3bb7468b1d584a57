"""Limits that keys share: of a holder, of a service, of everything; and counters that the journal fills anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from running_server import RunningServer, ValetKey
from standins.raw_upstream import RawUpstream

pytestmark = pytest.mark.real


@pytest.fixture
def own_server() -> Iterator[RunningServer]:
    """A server of its own: limits of everything would be everybody's."""
    with RunningServer(workers=2) as server:
        yield server


def calls(server: RunningServer, service: str, key: ValetKey, number: int) -> Counter[str]:
    return Counter(server.call("GET", f"/{service}/a", key).code for _ in range(number))


def limit(server: RunningServer, *, terms: dict[str, object], **whose: str) -> None:
    server.manage("PATCH", "/limits", {**whose, "terms": terms})


def test_each_level_admits_what_it_says_and_no_more(own_server: RunningServer) -> None:
    server = own_server
    with RawUpstream() as upstream:
        first, second = (
            server.open_service(f"secret-{name}", name, base_url=upstream.url) for name in ("one", "two")
        )
        ana = [server.issue(first, holder="ana"), server.issue(second, holder="ana")]
        ben = server.issue(first, holder="ben")
        limit(server, holder="ana", terms={"quotas": ["5/day"]})
        got = calls(server, first, ana[0], 3) + calls(server, second, ana[1], 4)
        assert got == {"VALID": 5, "QUOTA_EXCEEDED": 2}
        checked = server.manage("POST", f"/keys/{ana[0].id}/check", {"method": "GET", "path": "/a"})
        assert checked["code"] == "QUOTA_EXCEEDED"
        assert "holder's limit" in checked["sentence"]

        # What the journal has seen of the service by now (3 of ana's) counts.
        limit(server, service=first, terms={"quotas": ["8/month"]})
        assert calls(server, first, ben, 7) == {"VALID": 5, "QUOTA_EXCEEDED": 2}

        limit(server, terms={"quotas": ["12/month"]})
        other = server.issue(second, holder="cleo")
        assert calls(server, second, other, 4) == {"VALID": 2, "QUOTA_EXCEEDED": 2}
        refused = server.call("GET", f"/{second}/a", other)
        assert "workspace's limit" in refused.json["detail"]
        assert len(upstream.heads) == 12

        limit(server, terms={"quotas": []})
        limit(server, holder="ana", terms={"quotas": [], "rate": "1/hour"})
        assert calls(server, second, ana[1], 3) == {"VALID": 1, "RATE_LIMITED": 2}
        levels = [(item["level"], item["name"]) for item in server.manage("GET", "/limits")["items"]]
        assert levels == [("service", "one"), ("holder", "ana")]


def test_counters_that_a_loss_of_power_took_are_filled_from_the_journal(own_server: RunningServer) -> None:
    server = own_server
    with RawUpstream() as upstream:
        service = server.open_service("secret-of-power", base_url=upstream.url, price="1.00")
        gone = server.open_service("secret-of-gone", base_url="http://127.0.0.1:1")
        uses = server.issue(service, holder="ana", uses=5)
        quota = server.issue(service, holder="ben", quotas=["4/hour"])
        budget = server.issue(service, holder="cleo", budgets=["3.00/day"])
        unreached = server.issue(gone, uses=2)
        limit(server, holder="ben", terms={"quotas": ["4/month"]})
        for key in (uses, quota, budget):
            assert calls(server, service, key, 2) == {"VALID": 2}
        assert calls(server, gone, unreached, 4) == {"UPSTREAM_FAILED": 4}, "what never left is not spent"
        server.kill()
        # The mapped file as after a loss of power before any of it was written.
        (server.home / "counters").unlink()
        server.start()
        assert calls(server, service, uses, 5) == {"VALID": 3, "USES_EXHAUSTED": 2}
        assert calls(server, service, quota, 5) == {"VALID": 2, "QUOTA_EXCEEDED": 3}
        assert calls(server, service, budget, 5) == {"VALID": 1, "BUDGET_EXCEEDED": 4}
        assert calls(server, gone, unreached, 3) == {"UPSTREAM_FAILED": 3}


def test_a_limit_set_on_a_key_in_use_counts_its_whole_life(server: RunningServer) -> None:
    with RawUpstream() as upstream:
        service = server.open_service("secret-of-life", base_url=upstream.url)
        key = server.issue(service)
        assert calls(server, service, key, 3) == {"VALID": 3}
        server.change(key, terms={"uses": 5, "quotas": ["10/day"]})
        assert calls(server, service, key, 4) == {"VALID": 2, "USES_EXHAUSTED": 2}
