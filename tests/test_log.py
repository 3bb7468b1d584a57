"""What processes tell their operator: one line each, nothing that steers a terminal, no key, no flood."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valetkey import log
from valetkey.errors import Unavailable
from valetkey.keys.format import generate
from valetkey.keys.kinds import CredentialKind, KeyKind
from valetkey.log import MOST_CHARACTERS, MOST_LINES, WINDOW_SECONDS, Floods, Level, Log, cleaned, line_of

WALL = 1_790_000_000.25
KEYS = [generate("vk", kind, os.urandom).reveal_text() for kind in (*KeyKind, *CredentialKind)]
STEERING = [
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x1b]8;;https://x\x1b\\",
    "\x9b31m",
    "\x1bc",
    "\u202e",
    "\x00",
    "\b",
    "\r",
]


class Now:
    """A clock that is moved."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


class Kept:
    """A log that keeps its lines."""

    def __init__(self, **options: object) -> None:
        self.lines: list[str] = []
        self.now = Now()
        options = {"level": Level.DEBUG, **options}
        self.log = Log("worker-0", write=self.lines.append, wall=lambda: WALL, monotonic=self.now, **options)  # type: ignore[arg-type]


def parts_of(key: str) -> list[str]:
    body = key.split("_", 2)[2]
    return [body[place : place + 16] for place in range(len(body) - 16)]


def test_a_line_of_text_has_time_level_process_event_and_fields() -> None:
    kept = Kept()
    kept.log.say(Level.WARNING, "worker_ended", "It is started anew.", slot=0, why="a b", none=None, ok=True)
    assert kept.lines == [
        "2026-09-21T14:13:20.250Z warning worker-0 worker_ended: It is started anew."
        ' slot=0 why="a b" none=None ok=True'
    ]


def test_a_line_of_json_is_one_object_whose_own_names_no_field_takes() -> None:
    kept = Kept(style="json")
    kept.log.say(Level.ERROR, "failure", "Text.", at="x.py:3", process="forged", time="forged", n=1.5)
    assert [json.loads(line) for line in kept.lines] == [
        {
            "time": "2026-09-21T14:13:20.250Z", "level": "error", "process": "worker-0", "event": "failure",
            "text": "Text.", "at": "x.py:3", "n": 1.5,
        }
    ]  # fmt: skip
    datetime.fromisoformat(json.loads(kept.lines[0])["time"])


@pytest.mark.parametrize("style", ["text", "json"])
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("split", ["", "\x00", "\n", "\x1b[31m", "\u200b"])
def test_no_piece_of_a_key_is_shown_however_it_is_broken(style: str, key: str, split: str) -> None:
    kept = Kept(style=style)
    broken = key[:30] + split + key[30:]
    kept.log.say(Level.INFO, "event", f"got {broken}", path=f"/api/v1/keys/{broken}", long="x" * 490 + broken)
    assert len(kept.lines) == 1 and "***" in kept.lines[0]
    assert not [part for part in parts_of(key) if part in kept.lines[0]]


@pytest.mark.parametrize("steering", STEERING)
def test_what_steers_a_terminal_is_taken_out_whole(steering: str) -> None:
    assert cleaned(f"a{steering}b") in ("ab", "a b")


@given(st.text(max_size=700))
def test_any_text_becomes_one_printable_line_of_bounded_length(text: str) -> None:
    shown = cleaned(text)
    assert shown.isprintable() and len(shown) <= MOST_CHARACTERS
    assert cleaned(shown) == shown


@given(st.text(max_size=50), st.dictionaries(st.text(max_size=9), st.text(max_size=50), max_size=4))
def test_a_line_never_breaks(text: str, fields: dict[str, str]) -> None:
    line = line_of(Level.INFO, "event", text, fields)
    assert log.as_json(line, "t", "p").isascii()
    assert "\n" not in log.as_json(line, "t", "p")
    assert json.loads(log.as_json(line, "t", "p"))["event"] == "event"
    assert len(log.as_text(line_of(Level.INFO, "event", text, {"f": text}), "t", "p").splitlines()) == 1


def test_what_is_no_plain_value_is_shown_as_its_type() -> None:
    class Secret:
        def __repr__(self) -> str:
            return "plain-secret"

    kept = Kept()
    kept.log.say(Level.INFO, "event", held=Secret(), raw=b"plain-secret", many=["plain-secret"])
    assert kept.lines[0].endswith("event held=Secret raw=bytes many=list")


def test_levels_below_the_chosen_one_are_left_out() -> None:
    kept = Kept(level=Level.WARNING)
    for level in Level:
        kept.log.say(level, f"of_{level.name}")
    assert [line.rpartition(" ")[2] for line in kept.lines] == ["of_WARNING", "of_ERROR"]


def test_the_same_line_is_counted_and_its_count_told_when_the_window_ends() -> None:
    kept = Kept()
    for _ in range(1000):
        kept.log.say(Level.ERROR, "failure", at="x.py:3")
    kept.log.say(Level.ERROR, "failure", at="x.py:4")
    assert len(kept.lines) == 2
    kept.now.at += WINDOW_SECONDS
    kept.log.say(Level.INFO, "other")
    assert [line.partition("Z ")[2] for line in kept.lines[2:]] == [
        "error worker-0 failure at=x.py:3 repeated=999",
        "info worker-0 other",
    ]
    kept.log.say(Level.ERROR, "failure", at="x.py:3")
    assert len(kept.lines) == 5


