"""A derived key that has long been dead is forgotten everywhere but in the books."""

from __future__ import annotations

import sqlite3

import pytest

from running_server import RunningServer, ValetKey, eventually
from standins.raw_upstream import RawUpstream

pytestmark = pytest.mark.real


def test_a_derived_key_that_is_long_dead_is_unknown_and_its_parent_lives_on() -> None:
    with RawUpstream() as upstream, RunningServer() as server:
        service = server.open_service("secret-of-the-forgotten", base_url=upstream.url)
        root = server.issue(service)

        def derive() -> ValetKey:
            made = server.manage("POST", f"/keys/{root.id}/derive", {"terms": {"endpoints": ["GET /a"]}})
            return ValetKey(made["id"], made["key"])

        def code(key: ValetKey) -> str | None:
            return server.call("GET", f"/{service}/a", key).code

        child, sibling = derive(), derive()
        assert [code(key) for key in (child, sibling)] == ["VALID", "VALID"]
        server.stop_key(child)
        assert code(child) == "REVOKED", "for an hour its holder is told so"
        server.stop()
        with sqlite3.connect(server.home / "valetkey.db") as database:
            database.execute("UPDATE keys SET ended = ended - 3601 WHERE id = ?", (child.id,))
        server.start()
        eventually(lambda: code(child) == "UNKNOWN_KEY", 20)
        asked = {"method": "GET", "path": "/a", "address": "127.0.0.1"}
        assert server.manage("POST", f"/keys/{child.id}/check", asked)["code"] == "UNKNOWN_KEY"
        shown = server.manage("GET", f"/keys/{child.id}")
        assert shown["state"] == "revoked" and shown["dropped"] > shown["ended"]
        assert [code(key) for key in (root, sibling, derive())] == ["VALID", "VALID", "VALID"]
