"""What changed on the machine while no server looked is known before a worker is told anything."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from select import select as select_readable

import pytest
from sqlalchemy import select, update

from doors_world import OWNER, WORKSPACE, open_frame
from valetkey.access.operation import Frame
from valetkey.access.sessions import process_session
from valetkey.errors import Invalid
from valetkey.keys.kinds import KeyKind
from valetkey.keys.operations import IssueKey, issue_key
from valetkey.keys.queries import get_key
from valetkey.keys.sessions import SessionProcess, living_sessions
from valetkey.networks.interfaces import read_interfaces
from valetkey.networks.operations import AddNetwork, add_network, changed_interfaces, list_networks
from valetkey.processes import running_process
from valetkey.server.interfaces import catch_up_interfaces
from valetkey.server.sessions import end_gone_sessions
from valetkey.services.operations import AddService, add_service
from valetkey.store import tables


@pytest.fixture
def frame(tmp_path: Path) -> Iterator[Frame]:
    opened = open_frame(tmp_path)
    yield opened
    opened.store.close()


def blocks(frame: Frame) -> dict[str, tuple[str, ...]]:
    with frame.store.read() as connection:
        return {network.name: network.blocks for network in list_networks(connection, WORKSPACE)}


def last_entry(frame: Frame) -> tuple[str, str]:
    with frame.store.read() as connection:
        row = connection.execute(
            select(tables.audit.c.actor, tables.audit.c.action).order_by(tables.audit.c.seq.desc())
        ).first()
    assert row is not None
    return row.actor, row.action


def test_a_network_by_interface_has_the_addresses_of_now(frame: Frame) -> None:
    frame.perform(add_network, AddNetwork("here", interface="lo"), OWNER)
    frame.perform(add_network, AddNetwork("office", ("203.0.113.0/24",)), OWNER)
    now = read_interfaces()["lo"]
    with frame.store.write() as connection:
        connection.execute(update(tables.networks).values(blocks='["198.51.100.0/24"]'))
    catch_up_interfaces(frame)
    assert blocks(frame) == {"here": now, "office": ("198.51.100.0/24",)}, "blocks that were written stay"
    assert last_entry(frame) == ("system:valetkey", "network:follow")
    with frame.store.read() as connection:
        assert changed_interfaces(connection, WORKSPACE) == []


def test_an_interface_that_is_gone_holds_nobody(frame: Frame) -> None:
    frame.perform(add_network, AddNetwork("here", interface="lo"), OWNER)
    with frame.store.read() as connection:
        (changed,) = changed_interfaces(connection, WORKSPACE, lambda: {"eth0": ("10.0.0.0/8",)})
    assert changed.blocks == ()


def test_keys_of_processes_that_are_gone_end(frame: Frame) -> None:
    frame.perform(add_service, AddService("shop", own=True), OWNER)
    keys = []
    for seconds in ("0", "60"):
        process = subprocess.Popen(["sleep", "60"])
        tied = IssueKey(
            "shop", KeyKind.TEMPORARY, holder=f"for-{seconds}", with_session=True,
            session_process=SessionProcess(process.pid),
        )  # fmt: skip
        keys.append((process, frame.perform(issue_key, tied, OWNER).answer.id))
    keys[0][0].kill()
    keys[0][0].wait()
    end_gone_sessions(frame)
    with frame.store.read() as connection:
        states = [get_key(connection, WORKSPACE, key_id).state for _, key_id in keys]
        left = living_sessions(connection, WORKSPACE)
    own = running_process(keys[1][0].pid)
    keys[1][0].kill()
    keys[1][0].wait()
    assert states == ["revoked", "active"]
    assert own is not None
    assert left == [process_session(own)]
    assert last_entry(frame) == ("system:valetkey", "session:end")


def test_a_process_that_has_ended_but_was_not_fetched_is_over() -> None:
    process = subprocess.Popen(["sleep", "60"])
    running = running_process(process.pid)
    assert running is not None
    assert running.lives
    process.kill()
    descriptor = running.open()
    if descriptor is not None:
        assert select_readable([descriptor], [], [], 10)[0]
        os.close(descriptor)
    assert not running.lives
    process.wait()


def test_no_interface_is_made_up(frame: Frame) -> None:
    with pytest.raises(Invalid, match="no such interface"):
        frame.perform(add_network, AddNetwork("here", interface="none-of-ours"), OWNER)
    assert all(name and isinstance(found, tuple) for name, found in read_interfaces().items())
