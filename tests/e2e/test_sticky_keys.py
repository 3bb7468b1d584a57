"""Sticky keys over sockets and processes: one address wins, at every worker, and keeps the key over restarts."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_address
from threading import Barrier, Thread

import pytest

from running_server import Refused, RunningServer, ValetKey, eventually
from standins.raw_upstream import RawUpstream

pytestmark = pytest.mark.real

FIRST, SECOND = "127.0.0.1", "127.0.0.2"
PINNED = "127.77.66.55"


@pytest.fixture
def own_server() -> Iterator[RunningServer]:
    """One that may be killed."""
    with RunningServer(workers=2) as server:
        yield server


def sticky(server: RunningServer, service: str, **terms: object) -> ValetKey:
    return server.issue(service, sticky=True, **terms)


def code(server: RunningServer, service: str, key: ValetKey, source: str) -> str:
    """The gateway's answer; `key check` gives the same, before and after."""
    call = {"method": "GET", "path": "/a", "address": source}
    checked = server.manage("POST", f"/keys/{key.id}/check", call)["code"]
    called = server.call("GET", f"/{service}/a", key, source=source).code
    assert checked == called
    return called


def pinned(server: RunningServer, key: ValetKey) -> str | None:
    found: str | None = server.manage("GET", f"/keys/{key.id}")["pinned"]
    return found


def audited(server: RunningServer, key: ValetKey, action: str) -> list[dict[str, object]]:
    items = server.manage("GET", "/audit?limit=200")["items"]
    return [entry for entry in items if entry["subject"] == f"key:{key.id}" and entry["action"] == action]


def test_of_two_addresses_at_two_workers_one_has_the_key(server: RunningServer) -> None:
    with RawUpstream() as upstream:
        service = server.open_service("secret-of-the-first", base_url=upstream.url)
        winners = set()
        for _ in range(6):
            key = sticky(server, service)
            got: dict[str, Counter[str]] = {FIRST: Counter(), SECOND: Counter()}
            together = Barrier(16)

            def go(source: str, key: ValetKey = key, got=got, together=together) -> None:  # type: ignore[no-untyped-def]
                together.wait()
                for _ in range(3):
                    got[source][server.call("GET", f"/{service}/a", key, source=source).code] += 1

            threads = [Thread(target=go, args=(source,)) for source in (FIRST, SECOND) * 8]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(map(dict, got.values()), key=str) == [{"NETWORK_DENIED": 24}, {"VALID": 24}]
            winner = next(source for source, codes in got.items() if "VALID" in codes)
            winners.add(winner)
            eventually(lambda key=key: pinned(server, key))  # type: ignore[misc]
            assert pinned(server, key) == winner
            assert len(audited(server, key, "key:pin")) == 1
        assert len(upstream.heads) == 6 * 24


def test_a_key_is_unpinned_by_its_owner_alone(server: RunningServer) -> None:
    with RawUpstream() as upstream:
        service = server.open_service("secret-of-unpinning", base_url=upstream.url)
        key = sticky(server, service)
        assert [code(server, service, key, source) for source in (FIRST, SECOND, FIRST)] == [
            "VALID", "NETWORK_DENIED", "VALID",
        ]  # fmt: skip
        eventually(lambda: pinned(server, key))
        assert server.manage("POST", f"/keys/{key.id}/unpin")["pinned"] is None
        assert [code(server, service, key, source) for source in (SECOND, FIRST)] == [
            "VALID",
            "NETWORK_DENIED",
        ]
        eventually(lambda: pinned(server, key) == SECOND)
        assert len(audited(server, key, "key:pin")) == 2
        (entry,) = audited(server, key, "key:unpin")
        assert SECOND not in json.dumps(audited(server, key, "key:pin")), (
            "an address in the audit is for ever"
        )
        assert str(entry["actor"]).startswith("local-owner:")
        with pytest.raises(Refused, match="not sticky"):
            server.manage("POST", f"/keys/{server.issue(service).id}/unpin")


def test_a_change_makes_a_key_sticky_or_takes_that_away(server: RunningServer) -> None:
    with RawUpstream() as upstream:
        service = server.open_service("secret-of-changing", base_url=upstream.url)
        key = server.issue(service)
        assert [code(server, service, key, source) for source in (FIRST, SECOND)] == ["VALID", "VALID"]
        server.change(key, terms={"sticky": True})
        assert [code(server, service, key, source) for source in (SECOND, FIRST)] == [
            "VALID",
            "NETWORK_DENIED",
        ]
        server.change(key, terms={"sticky": False})
        assert code(server, service, key, FIRST) == "VALID"
        assert pinned(server, key) is None
        server.change(key, terms={"sticky": True})
        assert code(server, service, key, FIRST) == "VALID", "what it was pinned to before is forgotten"
        with pytest.raises(Refused, match="public key"):
            server.issue(service, kind="public", endpoints=["GET /a"], sticky=True)


