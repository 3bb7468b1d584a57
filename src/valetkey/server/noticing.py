"""What workers say of keys and ask for, done beside: what it waits for may be the worker that said it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import islice

from valetkey.access.actor import SYSTEM
from valetkey.errors import ValetkeyError
from valetkey.keys.operations import KeyName, expose_key
from valetkey.keys.queries import get_key
from valetkey.keys.unreceived import abandon_key
from valetkey.log import note_failure
from valetkey.server.deriving import derive_with_key
from valetkey.server.desk import Desk
from valetkey.server.own_accord import perform_each
from valetkey.server.pinning import AT_ONCE
from valetkey.server.watched import WatchedTasks
from valetkey.store.engine import StoreError

ABANDON_SECONDS = 2.0
"""How often it is looked whether keys were derived that nobody received."""


class Noticing:
    """Hears workers for the desk. Until there is one, it hears nothing: what is not noted is said again."""

    def __init__(self, tasks: WatchedTasks) -> None:
        self._tasks = tasks
        self.desk: Desk | None = None
        self._exposing: set[str] = set()
        """Keys whose exposure is being written down."""
        self._pinning: dict[str, Callable[[], None]] = {}
        """Keys whose pins are being written down, and whom to tell."""

    def exposed(self, key_id: str, noted: Callable[[], None]) -> None:
        """A key came in plain text."""
        if key_id not in self._exposing and self.desk is not None:
            self._exposing.add(key_id)
            self._tasks.start(self._note_exposed(self.desk, key_id, noted), may_end=True)

    async def _note_exposed(self, desk: Desk, key_id: str, noted: Callable[[], None]) -> None:
        try:
            key = await desk.read(lambda connection: get_key(connection, desk.workspace, key_id))
            if key.exposed is None:
                await desk.perform(expose_key, KeyName(key_id), SYSTEM)
            noted()
        except (ValetkeyError, StoreError) as error:
            note_failure(error)  # it is said again
        finally:
            self._exposing.discard(key_id)

    def pinned(self, key_id: str, noted: Callable[[], None]) -> None:
        """A key was pinned by its first call."""
        if self.desk is not None:
            if not self._pinning:
                self._tasks.start(self._note_pins(self.desk), may_end=True)
            self._pinning[key_id] = noted

    async def _note_pins(self, desk: Desk) -> None:
        """A batch after the other: whatever else is to be written comes between, however many pins there are."""
        while some := dict(islice(self._pinning.items(), AT_ONCE)):
            try:
                await desk.note_pins(list(some))
                for noted in some.values():
                    noted()
            except (ValetkeyError, StoreError) as error:
                note_failure(error)  # they are said again
            for key_id in some:
                del self._pinning[key_id]

    def derive(self, key_id: str, call: str, body: bytes, answer: Callable[[int, bytes], None]) -> None:
        """A key's holder asks for one derived from it."""

        async def derive(desk: Desk) -> None:
            answer(*await derive_with_key(desk, key_id, call, body))

        if self.desk is not None:
            self._tasks.start(derive(self.desk), may_end=True)

    async def abandon(self, desk: Desk, unreceived: Callable[[], Awaitable[list[str]]]) -> None:
        """Look again and again for keys that were derived and that nobody received."""
        while True:
            await asyncio.sleep(ABANDON_SECONDS)
            try:
                await perform_each(desk, abandon_key, map(KeyName, await unreceived()))
            except (ValetkeyError, StoreError) as error:
                note_failure(error)  # it is tried again
