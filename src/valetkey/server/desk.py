"""Where all doors of the control process meet: perform an operation, read, check a key, prove the journal.

An answer is given when what it says is true everywhere: every worker has acknowledged, or is dead.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection

from valetkey.access.actor import SYSTEM, Actor, ActorKind
from valetkey.access.clock import AcceptClock, accept_clock
from valetkey.access.operation import Frame, Operation
from valetkey.decision.call import Now
from valetkey.doctor.findings import Report
from valetkey.errors import Invalid, NotPermitted
from valetkey.gateway.counters_keeping import KeptCounters
from valetkey.journal.errors import BadCursor
from valetkey.journal.event import EventFilter
from valetkey.journal.follow import Follower
from valetkey.journal.read import events
from valetkey.keys.checking import CheckedKey, CheckKey
from valetkey.keys.queries import KeyView, find_key
from valetkey.keys.tokens import actor_of_token
from valetkey.parties.erasure import EraseFields, ask_erasure
from valetkey.server.checking import check_key
from valetkey.server.counting import Counting
from valetkey.server.erasing import Erased, Eraser, holds_older
from valetkey.server.examining import examine_serving
from valetkey.server.facts import FactLoader
from valetkey.server.home import Home
from valetkey.server.housekeeping import Housekeeping
from valetkey.server.performing import InForce, Performer
from valetkey.server.pinning import note_pins
from valetkey.server.record import Recorder
from valetkey.server.replays import Replays
from valetkey.server.rewrapping import NewRootKey, rewrap_home
from valetkey.server.status import status
from valetkey.server.usage import read_audit, read_usage
from valetkey.server.workers import Workers
from valetkey.settings import Settings
from valetkey.vault.keyring import INDEX
from valetkey.vault.rewrapping import Rewrap, Rewrapped, rewrap_vault

Answer = TypeVar("Answer")
FOLLOW_SECONDS = 0.2
"""How often a follower looks for new events; `events` shows a call within a second."""


class Desk:
    """The one who is asked."""

    def __init__(
        self,
        *,
        home: Home,
        settings: Settings,
        frame: Frame,
        loader: FactLoader,
        workers: Workers,
        recorder: Recorder,
        counters: KeptCounters,
        counting: Counting,
        writer: ThreadPoolExecutor,
    ) -> None:
        self.home = home
        self.settings = settings
        self.workspace = frame.workspace
        self._frame = frame
        self._loader = loader
        self._workers = workers
        self._recorder = recorder
        self._counters = counters
        self._counting = counting
        self._writer = writer
        self._rewrapping = asyncio.Lock()
        self.eraser = Eraser(frame.store, frame.workspace, recorder, writer, frame.wall, counters)
        self._owner = Actor(ActorKind.LOCAL_OWNER, home.owner_name())
        with frame.store.read() as connection:
            self._index_key = frame.keyring.key(connection, INDEX)
        self._performer = Performer(
            frame=frame,
            loader=loader,
            workers=workers,
            recorder=recorder,
            counters=counters,
            counting=counting,
            replays=Replays(frame.workspace, self._index_key, frame.wall),
            writer=writer,
        )
        self.housekeeping = Housekeeping(frame, self._performer, recorder, counters, writer)

    # -- writing

    async def perform(
        self,
        operation: Operation[Any, Any],
        request: Any,
        actor: Actor,
        *,
        let_finish: bool = False,
        replay_token: str | None = None,
    ) -> InForce:
        """Do it, record it, put it in force everywhere. Raises `ValetkeyError`."""
        return await self._performer.perform(
            operation, request, actor, let_finish=let_finish, replay_token=replay_token
        )

    async def accept_clock(self, actor: Actor) -> InForce:
        """The clock is right, whatever records say; in force in every worker when this returns."""
        await self._recorder.catch_up()  # what names a later instant by now is meant, and nothing after it
        outcome = await self.perform(accept_clock, AcceptClock(), actor)
        await self._counting.carry_acceptance()
        await self._recorder.catch_up()
        return outcome

    async def note_pins(self, key_ids: Collection[str]) -> None:
        """Write down what keys are pinned to, by what the counters say now."""
        await asyncio.get_running_loop().run_in_executor(
            self._writer, note_pins, self._frame, self._counters, key_ids
        )
        self._recorder.wake()

    async def rewrap_vault(self, actor: Actor, file: str | None) -> NewRootKey:
        """Seal everything under a new root key; no call waits for it. Raises `Invalid` and `RootKeyRefused`."""

        async def perform(request: Rewrap) -> Rewrapped:
            return (await self.perform(rewrap_vault, request, actor)).answer  # type: ignore[no-any-return]

        async with self._rewrapping:
            in_use = partial(self.read, self._frame.keyring.root_key_id)
            return await rewrap_home(self.home, self.settings, file, in_use, perform)

    async def erase_personal(self, actor: Actor, request: EraseFields, *, thoroughly: bool = True) -> Erased:
        """Erase personal fields; gone from every file when this returns. Raises `ValetkeyError`."""
        asked = await self.perform(ask_erasure, request, actor)
        # Whoever hangs up meanwhile does not stop it.
        return await asyncio.shield(self.eraser.carry_out(asked.answer, thoroughly=thoroughly))

    async def erase_older(self, days: int) -> None:
        """Erase personal fields that are past their time, if there are any."""
        before = self._frame.wall() - days * 86_400
        if await asyncio.to_thread(holds_older, self.home.journal, self._frame.store, before):
            await self.erase_personal(SYSTEM, EraseFields(older_than=f"{days}d"), thoroughly=False)

    # -- reading

    async def read(self, query: Callable[[Connection], Answer]) -> Answer:
        """Run a query on a consistent view, in a thread."""

        def run() -> Answer:
            with self._frame.store.read() as connection:
                return query(connection)

        return await asyncio.to_thread(run)

    async def check_key(self, request: CheckKey) -> CheckedKey:
        """What the key would be answered, without spending."""
        now = Now(self._frame.wall(), time.monotonic_ns())

        def run(connection: Connection) -> CheckedKey:
            return check_key(connection, self.workspace, self._loader, self._counters, request, now)

        return await self.read(run)

    async def find_key(self, value: bytes) -> KeyView:
        """The key with this value, dead ones too. Raises `NotFound` and `Invalid`."""
        return await self.read(
            lambda c: find_key(c, self.workspace, self._index_key, value, self._frame.wall())
        )

    async def events(
        self,
        *,
        key: str | None = None,
        service: str | None = None,
        code: str | None = None,
        since: float | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """A page of events, newest first. Raises `Invalid` for a cursor that is none."""
        wanted = EventFilter(key_id=key, service=service, code=code, since=since)
        try:
            page = await asyncio.to_thread(
                events, self.home.journal, wanted, limit, cursor, admit=self._recorder.admission
            )
        except BadCursor:
            raise Invalid(
                "That cursor was not given out here.", "Start again without one.", field="cursor"
            ) from None
        return {"items": [msgspec.to_builtins(event) for event in page.items], "next": page.next}

    async def follow(
        self, *, key: str | None = None, service: str | None = None, code: str | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Events from now on, oldest first: whatever comes after this returned is among them."""
        follower = await asyncio.to_thread(
            Follower,
            self.home.journal,
            EventFilter(key_id=key, service=service, code=code),
            admit=self._recorder.admission,
        )
        return _followed(follower)

    async def usage(self, key: str | None = None, hours: int = 24) -> dict[str, Any]:
        """Use of keys, hour by hour."""
        await self._recorder.catch_up()
        return await self.read(lambda c: read_usage(c, self.workspace, key, hours, self._frame.wall()))

    async def audit_list(self, limit: int = 50, cursor: str | None = None) -> dict[str, Any]:
        """A page of management actions, newest first."""
        return await self.read(lambda c: read_audit(c, self.workspace, limit, cursor))

    async def verify_journal(self, actor: Actor, witness: str | None = None) -> dict[str, Any]:
        """Make a checkpoint, then prove everything up to it. A witness's file is read for the local owner only:
        for anyone else it would be a way to ask which files there are. Raises `NotPermitted` and `Invalid`."""
        if witness is not None and actor.kind is not ActorKind.LOCAL_OWNER:
            raise NotPermitted(
                "The file of a witness is read on the machine itself.",
                "Run it there, as the owner of the data folder.",
            )
        return await self._recorder.verify(None if witness is None else Path(witness))

    async def prove_record(self, which: str, *, personal: bool) -> dict[str, Any]:
        """The proof of one call or record, that can be checked without this server. Raises `NotFound`."""
        return await self._recorder.prove_record(which, personal=personal)

    async def examine(self) -> dict[str, Any]:
        """What is weak about this installation."""

        def run() -> Report:
            recorder = self._recorder
            store, problems = self._frame.store, tuple(recorder.problems)
            return examine_serving(
                self.home,
                self.settings,
                store,
                self.workspace,
                recorder.signed_by,
                recorder.admission,
                problems,
                tuple(recorder.witnesses.troubles),
                self._frame.wall(),
            )

        answer: dict[str, Any] = msgspec.to_builtins(await asyncio.to_thread(run))
        return answer

    # -- who asks

    def local_owner(self) -> Actor:
        """Whoever reaches the Unix socket."""
        return self._owner

    async def authenticate(self, token: bytes) -> Actor | None:
        """The bearer of an API token, None when it opens nothing."""
        return await self.read(lambda c: actor_of_token(c, self.workspace, self._index_key, token))

    def status(self) -> dict[str, Any]:
        """How the server is."""
        return status(self.home, self.settings, self._workers, self._recorder, self._frame.wall())


async def _followed(follower: Follower) -> AsyncIterator[dict[str, Any]]:
    try:
        while True:
            for event in await asyncio.to_thread(follower.poll):
                yield msgspec.to_builtins(event)
            await asyncio.sleep(FOLLOW_SECONDS)
    finally:
        follower.close()
