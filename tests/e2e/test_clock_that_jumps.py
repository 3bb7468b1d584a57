"""A clock set forward and back under a serving server: nothing that had ended or was used up comes back."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bad_days import assert_harmless, assert_proved, command, findings, start_unready, told
from running_server import RunningServer, ValetKey, eventually
from shifted_clock import ShiftedClock
from standins.raw_upstream import RawUpstream

pytestmark = pytest.mark.real

HOUR, DAY = 3_600.0, 86_400.0


def latched(server: RunningServer, key: ValetKey) -> bool:
    """Whether the key's end is final, whatever the clock says later."""
    with closing(sqlite3.connect(server.home / "valetkey.db")) as database:
        row = database.execute("SELECT ended FROM keys WHERE id = ?", (key.id,)).fetchone()
    return row[0] is not None


def test_a_clock_set_forward_and_back_opens_nothing_again(tmp_path: Path) -> None:
    clock = ShiftedClock(tmp_path)
    with RunningServer(environment=clock.environment) as server, RawUpstream() as upstream:
        service = server.open_service("secret-of-jumps", base_url=upstream.url)
        short = server.issue(service, expires="2h")
        counted = server.issue(service, quotas=["3/month"], uses=1000)

        def code(key: object) -> str:
            return server.call("GET", f"/{service}/now", key).code  # type: ignore[arg-type]

        assert [code(short), code(counted)] == ["VALID", "VALID"]

        # A little back: clocks are set right all the time.
        clock.set(-30)
        assert [code(counted), code(counted)] == ["VALID", "VALID"]

        clock.set(3 * HOUR)
        eventually(lambda: code(short) == "EXPIRED")
        # Latched in the database before the clock goes back, and a record made under the later time.
        eventually(
            lambda: (
                latched(server, short) and any(event["code"] == "EXPIRED" for event in server.events(short))
            )
        )
        assert_proved(server)

        clock.set(0)
        eventually(lambda: code(counted) == "NOT_READY")
        assert told(server.gateway_port) == (503, {"status": "not ready", "missing": ["clock behind"]})
        status, answer = told(server.control_port)
        assert (status, answer["missing"]) == (503, ["clock behind"])
        assert findings(server)["clock-behind"]["severity"] == "serious"
        assert "valetkey clock accept" in server.status()["missing"][0]
        # Management works, and so does taking back.
        assert server.stop_key(server.issue(service))["acknowledged"] == 1

        server.manage("POST", "/clock/accept", {})
        assert code(short) == "EXPIRED", "what had ended stays ended"
        assert code(counted) == "QUOTA_EXCEEDED", "what was used up stays used up"
        assert code(server.issue(service)) == "VALID"
        assert_proved(server)
        server.stop()
        server.start()
        assert [code(short), code(counted)] == ["EXPIRED", "QUOTA_EXCEEDED"]
        assert_proved(server)
        assert_harmless(server, server.errors)


def test_a_moment_in_the_future_is_enough_for_every_worker_to_know_that_the_clock_is_behind(
    tmp_path: Path,
) -> None:
    clock = ShiftedClock(tmp_path)
    with RunningServer(workers=2, environment=clock.environment) as server, RawUpstream() as upstream:
        service = server.open_service("secret-of-a-moment", base_url=upstream.url)
        key = server.issue(service)
        clock.set(DAY)
        # Recorded by one worker, sooner than any of them looks at the clock by itself.
        assert server.call("GET", f"/{service}/now", key).code == "VALID"
        clock.set(0)
        eventually(
            lambda: {server.call("GET", f"/{service}/now", key).code for _ in range(8)} == {"NOT_READY"}
        )


def test_a_clock_that_was_ahead_at_an_earlier_start_leaves_a_record_that_is_proven(tmp_path: Path) -> None:
    clock = ShiftedClock(tmp_path)
    clock.set(3 * HOUR)
    with RunningServer(environment=clock.environment) as server, RawUpstream() as upstream:
        service = server.open_service("secret-of-starts", base_url=upstream.url)
        key = server.issue(service)
        assert server.call("GET", f"/{service}/ahead", key).code == "VALID"
        assert_proved(server)
        server.stop()

        clock.set(0)
        start_unready(server)
        server.manage("POST", "/clock/accept", {})
        for path in ("first", "second"):
            eventually(lambda path=path: server.call("GET", f"/{service}/{path}", key).code == "VALID")
            assert_proved(server)
            server.stop()
            assert "broken" not in command(server, "audit", "verify", code=0).out
            server.start()
        assert_proved(server)
        # Newest first by the clock they were made under, each once.
        events = [event for event in server.events(key, limit=1) if event["code"] == "VALID"]
        assert [event["path"].rsplit("/", 1)[1] for event in events] == ["ahead", "second", "first"]
        assert_harmless(server, server.errors)
