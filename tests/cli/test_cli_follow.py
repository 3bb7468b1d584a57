"""Following calls in a process of its own: ends by an interrupt, or when nobody reads any more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_fake_api import Endless, FakeApi

EVENT = {"call": "c1", "end": None, "time": 1.0, "code": "VALID"}


@pytest.mark.real
def test_an_interrupt_ends_following_with_130_and_no_traceback(api: FakeApi, home: Path) -> None:
    api.answer("GET", "/events/stream", Endless([EVENT]))
    process = follow(home)
    assert process.stdout is not None
    assert process.stdout.readline() == b'{"call": "c1", "end": null, "time": 1.0, "code": "VALID"}\n'
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, b"\nInterrupted.\n")


@pytest.mark.real
def test_a_reader_that_has_enough_ends_it_without_a_word(api: FakeApi, home: Path) -> None:
    api.answer("GET", "/events/stream", Endless([EVENT], again=True))
    process = follow(home)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=30) == 1
    assert process.stderr is not None
    assert process.stderr.read() == b""


def follow(home: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "valetkey", "events", "--follow", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"VALETKEY_HOME": str(home)},
    )


@pytest.mark.real
def test_a_person_who_follows_is_told_that_calls_are_waited_for(api: FakeApi, home: Path) -> None:
    api.answer("GET", "/events/stream", Endless([EVENT]))
    here, there = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "valetkey", "events", "--follow"],
        stdout=subprocess.PIPE,
        stderr=there,
        env={"VALETKEY_HOME": str(home)},
    )
    os.close(there)
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"TIME (")
    assert process.stdout.readline().split()[2] == b"VALID"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert os.read(here, 1000).startswith(b"Waiting for calls.")
    process.stdout.close()
    os.close(here)
