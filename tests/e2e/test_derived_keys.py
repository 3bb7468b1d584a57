"""Keys derived from a key: never wider than it, counted at it, dead with it, at any later moment."""

from __future__ import annotations

import json
import time
from collections import Counter

import pytest

from running_server import Answer, Refused, RunningServer, ValetKey
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


def ask_gateway(server: RunningServer, key: ValetKey | str, body: object = None) -> Answer:
    return server.call("POST", "/v1/derive", key, body="" if body is None else json.dumps(body))


def test_whoever_holds_a_key_derives_one_at_the_gateway(server: RunningServer) -> None:
    with RawUpstream() as upstream:
        service = server.open_service("secret-of-hands", base_url=upstream.url)
        root = server.issue(service, endpoints=["GET /a"], quotas=["4/day"])
        answer = ask_gateway(server, root, {"expires": "10m", "label": "agent", "terms": {"uses": 2}})
        assert answer.status == 201, answer.body
        assert answer.header("cache-control") == "no-store"
        child = ValetKey(answer.json["id"], answer.json["key"])
        assert (answer.json["parent"], answer.json["kind"]) == (root.id, "temporary")
        got = [server.call("GET", f"/{service}/a", child).code for _ in range(3)]
        assert got == ["VALID", "VALID", "USES_EXHAUSTED"]
        assert server.call("GET", f"/{service}/a", root).code == "VALID"
        assert server.call("GET", f"/{service}/a", root).code == "QUOTA_EXCEEDED", (
            "to derive counts as a call"
        )
        refused = ask_gateway(server, root)
        assert (refused.status, refused.code) == (403, "QUOTA_EXCEEDED")
        event = next(
            e for e in server.closed_events(root, 3) if e["method"] == "POST" and e["code"] == "VALID"
        )
        assert (event["status"], event["end"]) == (201, "complete")
        entry = next(e for e in server.manage("GET", "/audit")["items"] if e["subject"] == f"key:{child.id}")
        assert (entry["actor"], entry["action"]) == (f"key:{root.id}", "key:derive")
        server.stop_key(root)
        assert server.call("GET", f"/{service}/a", child).code == "REVOKED"


@pytest.mark.parametrize(
    ("body", "status", "code_"),
    [
        ("{", 400, "INVALID"),
        ('{"holder": "ben"}', 400, "INVALID"),
        ('{"terms": {"endpoints": ["nothing"]}}', 400, "INVALID"),
        ('{"expires": "soon"}', 400, "INVALID"),
        ("x" * 70_000, 413, "TOO_LARGE"),
    ],
)
def test_bad_derivations_are_told_why(server: RunningServer, body: str, status: int, code_: str) -> None:
    service = server.open_service(f"secret-of-bad-{status}", base_url="http://127.0.0.1:1")
    root = server.issue(service)
    answer = server.call("POST", "/v1/derive", root, body=body)
    assert (answer.status, answer.json["code"]) == (status, code_), answer.body
    assert answer.header("content-type") == "application/problem+json"
    assert root.value.encode() not in answer.everything
    if status == 400:
        assert answer.json["call"] == server.closed_events(root, 1)[0]["call"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"endpoints": ["GET /a"]}', "Did you mean 'terms.endpoints'?"),
        ('{"terms": {"endpoint": ["GET /a"]}}', "Did you mean 'terms.endpoints'?"),
        (
            '{"expires": 5}',
            "The field expires has a wrong value: expected text or nothing, got a whole number.",
        ),
        ('{"holder": "ben"}', "The request has a field that is not known: holder."),
        ("[1", "The request has a wrong value"),
    ],
)
def test_a_derivation_is_told_its_fields_and_nothing_of_the_other_port(
    server: RunningServer, body: str, said: str
) -> None:
    service = server.open_service("secret-of-fields", base_url="http://127.0.0.1:1")
    answer = server.call("POST", "/v1/derive", server.issue(service), body=body)
    assert (answer.status, answer.json["code"]) == (400, "INVALID")
    assert said in answer.json["detail"]
    assert "/api/" not in answer.body.decode() and str(server.control_port) not in answer.body.decode()
    assert "label, expires, terms" in answer.json["next_step"]
    assert answer.header("x-valetkey-code") == "INVALID"
    assert answer.header("x-should-retry") == "false"
    assert answer.json["error"] == {
        "code": "INVALID",
        "message": f"{answer.json['detail']} {answer.json['next_step']}",
        "type": "valetkey",
    }
    assert "deny_endpoints, schedule" in answer.json["next_step"]


