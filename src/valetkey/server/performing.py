"""Performs operations: one transaction, and what it changed in force in every worker before there is an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
from sqlalchemy import Connection

from valetkey.access.actor import Actor
from valetkey.access.operation import Begun, Frame, Operation, Unit
from valetkey.gateway.counters_keeping import KeptCounters
from valetkey.server.counting import Counting
from valetkey.server.facts import FactLoader
from valetkey.server.record import Recorder
from valetkey.server.replays import Replays
from valetkey.server.workers import Settled, Workers


class InForce(msgspec.Struct, frozen=True):
    """What an operation answered, and how it was put in force."""

    answer: Any
    acknowledged: int
    fenced: int
    cut: int


class Performer:
    """One action after the other, in the one thread that writes."""

    def __init__(
        self,
        *,
        frame: Frame,
        loader: FactLoader,
        workers: Workers,
        recorder: Recorder,
        counters: KeptCounters,
        counting: Counting,
        replays: Replays,
        writer: ThreadPoolExecutor,
    ) -> None:
        self._frame = frame
        self._loader = loader
        self._workers = workers
        self._recorder = recorder
        self._counters = counters
        self._counting = counting
        self._replays = replays
        self._writer = writer

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
        # Whoever hangs up meanwhile does not keep what is committed from being in force.
        return await asyncio.shield(self._carry_out(operation, request, actor, let_finish, replay_token))

    async def _carry_out(
        self,
        operation: Operation[Any, Any],
        request: Any,
        actor: Actor,
        let_finish: bool,
        replay_token: str | None,
    ) -> InForce:
        loop = asyncio.get_running_loop()
        async with self._workers.joining:
            answer, facts, begun, failed = await loop.run_in_executor(
                self._writer, self._perform, operation, request, actor, replay_token
            )
            # None: done before, so that it waits behind that first sending, which may not be in force yet.
            sent = [] if facts == [] else self._workers.send(facts or [], let_finish=let_finish)
        self._recorder.wake()
        settled = await self._workers.settle(sent) if sent else Settled(0, 0, 0)
        if begun:
            await self._counting.lift(begun)
        if failed is not None:
            raise failed
        return InForce(answer, settled.acknowledged, settled.fenced, settled.cut)

    async def spread(self, change: Callable[[Connection], list[tuple[str, str]]]) -> int:
        """Change rows of one's own accord, and tell every worker; how many rows changed."""

        def run() -> tuple[int, list[Any]]:
            with self._frame.store.write() as connection:
                changed = change(connection)
                return len(changed), self._loader.changed(connection, changed) if changed else []

        async with self._workers.joining:
            number, facts = await asyncio.get_running_loop().run_in_executor(self._writer, run)
            sent = self._workers.send(facts) if facts else []
        await self._workers.settle(sent)
        return number

    def _perform(
        self, operation: Operation[Any, Any], request: Any, actor: Actor, replay_token: str | None
    ) -> tuple[Any, list[Any] | None, tuple[Begun, ...], Exception | None]:
        """The answer, what workers are to be told (None where it was done before), limits that began, and what went
        wrong after all of it stood."""
        if replay_token is not None:
            with self._frame.store.read() as connection:
                answer = self._replays.find(connection, operation, request, actor, replay_token)
            if answer is not None:
                return answer, None, (), None
        facts: list[Any] = []

        def in_the_end(unit: Unit, answer: Any) -> None:
            # In the action's own transaction: what is committed can also be told to the workers.
            facts.extend(self._loader.changed(unit.connection, unit.changed))
            self._counting.hold(unit.begun, unit.wall)
            if replay_token is not None:
                self._replays.remember(unit.connection, operation, request, actor, replay_token, answer)

        environment = getattr(request, "environment", "production")
        try:
            performed = self._frame.perform(operation, request, actor, environment, in_the_end=in_the_end)
        except BaseException:
            # What was held for an action that is not committed belongs to nobody, or to whoever comes next.
            self._counting.look_for_held()
            raise
        # Dying before this leaves the pin, which is then taken up again: nobody was told that it is gone.
        failed = None
        for block in performed.unpinned:
            try:
                self._counters.pin(block, None)
            except Exception as error:  # raised once workers know what was committed
                failed = error
        return performed.answer, facts, performed.begun, failed
