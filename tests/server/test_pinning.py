"""What sticky keys are pinned to, in counters and database: also of dropped keys, and of very many at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from doors_world import OWNER, WALL, open_frame
from one_process import OneProcess
from valetkey.access.actor import SYSTEM, Actor, ActorKind
from valetkey.access.operation import Frame
from valetkey.access.sessions import token_session
from valetkey.decision.policy import State
from valetkey.gateway.counters import CountersUnavailable, SharedCounters
from valetkey.gateway.facts import KeyFact
from valetkey.keys.derivation import DeriveKey, derive_key
from valetkey.keys.drafting import Terms
from valetkey.keys.dropping import drop_dead
from valetkey.keys.operations import (
    IssueKey,
    KeyName,
    PinKey,
    issue_key,
    latch_expired,
    pin_key,
    revoke_key,
)
from valetkey.keys.queries import get_key
from valetkey.parties.tokens import IssueToken, TokenName, issue_token, revoke_token
from valetkey.server import main
from valetkey.server.ending import clean_counters
from valetkey.server.home import Home
from valetkey.server.pinning import take_up_pins
from valetkey.services.operations import AddService, add_service

PLACE = "203.0.113.7"


class World:
    """A database and counters, whose time is told."""

    def __init__(self, folder: Path) -> None:
        self.wall = float(WALL)
        self.frame: Frame = open_frame(folder)
        self.frame.wall = lambda: self.wall
        self.counters = SharedCounters.open(folder / "counters")
        self.frame.perform(add_service, AddService("shop", own=True), OWNER)
        self.parent = self.frame.perform(issue_key, IssueKey("shop", holder="ana"), OWNER).answer.id

    def derive(self, actor: Actor = OWNER, *, with_session: bool = False) -> str:
        """A sticky key for an hour."""
        asked = DeriveKey(id=self.parent, expires="1h", with_session=with_session, terms=Terms(sticky=True))
        made: str = self.frame.perform(derive_key, asked, actor).answer.id
        return made

    def give_up_dead(self) -> None:
        """An hour passes, and another, and another: keys end, are dropped, and lose their counters."""
        for hours in (1.01, 2.02, 3.03):
            self.wall = WALL + hours * 3_600
            with self.frame.store.write() as connection:
                latch_expired(connection, self.frame.workspace, self.wall)
            clean_counters(self.frame.store, self.counters, self.wall)
            with self.frame.store.write() as connection:
                drop_dead(connection, self.frame.workspace, self.wall)

    def pinned(self, key_id: str) -> str | None:
        with self.frame.store.read() as connection:
            return get_key(connection, self.frame.workspace, key_id).pinned


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.frame.store.close()


def test_a_key_without_counters_has_no_pin_and_hinders_no_start(world: World) -> None:
    pinned, never_used = world.derive(), world.derive()
    world.frame.perform(pin_key, PinKey(pinned, PLACE), SYSTEM)
    world.give_up_dead()
    assert world.pinned(pinned) is None
    take_up_pins(world.frame, world.counters)
    for key_id in (pinned, never_used):
        assert world.frame.perform(revoke_key, KeyName(key_id), OWNER).unpinned == ()


def test_a_token_whose_sticky_key_was_dropped_can_be_revoked(world: World) -> None:
    token = world.frame.perform(issue_token, IssueToken("ana"), OWNER).answer.id
    bearer = Actor(ActorKind.TOKEN, "ana", token_session(token))
    key_id = world.derive(bearer, with_session=True)
    world.frame.perform(pin_key, PinKey(key_id, PLACE), SYSTEM)
    world.give_up_dead()
    done = world.frame.perform(revoke_token, TokenName(token), OWNER)
    assert ("key", key_id) in done.changed
    assert done.unpinned == ()


def test_a_key_whose_counters_fail_is_revoked_in_every_worker_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VALETKEY_ROOT_KEY_FILE", str(tmp_path / "root.key"))
    home = Home(tmp_path / "home")
    main.init(home)
    server = OneProcess(home)
    server.perform(add_service, AddService("shop", own=True))
    key_id = server.perform(issue_key, IssueKey("shop", holder="ana", terms=Terms(sticky=True))).id
    told: list[Any] = []
    monkeypatch.setattr(server.desk._workers, "send", lambda facts, **how: told.extend(facts) or [])
    failing = mock.patch.object(server.counters, "pin", side_effect=CountersUnavailable("They are gone."))
    with failing, pytest.raises(CountersUnavailable):
        server.perform(revoke_key, KeyName(key_id))
    (state,) = [fact.state for fact in told if isinstance(fact, KeyFact)]
    assert state == State.REVOKED
    server.close()
