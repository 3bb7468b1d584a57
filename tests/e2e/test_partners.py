"""Partner keys: never more than the agreement, whatever they say themselves, and dead with it."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from running_server import Refused, RunningServer, ValetKey, eventually
from standins.raw_upstream import RawUpstream, with_length

pytestmark = pytest.mark.real


def agreement(*services: str, **more: Any) -> dict[str, Any]:
    named = [{"name": name, "endpoints": ["GET /a", "GET /b"]} for name in services]
    return {"ends": "30d", "services": named, **more}


def issue(server: RunningServer, service: str, partner: str, **asked: Any) -> ValetKey:
    issued = server.manage(
        "POST", "/keys", {"service": service, "kind": "partner", "holder": partner, **asked}
    )
    return ValetKey(issued["id"], issued["key"])


def code(
    server: RunningServer, service: str, key: ValetKey, path: str = "/a", source: str = "127.0.0.1"
) -> str:
    answer = server.call("GET", f"/{service}{path}", key, source=source)
    asked = {"method": "GET", "path": path, "address": source}
    assert server.manage("POST", f"/keys/{key.id}/check", asked)["code"] == answer.code
    return answer.code


def test_a_partner_key_stays_within_the_agreement_as_it_stands_now(server: RunningServer) -> None:
    with RawUpstream() as upstream:
        service = server.open_service("secret-of-partners", base_url=upstream.url)
        other = server.open_service("secret-of-others", base_url=upstream.url)
        server.manage("POST", "/partners", {"name": "acme", "agreement": agreement(service)})
        wide = issue(server, service, "acme", terms={"endpoints": ["GET /**"]})
        assert [code(server, service, wide, path) for path in ("/a", "/b", "/c")] == [
            "VALID", "VALID", "ENDPOINT_DENIED",
        ]  # fmt: skip
        derived = server.manage("POST", f"/keys/{wide.id}/derive", {"holder": "agent-of-acme"})
        child = ValetKey(derived["id"], derived["key"])
        assert [code(server, service, child, path) for path in ("/a", "/c")] == ["VALID", "ENDPOINT_DENIED"]
        with pytest.raises(Refused, match="does not name this service"):
            issue(server, other, "acme")
        with pytest.raises(Refused, match="no agreement"):
            issue(server, service, "nobody")

        narrower = agreement(service, networks=["127.0.0.2/32"])
        assert server.manage("PUT", "/partners/acme/agreement", narrower)["acknowledged"] == 2
        assert code(server, service, wide) == "NETWORK_DENIED"
        told = server.call("GET", f"/{service}/a", wide).json["detail"]
        assert told.endswith("Only from 127.0.0.2 (set in the agreement).")
        assert code(server, service, child, source="127.0.0.2") == "VALID"

        server.manage("PUT", "/partners/acme/agreement", agreement(other))
        assert code(server, service, wide) == "REVOKED", "the agreement does not name the service any more"
        server.manage("PUT", "/partners/acme/agreement", agreement(service, other))
        assert code(server, service, wide) == "VALID"
        server.manage("POST", "/partners/acme/end")
        assert [code(server, service, key) for key in (wide, child)] == ["REVOKED", "REVOKED"]
        with pytest.raises(Refused, match="has ended"):
            issue(server, service, "acme", label="again")


def test_all_keys_of_a_partner_share_the_agreed_limits(server: RunningServer) -> None:
    with RawUpstream() as upstream:
        service = server.open_service("secret-of-shares", base_url=upstream.url)
        limits = {"quotas": ["12/day"], "rate": "1000/s"}
        server.manage("POST", "/partners", {"name": "bolt", "agreement": agreement(service, limits=limits)})
        keys = [issue(server, service, "bolt", label=str(place)) for place in range(4)]
        got = Counter(server.call("GET", f"/{service}/a", key).code for key in keys for _ in range(5))
        assert got == {"VALID": 12, "QUOTA_EXCEEDED": 8}
        event = server.closed_events(keys[0], 5)[0]
        assert event["code"] == "VALID"


def test_all_keys_of_a_partner_share_the_agreed_bytes(server: RunningServer) -> None:
    with RawUpstream(with_length(b"k" * 1000)) as upstream:
        service = server.open_service("secret-of-shared-volume", base_url=upstream.url)
        agreed = agreement(service, limits={"bytes": ["3KB/month"]})
        server.manage("POST", "/partners", {"name": "bore", "agreement": agreed})
        keys = [issue(server, service, "bore", label=str(place)) for place in range(2)]
        got = [server.call("GET", f"/{service}/a", key).code for key in keys for _ in range(2)]
        assert got == ["VALID", "VALID", "VALID", "QUOTA_EXCEEDED"]


def test_a_key_lives_between_the_begin_and_the_end(server: RunningServer) -> None:
    with RawUpstream() as upstream:
        service = server.open_service("secret-of-dates", base_url=upstream.url)
        soon = datetime.fromtimestamp(time.time() + 2, UTC).isoformat()
        later = agreement(service, begins="2099-01-01", ends="2099-12-31")
        server.manage("POST", "/partners", {"name": "coil", "agreement": later})
        key = issue(server, service, "coil")
        assert code(server, service, key) == "SUSPENDED"
        server.manage("PUT", "/partners/coil/agreement", {**agreement(service), "ends": soon})
        assert code(server, service, key) == "VALID"
        eventually(lambda: server.call("GET", f"/{service}/a", key).code == "EXPIRED")
        assert code(server, service, key) == "EXPIRED"


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"services": []}, "services"),
        ({"services": [{"name": "nosuch"}]}, None),
        ({"ends": "yesterday"}, "ends"),
        ({"ends": "2020-01-01"}, "ends"),
        ({"begins": "2099-01-01"}, "ends"),
        ({"networks": ["300.0.0.0/8"]}, "networks"),
        ({"limits": {"rate": "fast"}}, "limits"),
        ({"contact": {"email": "nobody"}}, "contact.email"),
        ({"surprise": 1}, None),
    ],
)
def test_an_agreement_that_cannot_be_is_refused(
    server: RunningServer, wrong: dict[str, Any], field: str | None
) -> None:
    written = {**agreement("openai"), **wrong}
    with pytest.raises(Refused) as caught:
        server.manage("POST", "/partners", {"name": "dusk", "agreement": written})
    assert caught.value.status in (400, 404)
    if field is not None:
        assert caught.value.problem["field"] == field
    assert all(party["name"] != "dusk" for party in server.manage("GET", "/parties")["items"])
