"""Limits that begin are never left shut, nor let go without what was used, whatever fails on the way."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from one_process import OneProcess
from valetkey.decision.counter_layout import QUOTAS
from valetkey.journal.errors import JournalFailed
from valetkey.journal.segment import SegmentWriter
from valetkey.keys.drafting import Terms
from valetkey.keys.operations import ChangeKey, IssueKey, change_key, issue_key
from valetkey.server.home import Home
from valetkey.services.operations import AddService, add_service
from valetkey.store.engine import Store, StoreError
from valetkey.vault.operations import SetSecret, set_secret

DAY = QUOTAS + 1
LIMITED = Terms(quotas=("5/day",))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OneProcess:
    monkeypatch.setenv("VALETKEY_ROOT_KEY_FILE", str(tmp_path / "root.key"))
    home = Home(tmp_path / "home")
    home.prepare()
    made = OneProcess(home)
    made.perform(
        add_service, AddService("shop", base_url="http://127.0.0.1:1", auth="bearer", allow_private=True)
    )
    made.perform(set_secret, SetSecret("shop", "secret-of-the-shop"))
    return made


def used_key(server: OneProcess) -> Any:
    """A key without quota that has been used twice."""
    key = server.perform(issue_key, IssueKey("shop", holder="ana"))
    assert [server.call(key.key, "/shop/a")[1] for _ in range(2)] == ["VALID", "VALID"]
    return key


def counted(server: OneProcess) -> int:
    """Calls that the only counter of a day which counts any has counted."""
    blocks = range(64)
    return max(server.counters.read(block)[DAY] & ((1 << 44) - 1) for block in blocks)


def test_what_was_held_for_an_action_that_fails_at_its_commit_is_let_go(server: OneProcess) -> None:
    key = used_key(server)
    write = Store.write

    def full(self: Store) -> Any:
        return _FailsAtItsEnd(write(self))

    with mock.patch.object(Store, "write", full), pytest.raises(StoreError):
        server.perform(change_key, ChangeKey(key.id, terms=LIMITED))
    assert server.counters.held() != [], "it was held when the commit failed"
    server.run(server.counting.lift_held())
    assert server.counters.held() == []


class _FailsAtItsEnd:
    """A transaction that the disk does not take."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __enter__(self) -> Any:
        return self._inner.__enter__()

    def __exit__(self, *_: object) -> None:
        error = StoreError("The disk is full.", "Free space.")
        try:
            self._inner.__exit__(StoreError, error, None)
        except StoreError:
            pass
        raise error


def test_a_limit_is_not_let_go_while_what_was_used_cannot_be_stored(server: OneProcess) -> None:
    key = used_key(server)
    failed = property(lambda segment: "control" in segment.name)
    with mock.patch.object(SegmentWriter, "failed", failed):
        with pytest.raises(JournalFailed):
            server.run(server.recorder.catch_up())
        server.perform(change_key, ChangeKey(key.id, terms=LIMITED))
        assert server.counters.held() != [], "it stays shut"
    server.run(server.counting.lift_held())
    assert server.counters.held() == []
    assert counted(server) == 2


def test_whoever_hangs_up_does_not_keep_a_change_from_being_in_force(server: OneProcess) -> None:
    key = used_key(server)

    async def hang_up() -> None:
        asking = asyncio.ensure_future(
            server.desk.perform(change_key, ChangeKey(key.id, terms=LIMITED), server.desk.local_owner())
        )
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others)

    server.run(hang_up())
    assert server.counters.held() == []
    assert counted(server) == 2
