"""Networks that are an interface follow it: when its addresses change, every worker has the new ones."""

from __future__ import annotations

import asyncio

from sqlalchemy import Connection

from valetkey.access.actor import SYSTEM
from valetkey.access.operation import Frame
from valetkey.errors import ValetkeyError
from valetkey.log import note_failure
from valetkey.networks.interfaces import drain, watch_interfaces
from valetkey.networks.operations import InterfaceChanged, changed_interfaces, follow_interface
from valetkey.server.desk import Desk
from valetkey.server.own_accord import perform_each
from valetkey.store.engine import StoreError

LOOK_SECONDS = 5.0
"""How often it is looked without having been told: the kernel drops what comes too fast."""


def catch_up_interfaces(frame: Frame) -> None:
    """At the start, before any worker is told of a network: what changed while nobody looked."""
    try:
        with frame.store.read() as connection:
            changed = changed_interfaces(connection, frame.workspace)
    except OSError as error:
        note_failure(error)
        return
    for one in changed:
        frame.perform(follow_interface, one, SYSTEM)


async def follow_interfaces(desk: Desk) -> None:
    """For as long as the server runs."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    watch = None
    try:
        watch = watch_interfaces()
        loop.add_reader(watch.fileno(), told.set)
    except OSError as error:
        note_failure(error)  # then it is only looked from time to time

    def look(connection: Connection) -> list[InterfaceChanged]:
        return changed_interfaces(connection, desk.workspace)

    try:
        while True:
            try:
                await perform_each(desk, follow_interface, await desk.read(look))
            except (ValetkeyError, StoreError, OSError) as error:
                note_failure(error)  # it is looked again
            try:
                await asyncio.wait_for(told.wait(), LOOK_SECONDS)
            except TimeoutError:
                continue
            told.clear()
            if watch is not None:
                drain(watch)
    finally:
        if watch is not None:
            loop.remove_reader(watch.fileno())
            watch.close()