def test_a_count_is_told_at_the_end_of_the_process_and_when_it_is_asked_for() -> None:
    kept = Kept()
    for _ in range(2):
        kept.log.say(Level.INFO, "event")
        kept.log.say(Level.INFO, "event")
        kept.log.settle()
        assert "repeated" not in kept.lines[-1]
        kept.now.at += WINDOW_SECONDS
        kept.log.settle()
        assert kept.lines[-1].endswith("event repeated=1")
    kept.log.say(Level.INFO, "event")
    kept.log.say(Level.INFO, "event")
    kept.log.flush()
    assert kept.lines[-1].endswith("event repeated=1")


def test_a_line_from_inside_the_log_is_written_too() -> None:
    lines: list[str] = []

    def write(line: str) -> None:
        lines.append(line)
        if len(lines) == 1:
            inside.say(Level.ERROR, "inner")

    inside = Log("worker-0", write=write)
    inside.say(Level.INFO, "outer")
    assert [line.rpartition(" ")[2] for line in lines] == ["outer", "inner"]


def test_a_flood_of_different_lines_is_cut_and_counted() -> None:
    kept = Kept()
    for number in range(MOST_LINES + 70):
        kept.log.say(Level.INFO, "event", number=number)
    assert len(kept.lines) == MOST_LINES
    kept.now.at += WINDOW_SECONDS
    kept.log.say(Level.INFO, "after")
    assert [line.partition("worker-0 ")[2] for line in kept.lines[MOST_LINES:]] == [
        "lines_left_out lines=70",
        "after",
    ]


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 8)), max_size=60))
def test_nothing_is_lost_all_lines_are_written_or_counted(steps: list[tuple[int, float]]) -> None:
    floods, now = Floods(), 0.0
    lines = [line_of(Level.INFO, f"event_{number}", "", {}) for number in range(4)]
    written = dict.fromkeys(range(4), 0)

    def settle(*, everything: bool = False) -> None:
        for told in floods.settle(now, everything=everything):
            written[int(told.event[-1])] += int(dict(told.fields)["repeated"] or 0)

    for number, wait in steps:
        now += wait
        settle()
        written[number] += floods.admit(lines[number], now)
    settle(everything=True)
    assert written == {number: sum(1 for one, _ in steps if one == number) for number in range(4)}


def test_a_log_that_cannot_be_written_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Broken())
    Log("worker-0").say(Level.INFO, "event")


PROGRAM = """
import asyncio, logging, sys, threading, warnings
from valetkey import log
log.configure("worker-0", style="json", level="debug")
secret = "real-" + "key-value"
class Noisy:
    def __del__(self): raise ValueError(secret)
    def __repr__(self): return secret
async def main():
    async def fails(): raise ValueError(secret)
    task = asyncio.get_running_loop().create_task(fails())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(lambda held: 1 / 0, Noisy())
    await asyncio.sleep(0)
asyncio.run(main(), debug=True)
logging.getLogger("library").error("a library says %s", secret)
logging.getLogger("library").debug("quiet %s", secret)
warnings.warn(secret)
thread = threading.Thread(target=lambda: {}[secret]); thread.start(); thread.join()
Noisy()
raise LookupError(secret)
"""


def test_nothing_that_python_or_a_library_would_print_gets_out_as_it_is() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert "real-key-value" not in done.stderr and "Traceback" not in done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    kinds = {line.get("kind") for line in lines}
    assert kinds >= {"ValueError", "KeyError", "LookupError", "ZeroDivisionError"}
    assert {line.get("logger") for line in lines} >= {"asyncio", "library", "py.warnings"}
    assert {line["process"] for line in lines} == {"worker-0"}


@pytest.fixture
def untouched() -> Iterator[None]:
    root = logging.getLogger()
    before = (
        log._log,
        list(root.handlers),
        root.level,
        sys.excepthook,
        threading.excepthook,
        sys.unraisablehook,
    )
    yield
    log._log, root.handlers[:], level, sys.excepthook, threading.excepthook, sys.unraisablehook = before
    root.setLevel(level)
    logging.captureWarnings(False)


def test_our_own_words_are_shown_and_masked(untouched: None, capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("control", style="text", level="info")
    logging.getLogger("valetkey.room").warning("met %s", KEYS[0])
    assert re.search(r"warning control message: met \*\*\* logger=valetkey\.room", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Unavailable("The disk is full.", "Make room."), "not_done: The disk is full. next_step=\"Make room.\" at="),
        (RuntimeError("not to be told"), "failure kind=RuntimeError at="),
    ],
)  # fmt: skip
def test_of_what_was_foreseen_the_words_are_told_and_of_all_else_kind_and_place(
    error: Exception, said: str, untouched: None, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure("control", style="text", level="info")
    try:
        raise error
    except Exception as raised:
        log.note_failure(raised)
    line = capsys.readouterr().err
    assert f" error control {said}" in line and "test_log.py:" in line
    assert "not to be told" not in line