def test_who_counts_on_an_idempotency_key_gets_none_of_two_keys(server: RunningServer) -> None:
    service = server.open_service("secret-of-repeats", base_url="http://127.0.0.1:1")
    root = server.issue(service)
    answer = server.call("POST", "/v1/derive", root, headers={"Idempotency-Key": "once"}, body="{}")
    assert (answer.status, answer.code) == (400, "MALFORMED")
    assert "Idempotency-Key is not taken here" in answer.json["detail"]
    assert "valetkey key derive" in answer.json["next_step"]
    assert answer.json["call"] == server.closed_events(root, 1)[0]["call"]
    assert not [
        key for key in server.manage("GET", "/keys?limit=200")["items"] if key.get("parent") == root.id
    ]


def test_what_was_pasted_into_a_derivation_is_not_repeated(server: RunningServer) -> None:
    service = server.open_service("secret-of-pasting", base_url="http://127.0.0.1:1")
    root = server.issue(service)
    for body in (
        f'{{"{root.value}": 1}}',
        f'{{"expires": "{root.value}x" , "label": 5}}',
        "[" * 50_000,
    ):
        answer = server.call("POST", "/v1/derive", root, body=body)
        assert (answer.status, answer.json["code"]) == (400, "INVALID"), answer.body
        assert root.value.encode() not in answer.everything


def test_who_may_not_call_may_not_derive(server: RunningServer) -> None:
    service = server.open_service("secret-of-elsewhere", base_url="http://127.0.0.1:1")
    elsewhere = server.issue(service, networks=["198.51.100.0/24"])
    assert ask_gateway(server, elsewhere).code == "NETWORK_DENIED"
    suspended = server.issue(service)
    server.stop_key(suspended, "suspend")
    assert ask_gateway(server, suspended).code == "SUSPENDED"
    public = server.issue(service, kind="public", endpoints=["GET /a"])
    assert ask_gateway(server, public).json["code"] == "INVALID"
    assert ask_gateway(server, "vk_prv_nobody").code == "UNKNOWN_KEY"
    assert server.call("POST", "/v1/derive").code == "MALFORMED"
    assert server.call("GET", "/v1/derive", suspended).code == "METHOD_REFUSED"


def test_a_holder_learns_no_name_of_a_network_that_its_key_does_not_name(server: RunningServer) -> None:
    server.manage("POST", "/networks", {"name": "headquarters", "blocks": ["127.0.0.0/8"]})
    server.manage("POST", "/networks", {"name": "warroom-berlin", "blocks": ["127.0.0.0/8"]})
    service = server.open_service("secret-of-networks", base_url="http://127.0.0.1:1")
    root = server.issue(service, networks=["headquarters"])

    def said(network: str) -> str:
        answer = ask_gateway(server, root, {"terms": {"networks": [network]}})
        return "made" if answer.status == 201 else answer.body.decode()

    assert said("headquarters") == said("127.0.0.1") == "made"
    there, not_there = said("warroom-berlin"), said("warroom-munich")
    assert "There is no network named 'warroom-berlin'" in there
    assert "There is no network named 'warroom-munich'" in not_there
    assert "warroom-berlin" not in said("warroom-berlim")
    assert "Did you mean 'headquarters'?" in said("hedquarters")