def test_a_revoked_key_keeps_no_address(server: RunningServer) -> None:
    with RawUpstream() as upstream:
        service = server.open_service("secret-of-forgetting", base_url=upstream.url)
        key = sticky(server, service)
        assert code(server, service, key, FIRST) == "VALID"
        eventually(lambda: pinned(server, key))
        server.stop_key(key)
        assert pinned(server, key) is None
        assert [code(server, service, key, source) for source in (FIRST, SECOND)] == ["REVOKED", "REVOKED"]


def test_an_erasure_takes_the_pin_of_an_ended_key_from_every_file_and_leaves_it_sticky(
    server: RunningServer,
) -> None:
    with RawUpstream() as upstream:
        service = server.open_service("secret-of-erasing-pins", base_url=upstream.url)
        ended, dead = (
            sticky(server, service, holder="erna"),
            sticky(server, service, holder="erna", label="dead"),
        )
        for key in (ended, dead):
            assert code(server, service, key, PINNED) == "VALID"
            eventually(lambda key=key: pinned(server, key) == PINNED)
        server.stop_key(dead)
        server.change(ended, expires="1s")
        # Not by `code`: its two answers may stand on either side of the end.
        eventually(lambda: server.call("GET", f"/{service}/a", ended, source=PINNED).code == "EXPIRED")
        eventually(lambda: not is_open_ended(server, ended))
        server.manage("POST", "/audit/erase", {"party": "erna"})
        place = int(ip_address(PINNED)).to_bytes(8, "little")
        assert place not in (server.home / "counters").read_bytes()
        for file in server.home.glob("valetkey.db*"):
            assert PINNED.encode() not in file.read_bytes(), file
        server.change(ended, expires="1h")
        assert [code(server, service, ended, source) for source in (SECOND, FIRST)] == [
            "VALID",
            "NETWORK_DENIED",
        ]


def is_open_ended(server: RunningServer, key: ValetKey) -> bool:
    """Whether the key's end is not final yet."""
    with closing(sqlite3.connect(server.home / "valetkey.db")) as database:
        return database.execute("SELECT ended FROM keys WHERE id = ?", (key.id,)).fetchone()[0] is None


def test_what_is_derived_is_held_to_the_pin_of_what_it_comes_from(server: RunningServer) -> None:
    with RawUpstream() as upstream:
        service = server.open_service("secret-of-pinned-lines", base_url=upstream.url)
        root = sticky(server, service)
        made = server.manage("POST", f"/keys/{root.id}/derive", {})
        child = ValetKey(made["id"], made["key"])
        assert [code(server, service, child, source) for source in (SECOND, FIRST)] == [
            "VALID",
            "NETWORK_DENIED",
        ]
        assert code(server, service, root, FIRST) == "NETWORK_DENIED"
        eventually(lambda: pinned(server, root) == SECOND)
        assert pinned(server, child) is None


def test_verify_pins_by_the_address_that_it_is_told(server: RunningServer) -> None:
    server.manage("POST", "/services", {"name": "sticky-own", "own": True})
    credential = server.manage("POST", "/services/sticky-own/credential", {})["credential"]
    key = sticky(server, "sticky-own")

    def ask(address: str | None) -> str:
        body = {"key": key.value, "method": "GET", "path": "/a"} | (
            {} if address is None else {"address": address}
        )
        return str(server.call("POST", "/v1/verify", credential, body=json.dumps(body)).json["code"])

    assert [ask(address) for address in (None, "2001:db8:0:7::1", "2001:db8:0:7:9::1", "2001:db8:0:8::1")] == [
        "NETWORK_DENIED", "VALID", "VALID", "NETWORK_DENIED",
    ]  # fmt: skip
    eventually(lambda: pinned(server, key) == "2001:db8:0:7::/64")


def test_the_pin_stays_when_processes_die_and_counters_are_lost(own_server: RunningServer) -> None:
    server = own_server
    with RawUpstream() as upstream:
        service = server.open_service("secret-of-staying", base_url=upstream.url)
        told, untold = sticky(server, service), sticky(server, service)
        assert code(server, service, told, SECOND) == "VALID"
        eventually(lambda: pinned(server, told))
        # The control process stands still, so that nobody writes the second pin down; then all is killed at once.
        os.kill(server.control_pid, signal.SIGSTOP)
        assert server.call("GET", f"/{service}/a", untold, source=SECOND).code == "VALID"
        server.kill()
        server.start()
        assert [pinned(server, key) for key in (told, untold)] == [SECOND, SECOND]
        for key in (told, untold):
            assert [code(server, service, key, source) for source in (FIRST, SECOND)] == [
                "NETWORK_DENIED", "VALID",
            ]  # fmt: skip
        server.stop()
        (server.home / "counters").unlink()
        server.start()
        for key in (told, untold):
            assert [code(server, service, key, source) for source in (FIRST, SECOND)] == [
                "NETWORK_DENIED", "VALID",
            ]  # fmt: skip
