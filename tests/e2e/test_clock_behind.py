"""A clock behind the newest record: refused until an administrator vouches for it, and in force at once."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

import msgspec
import pytest

from bad_days import start_unready
from running_server import Refused, RunningServer
from standins.raw_upstream import RawUpstream

pytestmark = pytest.mark.real

TOMORROW = 86_400.0


def test_a_clock_set_back_is_refused_until_it_is_accepted() -> None:
    with RunningServer(workers=2) as server, RawUpstream() as upstream:
        service = server.open_service("secret-of-time", base_url=upstream.url)
        key = server.issue(service, quotas=["10/day"])
        assert server.call("GET", f"/{service}/a", key).code == "VALID"
        server.stop()
        # As after a day on which the clock ran ahead: what was stored with the records read then.
        ahead = time.time() + TOMORROW
        with closing(sqlite3.connect(server.home / "valetkey.db")) as database, database:
            stored = msgspec.json.encode({"time": ahead, "accepted": None}).decode()
            database.execute("UPDATE meta SET value = ? WHERE name = 'newest_record'", (stored,))
        start_unready(server)

        refused = server.call("GET", f"/{service}/a", key)
        assert (refused.status, refused.code) == (503, "NOT_READY")
        assert any("valetkey clock accept" in what for what in server.status()["missing"])
        answer = server.manage("POST", "/clock/accept", {})
        assert (answer["acknowledged"], answer["fenced"]) == (2, 0)
        assert abs(answer["now"] - time.time()) < 60
        for _ in range(8):
            assert server.call("GET", f"/{service}/a", key).code == "VALID"
        assert server.status()["missing"] == []
        entry = next(e for e in server.manage("GET", "/audit")["items"] if e["action"] == "clock:accept")
        assert entry["details"]["newest"] == pytest.approx(ahead)

        server.stop()
        server.start()
        assert server.call("GET", f"/{service}/a", key).code == "VALID"
        assert server.call("GET", f"/{service}/a", key).code == "QUOTA_EXCEEDED"
        with pytest.raises(Refused, match="404"):
            server.manage("POST", "/clock", {})
