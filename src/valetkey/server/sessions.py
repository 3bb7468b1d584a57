"""Keys that are tied to a process end when it does, whoever ended it, and at the start where it is gone."""

from __future__ import annotations

import asyncio
import os

from valetkey.access.actor import SYSTEM
from valetkey.access.operation import Frame
from valetkey.access.sessions import process_of
from valetkey.errors import ValetkeyError
from valetkey.keys.sessions import Session, end_session, living_sessions
from valetkey.log import note_failure
from valetkey.server.desk import Desk
from valetkey.server.own_accord import perform_each
from valetkey.store.engine import StoreError

LOOK_SECONDS = 0.5
"""How often it is looked for keys that are tied to a process since, and for its end where the kernel does not tell."""


def end_gone_sessions(frame: Frame) -> None:
    """At the start, before any worker is told of a key."""
    with frame.store.read() as connection:
        sessions = living_sessions(connection, frame.workspace)
    for session in sessions:
        process = process_of(session)
        if process is not None and not process.lives:
            frame.perform(end_session, Session(session), SYSTEM)


class SessionWatch:
    """Waits for the ends of processes."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._told = asyncio.Event()
        self._open: dict[str, int | None] = {}
        """Session -> descriptor of its process, None where there is none."""

    async def run(self) -> None:
        """For as long as the server runs."""
        try:
            while True:
                self._told.clear()
                try:
                    await self._look()
                except (ValetkeyError, StoreError) as error:
                    note_failure(error)  # it is looked again
                try:
                    await asyncio.wait_for(self._told.wait(), LOOK_SECONDS)
                except TimeoutError:
                    pass
        finally:
            for session in list(self._open):
                self._close(session)

    async def _look(self) -> None:
        desk = self._desk
        living = await desk.read(lambda connection: living_sessions(connection, desk.workspace))
        for session in self._open.keys() - set(living):
            self._close(session)
        over = []
        for session in living:
            process = process_of(session)
            if process is None:
                continue
            if session not in self._open:
                descriptor = self._open[session] = process.open()
                if descriptor is not None:
                    asyncio.get_running_loop().add_reader(descriptor, self._ended, session)
            if not process.lives:
                self._close(session)
                over.append(Session(session))
        await perform_each(desk, end_session, over)

    def _ended(self, session: str) -> None:
        self._close(session)
        self._told.set()

    def _close(self, session: str) -> None:
        descriptor = self._open.pop(session, None)
        if descriptor is not None:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)
