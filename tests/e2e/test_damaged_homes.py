"""A home that is damaged, locked or left by its root key says what is wrong and what to do, and works on when cured."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from bad_days import SECRET, answered, assert_proved, command, findings, refusal, told
from running_server import RunningServer, ValetKey
from standins.raw_upstream import RawUpstream
from valetkey.demo.stage import free_ports
from valetkey.vault.root_key import FileRootKey

pytestmark = pytest.mark.real

CALLS = 30


class Kept(NamedTuple):
    """A home at rest that has been used, to make copies of."""

    folder: Path
    service: str
    key: ValetKey
    upstream: RawUpstream


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp("kept")
    with RawUpstream() as upstream:
        with RunningServer() as server:
            service = server.open_service(SECRET, base_url=upstream.url)
            key = server.issue(service)
            for number in range(CALLS):
                assert answered(server, service, key, f"/{number}") == "VALID"
            server.stop()
            shutil.copytree(server.home, folder / "home", ignore=lambda *_: ["run"])
            shutil.copy(server.root_key, folder / "root.key")
        yield Kept(folder, service, key, upstream)


@contextmanager
def copy_of(kept: Kept) -> Iterator[RunningServer]:
    """A server that is not started, with a copy of the home."""
    server = RunningServer()
    restore(kept, server)
    try:
        yield server
    finally:
        shutil.rmtree(server.folder, ignore_errors=True)


def restore(kept: Kept, server: RunningServer) -> None:
    shutil.rmtree(server.home, ignore_errors=True)
    shutil.copytree(kept.folder / "home", server.home)
    shutil.copy(kept.folder / "root.key", server.root_key)
    server.home.chmod(0o700)


def overwrite(path: Path, start: int, length: int) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * length)


RESTORE = "\nRestore it from a backup, or start with another folder in VALETKEY_HOME."
DAMAGED = f"The database {{}} is damaged.{RESTORE}"
NO_DATABASE = f"{{}} is not a Valetkey database.{RESTORE}"
LOST = f"The database is empty, but the journal of this home is not: the database was lost.{RESTORE}"
DATABASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "header": (lambda path: overwrite(path, 0, 100), NO_DATABASE),
    "first page": (lambda path: overwrite(path, 100, 3900), DAMAGED),
    "pages behind": (lambda path: overwrite(path, 4096, path.stat().st_size - 4096), DAMAGED),
    "truncated": (lambda path: os.truncate(path, path.stat().st_size // 2), DAMAGED),
    "empty": (lambda path: os.truncate(path, 0), LOST),
    "gone": (lambda path: path.unlink(), LOST),
}


ASKED_OF_DOCTOR = ("first page", "empty")
"""The others are asked of `serve`: both words come from the same place."""


def test_a_damaged_database_or_file_of_counters_is_named_and_a_backup_cures_it(kept: Kept) -> None:
    with copy_of(kept) as server:
        database = server.home / "valetkey.db"
        for what, (damage, words) in DATABASES.items():
            damage(database)
            sentences = words.format(database)
            if what in ASKED_OF_DOCTOR:
                found = findings(server)["database-refused"]
                assert (found["severity"], found["sentence"]) == ("serious", sentences.replace("\n", " ")), (
                    what
                )
            else:
                assert refusal(server, "serve") == sentences, what
            restore(kept, server)
        counters = server.home / "counters"
        counters.write_bytes(b"not counters" * 1000)
        said = command(server, "serve").err
        assert said == f"error: {counters} holds no counters. Move it away and start again.\n"
        counters.unlink()
        with server:
            assert answered(server, kept.service, kept.key) == "VALID"
            assert_proved(server)
    # No process wrote to another's database meanwhile.
    assert not list(kept.folder.glob("home/*-wal"))


def test_without_its_root_key_nothing_opens_and_no_other_is_made(kept: Kept) -> None:
    with copy_of(kept) as server:
        right = server.root_key.read_bytes()
        server.root_key.unlink()
        for verb in ("serve", "init"):
            assert refusal(server, verb).startswith(
                f"There is no root key at {server.root_key}; without it nothing sealed in this home can be opened.\n"
                "Put the key back, or name its place in VALETKEY_ROOT_KEY_FILE."  # it is its owner who asks
            )
        assert findings(server)["root-key-missing"]["severity"] == "serious"
        assert not server.root_key.exists()

        FileRootKey(server.root_key).create()
        ids = [text.split(b":")[1].decode() for text in (right, server.root_key.read_bytes())]
        assert refusal(server, "serve") == (
            f"The root key in {server.root_key} is {ids[1]}, but this home is sealed under {ids[0]}.\n"
            "Name the file that holds that one: VALETKEY_ROOT_KEY_FILE, or serve --root-key-file FILE."
        )
        assert findings(server)["root-key-refused"]["severity"] == "serious"

        server.root_key.write_bytes(right[:60])
        assert refusal(server, "serve") == (
            f"{server.root_key} holds no whole root key.\nRestore it from where you keep a copy."
        )
        server.root_key.write_bytes(right)
        with server:
            assert answered(server, kept.service, kept.key) == "VALID"
            assert_proved(server)


def worker_segment(server: RunningServer) -> Path:
    (segment,) = server.home.glob("journal/*-w0-*.seg")
    return segment


def middle(path: Path) -> None:
    overwrite(path, path.stat().st_size // 2, 1)


def half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("damage", "verdicts", "what", "health"),
    [
        # Nobody reads again at a start what was read and sealed: to look at all of it is what verify is for.
        (middle, ("broken", "ok"), "changed", "ok"),
        (half, ("broken", "broken"), "truncated", "degraded"),
    ],
)
def test_a_damaged_segment_is_named_while_calls_go_on(
    kept: Kept, damage: Callable[[Path], None], verdicts: tuple[str, str], what: str, health: str
) -> None:
    with copy_of(kept) as server:
        segment = worker_segment(server)
        name, content = segment.stem, segment.read_bytes()
        damage(segment)
        at_rest = command(server, "audit", "verify").out
        assert f"integrity     {verdicts[0]}" in at_rest and name in at_rest
        server.start()
        assert answered(server, kept.service, kept.key) == "VALID"
        assert told(server.gateway_port) == (200, {"status": "ok"})
        assert told(server.control_port) == (200, {"status": health})
        verdict = server.manage("POST", "/audit/verify", {})
        assert (verdict["integrity"], verdict["completeness"]) == verdicts
        assert what in {one["what"] for one in verdict["problems"] if one["segment"] == name}
        command(server, "audit", "verify", code=1)
        if health == "degraded":
            (said,) = server.status()["degraded"]
            assert said.startswith(f"Journal problem: {name}") and said.endswith("See: valetkey audit verify")
            assert findings(server)["record-broken"]["severity"] == "serious"
        server.stop()
        if health == "ok":
            return
        segment.write_bytes(content)
        segment.chmod(0o600)
        with server:
            assert answered(server, kept.service, kept.key) == "VALID"
            assert_proved(server)
            assert len(server.events(kept.key)) == CALLS + 2


def test_a_port_that_is_taken_and_a_home_that_is_in_use_name_who_has_them(kept: Kept) -> None:
    with copy_of(kept) as server:
        with socket.socket() as other:
            other.bind(("127.0.0.1", server.gateway_port))
            other.listen()
            name = Path("/proc/self/comm").read_text().strip()
            assert refusal(server, "serve") == (
                f"Port {server.gateway_port} on 127.0.0.1 is taken by {name} (process {os.getpid()}).\n"
                "Stop what holds it, or choose another port with --gateway-port or --control-port."
            )
        with server:
            holder = server.tree()[0]
            said = refusal(server, "serve")
            assert said.startswith(
                f"Port {server.control_port} on 127.0.0.1 is taken by another valetkey server (process "
            )
            ports, (server.control_port, server.gateway_port) = (
                (server.control_port, server.gateway_port),
                free_ports(),
            )
            for verb in ("serve", "init"):
                assert refusal(server, verb) == (
                    f"Another valetkey server (process {holder}) already uses {server.home}.\n"
                    "Stop it, or give this one a folder of its own with VALETKEY_HOME."
                )
            server.control_port, server.gateway_port = ports
            assert answered(server, kept.service, kept.key) == "VALID"
            assert_proved(server)
