"""Keys derived from a key: never wider than it, counted at it, dead with it, at any later moment."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from running_server import Refused, RunningServer, ValetKey
from standins.raw_upstream import RawUpstream

pytestmark = pytest.mark.real


def derive(server: RunningServer, key: ValetKey, **asked: object) -> ValetKey:
    issued = server.manage("POST", f"/keys/{key.id}/derive", asked)
    assert (issued["kind"], issued["parent"]) == ("temporary", key.id)
    return ValetKey(issued["id"], issued["key"])


def code(server: RunningServer, service: str, key: ValetKey, path: str = "/a", method: str = "GET") -> str:
    answer = server.call(method, f"/{service}{path}", key)
    checked = server.manage(
        "POST", f"/keys/{key.id}/check", {"method": method, "path": path, "address": "127.0.0.1"}
    )
    if answer.code not in (
        "VALID",
        "USES_EXHAUSTED",
        "QUOTA_EXCEEDED",
    ):  # the first call may have spent the last
        assert checked["code"] == answer.code
    return answer.code


def test_a_child_is_never_wider_than_its_line_now_and_later(server: RunningServer) -> None:
    with RawUpstream() as upstream:
        service = server.open_service("secret-of-the-line", base_url=upstream.url)
        root = server.issue(service, endpoints=["GET /a", "GET /b", "POST /a"])
        child = derive(server, root, terms={"endpoints": ["GET /**"]})
        grandchild = derive(server, child, holder="agent", terms={"endpoints": ["/a"]})
        assert [code(server, service, child, path) for path in ("/a", "/b", "/c")] == [
            "VALID", "VALID", "ENDPOINT_DENIED",
        ]  # fmt: skip
        assert code(server, service, grandchild) == "VALID"
        assert code(server, service, grandchild, method="POST") == "ENDPOINT_DENIED", "the child may only GET"
        server.change(root, terms={"endpoints": ["GET /b"]})
        assert code(server, service, grandchild) == "ENDPOINT_DENIED"
        assert code(server, service, child, "/b") == "VALID"
        server.change(root, terms={"networks": ["198.51.100.0/24"]})
        assert code(server, service, child, "/b") == "NETWORK_DENIED"
        server.change(root, terms={"networks": []})
        server.stop_key(root, "suspend")
        assert code(server, service, grandchild) == "SUSPENDED"
        with pytest.raises(Refused, match="suspended"):
            derive(server, child)
        server.stop_key(root, "resume")
        with pytest.raises(Refused, match="2 deep"):
            derive(server, grandchild)
        server.stop_key(child, "revoke")
        assert (code(server, service, child, "/b"), code(server, service, grandchild)) == (
            "REVOKED",
            "REVOKED",
        )
        assert code(server, service, root, "/b") == "VALID"


def test_children_spend_what_their_parent_has(server: RunningServer) -> None:
    with RawUpstream() as upstream:
        service = server.open_service("secret-of-children", base_url=upstream.url)
        root = server.issue(service, quotas=["30/day"])
        children = [derive(server, root, label=str(place)) for place in range(8)]
        got = Counter(server.call("GET", f"/{service}/a", key).code for key in children for _ in range(6))
        assert got == {"VALID": 30, "QUOTA_EXCEEDED": 18}
        assert len(upstream.heads) == 30
        assert server.call("GET", f"/{service}/a", root).code == "QUOTA_EXCEEDED"
        once = derive(server, server.issue(service), terms={"uses": 1})
        assert [server.call("GET", f"/{service}/a", once).code for _ in range(2)] == [
            "VALID",
            "USES_EXHAUSTED",
        ]


def test_the_end_of_a_child_is_no_later_than_its_parents(server: RunningServer) -> None:
    service = server.open_service("secret-of-ends", base_url="http://127.0.0.1:1")
    root = server.issue(service, expires="10m")
    child = server.manage("POST", f"/keys/{root.id}/derive", {"expires": "2h"})
    assert child["expires"] <= time.time() + 600
    assert any(root.id in sentence for sentence in child["sentences"])
    assert server.manage("GET", f"/keys/{child['id']}")["parent"] == root.id
    public = server.issue(service, kind="public", endpoints=["GET /a"])
    with pytest.raises(Refused, match="public"):
        derive(server, public)
    server.stop_key(root, "revoke")
    with pytest.raises(Refused, match="revoked"):
        derive(server, root)
    entry = next(e for e in server.manage("GET", "/audit")["items"] if e["action"] == "key:derive")
    assert entry["details"]["parent"] == root.id
