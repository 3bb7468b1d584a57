"""What sticky keys are pinned to, in counters and database: also of dropped keys, and of very many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from sqlalchemy import insert, select

from doors_world import OWNER, WALL, open_frame
from one_process import OneProcess
from valetkey.access.actor import SYSTEM, Actor, ActorKind
from valetkey.access.operation import Frame
from valetkey.access.sessions import token_session
from valetkey.decision.address import parse_place
from valetkey.decision.policy import State
from valetkey.gateway.counters_file import CountersUnavailable
from valetkey.gateway.counters_keeping import KeptCounters
from valetkey.gateway.facts import KeyFact
from valetkey.journal.actions import AuditAction
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
from valetkey.keys.tokens import IssueToken, TokenName, issue_token, revoke_token
from valetkey.server import main
from valetkey.server.ending import clean_counters
from valetkey.server.home import Home
from valetkey.server.noticing import Noticing
from valetkey.server.pinning import AT_ONCE, take_up_pins
from valetkey.server.watched import WatchedTasks
from valetkey.services.operations import AddService, add_service
from valetkey.store import tables

PLACE = "203.0.113.7"
MANY = 1_000


class World:
    """A database and counters, whose time is told."""

    def __init__(self, folder: Path) -> None:
        self.wall = float(WALL)
        self.frame: Frame = open_frame(folder)
        self.frame.wall = lambda: self.wall
        self.counters = KeptCounters.open(folder / "counters")
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
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OneProcess]:
    """One with a service."""
    monkeypatch.setenv("VALETKEY_ROOT_KEY_FILE", str(tmp_path / "root.key"))
    main.init(Home(tmp_path / "home"))
    made = OneProcess(Home(tmp_path / "home"))
    made.perform(add_service, AddService("shop", own=True))
    yield made
    made.close()


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
    server: OneProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_id = server.perform(issue_key, IssueKey("shop", holder="ana", terms=Terms(sticky=True))).id
    told: list[Any] = []
    monkeypatch.setattr(server.desk._workers, "send", lambda facts, **how: told.extend(facts) or [])
    failing = mock.patch.object(server.counters, "pin", side_effect=CountersUnavailable("They are gone."))
    with failing, pytest.raises(CountersUnavailable):
        server.perform(revoke_key, KeyName(key_id))
    (state,) = [fact.state for fact in told if isinstance(fact, KeyFact)]
    assert state == State.REVOKED


def add_alike(server: OneProcess, ids: list[str]) -> None:
    """Sticky keys that were just used."""
    issued = server.perform(issue_key, IssueKey("shop", holder="ana", label="s", terms=Terms(sticky=True)))
    keys = tables.keys
    with server.frame.store.write() as connection:
        row = dict(connection.execute(select(keys).where(keys.c.id == issued.id)).mappings().one())
        rows = [
            row
            | {
                "service_fingerprint": None,
                "id": key_id,
                "fingerprint": key_id.encode(),
                "block": row["block"] + number,
            }
            for number, key_id in enumerate(ids, 1)
        ]
        connection.execute(insert(keys), rows)
    for made in rows:
        server.counters.pin(made["block"], parse_place(PLACE))


def test_a_change_waits_for_one_batch_of_pins_however_many_there_are(server: OneProcess) -> None:
    victim = server.perform(issue_key, IssueKey("shop", holder="ana")).id
    ids = [f"key_{number:04}" for number in range(MANY)]
    add_alike(server, ids)
    noted: list[str] = []

    async def run() -> None:
        begun = asyncio.Event()

        def note(key_id: str) -> None:
            noted.append(key_id)
            begun.set()

        noticing = Noticing(WatchedTasks())
        noticing.desk = server.desk
        for _ in range(2):  # as two workers say it, or one twice
            for key_id in ids:
                noticing.pinned(key_id, partial(note, key_id))
        await begun.wait()
        await server.desk.perform(revoke_key, KeyName(victim), OWNER)
        while len(noted) < MANY:
            await asyncio.sleep(0.01)

    server.run(asyncio.wait_for(run(), 60))
    assert noted == ids
    audit = tables.audit
    with server.frame.store.read() as connection:
        entries = connection.execute(select(audit.c.action, audit.c.subject).order_by(audit.c.seq)).all()
        pinned = (
            connection.execute(select(tables.keys.c.pinned).where(tables.keys.c.id.in_(ids))).scalars().all()
        )
    subjects = [subject for action, subject in entries if action == AuditAction.KEY_PIN]
    assert sorted(subjects) == sorted(f"key:{key_id}" for key_id in ids), "once each"
    assert pinned == [PLACE] * MANY
    revoked = [action for action, _ in entries].index(AuditAction.KEY_REVOKE)
    before = [action for action, _ in entries[:revoked]].count(AuditAction.KEY_PIN)
    assert before <= 2 * AT_ONCE < MANY, "those written before it was asked for, and the batch in hand"
