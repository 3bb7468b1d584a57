"""Networks that are an interface follow its addresses; networks that are a listener's address know it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from typing import Any

import pytest

from own_network import add_address, bring_up_loopback, remove_address, run_there
from plain_calls import ask
from running_server import Refused, RunningServer, ValetKey, eventually
from standins.raw_upstream import RawUpstream

pytestmark = pytest.mark.real

FIRST, SECOND, THIRD = "198.51.100.1", "198.51.101.1", "2001:db8:5::1"


def blocks(server: RunningServer) -> list[str]:
    (found,) = server.manage("GET", "/networks")["items"]
    return list(found["blocks"])


def checked(server: RunningServer, key: ValetKey, address: str) -> str:
    call = {"method": "GET", "path": "/a", "address": address}
    return str(server.manage("POST", f"/keys/{key.id}/check", call)["code"])


def follow() -> dict[str, Any]:
    """What is seen of a key that is tied to an interface while the interface's addresses change."""
    bring_up_loopback()
    seen: dict[str, Any] = {}
    with RawUpstream() as upstream, RunningServer(workers=2) as server:
        service = server.open_service("secret-of-interfaces", base_url=upstream.url)
        add_address(FIRST, 24)
        made = server.manage("POST", "/networks", {"name": "here", "interface": "lo"})
        seen["made"] = made["blocks"]
        key = server.issue(service, networks=["here"])

        def call(source: str) -> str:
            return server.call("GET", f"/{service}/a", key, source=source).code

        def until(look: Callable[[], bool]) -> None:
            eventually(look, 10.0)

        seen["first"] = [call(FIRST), checked(server, key, SECOND)]
        add_address(SECOND, 24)
        until(lambda: "198.51.101.0/24" in blocks(server))
        seen["second"] = [call(SECOND), call(FIRST)]
        remove_address(FIRST, 24)
        until(lambda: "198.51.100.0/24" not in blocks(server))
        seen["gone"] = [checked(server, key, FIRST), call(SECOND)]
        entry = next(e for e in server.manage("GET", "/audit")["items"] if e["action"] == "network:follow")
        seen["audit"] = [entry["actor"], entry["subject"], sorted(entry["details"])]
        server.stop()
        remove_address(SECOND, 24)
        add_address(THIRD, 64)
        server.start()
        seen["after"] = [checked(server, key, SECOND), checked(server, key, THIRD), call("127.0.0.1")]
    return seen


def cut() -> dict[str, Any]:
    """An answer that is open when its caller's address leaves the network."""
    bring_up_loopback()
    add_address(FIRST, 24)
    with RawUpstream() as upstream, RunningServer() as server:
        service = server.open_service("secret-of-cuts", base_url=upstream.url)
        server.manage("POST", "/networks", {"name": "here", "interface": "lo"})
        key = server.issue(service, networks=["here"])
        connection = server.connect(FIRST)
        connection.request("POST", f"/{service}/a", headers={**key.bearer, "Content-Length": "1000000"})
        eventually(lambda: server.events(key))
        remove_address(FIRST, 24)
        (event,) = server.closed_events(key, 1)
        connection.close()
        return {"end": event["end"], "code": event["code"]}


def test_a_network_by_interface_follows_its_addresses() -> None:
    seen = run_there(__file__, "follow")
    assert "198.51.100.0/24" in seen["made"]
    assert "127.0.0.0/8" in seen["made"]
    assert seen["first"] == ["VALID", "NETWORK_DENIED"]
    assert seen["second"] == ["VALID", "VALID"]
    assert seen["gone"] == ["NETWORK_DENIED", "VALID"]
    assert seen["audit"] == ["system:valetkey", "network:here", ["after", "before", "interface"]]
    assert seen["after"] == ["NETWORK_DENIED", "VALID", "VALID"], (
        "what changed while no server ran is known at the start"
    )


def test_what_is_open_from_an_address_that_left_is_cut() -> None:
    assert run_there(__file__, "cut") == {"end": "cut_by_revoke", "code": "NETWORK_DENIED"}


def test_a_network_by_listener_is_whoever_calls_there() -> None:
    with (
        RawUpstream() as upstream,
        RunningServer(workers=2, settings={"listen": "0.0.0.0", "allow_plain": True}) as server,
    ):
        service = server.open_service("secret-of-listeners", base_url=upstream.url)
        port = server.gateway_port
        made = server.manage("POST", "/networks", {"name": "inside", "listener": "127.0.0.2"})
        assert (made["listener"], made["blocks"]) == ("127.0.0.2", [])
        server.manage("POST", "/networks", {"name": "elsewhere", "listener": f"127.0.0.2:{port + 1}"})
        server.manage("POST", "/networks", {"name": "there", "listener": f"127.0.0.2:{port}"})
        keys = {name: server.issue(service, networks=[name]) for name in ("inside", "elsewhere", "there")}

        def code(name: str, to: str) -> str:
            connection = http.client.HTTPConnection(to, port, timeout=20)
            try:
                called = ask(
                    connection, "GET", f"/{service}/a", keys[name], headers={"Host": "127.0.0.1"}
                ).code
            finally:
                connection.close()
            call = {"method": "GET", "path": "/a", "address": "127.0.0.1", "listener": f"{to}:{port}"}
            assert server.manage("POST", f"/keys/{keys[name].id}/check", call)["code"] == called
            return called

        assert [code(name, "127.0.0.2") for name in keys] == ["VALID", "NETWORK_DENIED", "VALID"]
        assert [code(name, "127.0.0.1") for name in keys] == ["NETWORK_DENIED"] * 3
        assert checked(server, keys["inside"], "127.0.0.2") == "NETWORK_DENIED", (
            "it is not said where it arrives"
        )
        server.manage("POST", "/networks", {"name": "inside", "blocks": ["127.0.0.0/8"]})
        assert code("inside", "127.0.0.1") == "VALID"


@pytest.mark.parametrize(
    ("network", "says"),
    [
        ({"interface": "none-of-ours"}, "There is no such interface"),
        ({"listener": "10.0.0.1:99999"}, "A port is a number"),
        ({"listener": "here"}, "not an IPv4 or IPv6 address"),
        ({"interface": "lo", "blocks": ["10.0.0.0/8"]}, "Give one of them"),
        ({}, "at least one address block"),
    ],
)
def test_what_can_be_no_network_is_told_why(
    server: RunningServer, network: dict[str, Any], says: str
) -> None:
    with pytest.raises(Refused, match=says):
        server.manage("POST", "/networks", {"name": "wrong", **network})


if __name__ == "__main__":
    import sys

    print(json.dumps({"follow": follow, "cut": cut}[sys.argv[1]]()))
