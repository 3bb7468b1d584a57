"""A request that is sent again with its idempotency key: answered like the first, and no sooner than it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from one_process import OneProcess
from valetkey.access import permissions
from valetkey.access.actor import Actor, ActorKind
from valetkey.errors import Conflict, NotPermitted
from valetkey.journal.actions import AuditAction
from valetkey.parties.operations import AddParty, PartyKind, add_party
from valetkey.server.home import Home
from valetkey.server.replays import REPLAY_SECONDS, Replays
from valetkey.store import tables

BOB = AddParty("bob", PartyKind.PERSON)
PROGRAM = Actor(ActorKind.TOKEN, "program")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OneProcess]:
    monkeypatch.setenv("VALETKEY_ROOT_KEY_FILE", str(tmp_path / "root.key"))
    home = Home(tmp_path / "home")
    home.prepare()
    server = OneProcess(home)
    yield server
    server.close()


async def add_bob(server: OneProcess, actor: Actor = PROGRAM) -> Any:
    return await server.desk.perform(add_party, BOB, actor, replay_token="one-word")


def test_what_is_sent_again_waits_until_its_first_sending_is_in_force(server: OneProcess) -> None:
    async def run() -> None:
        workers = server.desk._workers
        workers.alive(7, 1)
        first = asyncio.ensure_future(add_bob(server))
        while not workers.known[7].waiting:
            await asyncio.sleep(0)
        again = asyncio.ensure_future(add_bob(server))
        done, _ = await asyncio.wait((again,), timeout=0.3)
        assert not done, "a worker has not heard of the first"
        workers.died(7, 1)
        assert (await first).answer.id == (await again).answer["id"]

    server.run(run())


def test_who_may_not_do_it_any_more_is_not_told_what_was_answered(
    server: OneProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.run(add_bob(server))
    monkeypatch.setattr(permissions, "_LOCAL_ONLY", frozenset({AuditAction.PARTY_ADD}))
    with pytest.raises(NotPermitted):
        server.run(add_bob(server))
    assert server.run(server.desk.audit_list())["items"][0]["outcome"] == "refused"


def test_an_idempotency_key_is_forgotten_after_a_day_and_no_sooner(server: OneProcess) -> None:
    begun, wall = 1_790_000_000.0, [1_790_000_000.0]
    replays = Replays(server.frame.workspace, server.index_key, lambda: wall[0])
    store, carol = server.frame.store, msgspec.structs.replace(BOB, name="carol")

    def find(request: AddParty = BOB) -> Any:
        with store.read() as connection:
            return replays.find(connection, add_party, request, PROGRAM, "one-word")

    def remember(request: AddParty, token: str = "one-word") -> None:
        with store.write() as connection:
            replays.remember(connection, add_party, request, PROGRAM, token, {"name": request.name})

    remember(BOB)
    wall[0] = begun + REPLAY_SECONDS - 1
    assert find() == {"name": "bob", "replayed": True}
    with pytest.raises(Conflict):
        find(carol)
    wall[0] = begun + REPLAY_SECONDS
    assert find() is None and find(carol) is None
    remember(carol)
    assert find(carol) == {"name": "carol", "replayed": True}, "its place is free for another request"
    with store.read() as connection:
        assert len(connection.execute(tables.replays.select()).all()) == 1, "what is over is not kept"
    assert REPLAY_SECONDS == 24 * 3600
