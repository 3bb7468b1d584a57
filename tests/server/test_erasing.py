"""Erasures that were asked for are carried out once, however long that takes."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sqlalchemy import select

from doors_world import OWNER, open_frame
from valetkey.parties.erasure import EraseFields, ask_erasure, erasure_is_done
from valetkey.parties.operations import AddParty, PartyKind, add_party
from valetkey.server.erasing import Eraser
from valetkey.store import tables


class SlowRecorder:
    """Finds seven records of whoever is asked for, once it may go on."""

    def __init__(self) -> None:
        self.runs = 0
        self.may_go_on = asyncio.Event()

    async def erase(self, *, party: str | None, before: float | None) -> int:
        self.runs += 1
        await self.may_go_on.wait()
        return 7 if self.runs == 1 else 0


def test_an_erasure_in_hand_is_not_done_again_by_whoever_looks_for_pending_ones(tmp_path: Path) -> None:
    frame = open_frame(tmp_path)
    frame.perform(add_party, AddParty("bob", PartyKind.PERSON), OWNER)
    asked = frame.perform(ask_erasure, EraseFields(party="bob"), OWNER).answer

    async def run() -> None:
        recorder: Any = SlowRecorder()
        nothing_pinned: Any = None
        writer = ThreadPoolExecutor(1)
        eraser = Eraser(frame.store, frame.workspace, recorder, writer, lambda: 1.0, nothing_pinned)
        carrying = asyncio.ensure_future(eraser.carry_out(asked))
        looking = asyncio.ensure_future(eraser.go_on())
        while not recorder.runs:
            await asyncio.sleep(0)
        await asyncio.wait((looking,), timeout=0.2)  # it has seen that it is pending by now
        recorder.may_go_on.set()
        assert (await carrying).erased == 7
        await looking
        assert recorder.runs == 1

    asyncio.run(run())
    with frame.store.write() as connection:
        erasure_is_done(connection, asked, 0, 2.0)
        assert connection.execute(select(tables.erasures.c.erased, tables.erasures.c.done)).all() == [(7, 1)]
    frame.store.close()
