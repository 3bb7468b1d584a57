"""A disk that is full or read-only: calls are refused, the reason is said, nothing is lost, and room cures it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bad_days import (
    SECRET,
    answered,
    assert_harmless,
    assert_proved,
    command,
    fill,
    findings,
    make_room,
    refusal,
    serves_again,
    told,
)
from namespaces import MS_REMOUNT, mount, set_read_only, small_disk, with_own_mounts
from running_server import Refused, RunningServer, ValetKey, eventually
from standins.raw_upstream import RawUpstream

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

SIZE = 24 << 20
WORDS = (503, ["disk nearly full"])


@contextmanager
def on_small_disk(workers: int = 1) -> Iterator[tuple[RunningServer, str, ValetKey]]:
    """A server whose data folder is a disk of its own."""
    server = RunningServer(workers=workers)
    small_disk(server.home, SIZE)
    with server, RawUpstream() as upstream:
        service = server.open_service(SECRET, base_url=upstream.url)
        key = server.issue(service, quotas=["100000/day"])
        yield server, service, key
        assert_harmless(server, server.errors)


def missing(port: int) -> tuple[int, list[str]]:
    status, answer = told(port)
    return status, answer.get("missing", [])


def test_a_disk_that_fills_up_refuses_calls_is_managed_as_long_as_it_can_be_and_room_cures_it() -> None:
    def body() -> None:
        with on_small_disk() as (server, service, key):
            assert answered(server, service, key) == "VALID"
            fill(server.home, leave=SIZE // 50)
            eventually(lambda: answered(server, service, key) == "NOT_READY")
            assert missing(server.gateway_port) == WORDS
            assert missing(server.control_port) == WORDS
            (sentence,) = server.status()["missing"]
            assert "MB are free on the disk of" in sentence and "calls need 1.26 MB" in sentence
            assert findings(server)["disk-nearly-full"]["severity"] == "serious"
            # What was held back is for this.
            assert server.stop_key(server.issue(service))["acknowledged"] == 1

            fill(server.home)
            made = 2
            refused = None
            while refused is None and made < 200:
                try:
                    server.issue(service)
                    made += 1
                except Refused as error:
                    refused = error.problem
            assert refused is not None
            assert (refused["status"], refused["code"]) == (503, "UNAVAILABLE")
            assert refused["detail"] == f"The disk that holds {server.home}/valetkey.db is full."
            assert refused["next_step"] == "Make room on that disk, then try again."

            make_room(server.home)
            serves_again(server, service, key)
            assert told(server.control_port) == (200, {"status": "ok"})
            entries = server.manage("GET", "/audit?limit=200")["items"]
            issued = [entry["subject"] for entry in entries if entry["action"] == "key:issue"]
            kept = server.manage("GET", "/keys?limit=200")["items"]
            assert sorted(issued) == sorted(f"key:{one['id']}" for one in kept)
            assert len(issued) == made
            assert_proved(server)

    with_own_mounts(body)


def test_a_disk_filled_under_calls_loses_none_of_them() -> None:
    def body() -> None:
        with on_small_disk() as (server, service, key):
            acknowledged, done = [], threading.Event()

            def call(place: int) -> None:
                number = 0
                while not done.is_set():
                    number += 1
                    if (code := answered(server, service, key, f"/{place}-{number}")) is not None:
                        acknowledged.append((f"/{place}-{number}", code))

            threads = [threading.Thread(target=call, args=(place,), daemon=True) for place in range(4)]
            for thread in threads:
                thread.start()
            eventually(lambda: len(acknowledged) > 50)
            fill(server.home)
            # Neither half can write any more: each says so and ends, and its next life finds the disk as full.
            eventually(lambda: "error supervisor control_failed" in server.errors, 20)
            done.set()
            for thread in threads:
                thread.join(20)
            assert "error worker-0 journal_failed: The worker ends. reason=" in server.errors
            assert "error control journal_failed: The control process ends. reason=" in server.errors
            assert "No space left on device. Check the disk of the data folder." in server.errors
            assert refusal(server, "key", "list", code=3) == (
                f"The valetkey server of {server.home} (process {server.tree()[0]}) does not answer.\n"
                "Read its messages: it may be starting, or be kept from it."
            )
            refusal(server, "doctor", code=3)
            segments = len(list(server.home.glob("journal/*.seg")))
            make_room(server.home)
            serves_again(server, service, key)
            # Lives that could not begin have left nothing.
            assert segments == 2
            recorded = {(event["path"], event["code"]) for event in server.events(key)}
            decided = {(path, code) for path, code in acknowledged if code != "NOT_READY"}
            assert len(decided) > 50 and decided <= recorded
            assert {code for _, code in acknowledged} == {"VALID", "NOT_READY"}
            assert_proved(server)

    with_own_mounts(body)


def test_a_home_without_room_or_on_a_read_only_disk_is_made_and_started_when_that_is_cured() -> None:
    def body() -> None:
        server = RunningServer()
        for pages in (1, 20, 60):
            small_disk(server.home, pages * 4096)
            fill(server.home, leave=(pages - 1) * 4096)
            for verb in ("init", "serve"):
                assert refusal(server, verb).endswith("\nMake room on that disk, then try again.")
        # Whatever the last one left half made:
        make_room(server.home)
        mount(server.home, MS_REMOUNT, kind="tmpfs", options=f"size={SIZE}")
        assert command(server, "init", code=0).out == f"{server.home} is ready.\n"

        fill(server.home)
        before = contents(server.home)
        said = refusal(server, "serve")
        assert said == (
            f"The disk that holds {server.home}/valetkey.db is full.\nMake room on that disk, then try again."
        )
        assert findings(server)["disk-nearly-full"]["severity"] == "serious"
        assert contents(server.home) == before
        make_room(server.home)

        set_read_only(server.home, True)
        for arguments in (("serve",), ("audit", "verify"), ("doctor",)):
            assert refusal(server, *arguments) == (
                f"{server.home}/lock cannot be written (Read-only file system).\n"
                "Mount that disk so that it can be written, then try again."
            )
        new = server.home / "another"
        server.home, kept = new, server.home
        assert refusal(server, "init") == (
            f"The folder {new} cannot be made or entered (Read-only file system).\n"
            "Mount that disk so that it can be written, then try again."
        )
        server.home = kept
        set_read_only(server.home, False)

        with server, RawUpstream() as upstream:
            service = server.open_service(SECRET, base_url=upstream.url)
            assert answered(server, service, server.issue(service)) == "VALID"
            actions = [entry["action"] for entry in server.manage("GET", "/audit")["items"]]
            assert actions.count("home:init") == 1
            assert_proved(server)

    with_own_mounts(body)


def contents(folder: Path) -> set[str]:
    """Names of all that is in a home, but what SQLite makes for as long as it is open."""
    return {path.name for path in folder.rglob("*") if not path.name.endswith(("-wal", "-shm"))}
