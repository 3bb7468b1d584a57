"""What the server's processes tell their operator: every line goes through here, to standard error.

A line has time, level, process, event and fields, as text or as JSON. Control characters are removed, whatever looks
like a valet key is masked, an exception is its kind and place and never its text, and a flood is counted.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import IntEnum
from types import TracebackType
from typing import NamedTuple, TypeAlias

from valetkey.errors import ValetkeyError
from valetkey.keys.format import mask_keys

MOST_CHARACTERS = 512
"""Longest text or field; more is cut."""
WINDOW_SECONDS = 10.0
"""The same line is written once in this time; the others are counted, and the count is written at its end."""
MOST_LINES = 500
"""Different lines that are written in one window: a flood of them must not fill the disk."""

Value: TypeAlias = str | int | float | bool | None

_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[0-~])|\x9b[0-?]*[ -/]*[@-~]"
)
"""What steers a terminal (ECMA-48): control sequences, operating system commands, single escapes."""
_BREAKS = re.compile(r"[\t\n\r\v\f\x85\u2028\u2029]+")
_PLAIN = re.compile(r"[\w./:@+*%-]+")
"""A value that needs no quotes in text."""
_OURS = "valetkey"


class Level(IntEnum):
    """How much it matters; numbers are those of the standard library."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


class Line(NamedTuple):
    """All of a line but its time: two equal ones are the same line."""

    level: Level
    event: str
    text: str
    fields: tuple[tuple[str, Value], ...]


def cleaned(text: str) -> str:
    """`text` on one line, without what steers a terminal, with what could be a key as ``***``, shortened."""
    if not (text.isascii() and text.isprintable()):
        text = _ESCAPE.sub("", text)
        # A key that control characters split is still a key: it is looked for without them.
        joined = _printable(text)
        masked = _masked(joined)
        text = masked if masked != joined else _printable(_BREAKS.sub(" ", text))
    text = _masked(text)
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"


def _printable(text: str) -> str:
    return "".join(filter(str.isprintable, text))


def _masked(text: str) -> str:
    return mask_keys(text.encode("utf-8", "replace")).decode("utf-8", "replace")


def line_of(level: Level, event: str, text: str, fields: Mapping[str, object]) -> Line:
    """A line whose every part may be shown. What is no plain value is shown as its type only."""
    shown: list[tuple[str, Value]] = []
    for name, value in fields.items():
        if isinstance(value, str):
            shown.append((name, cleaned(value)))
        elif value is None or isinstance(value, bool | int | float):
            shown.append((name, value))
        else:
            shown.append((name, type(value).__name__))
    return Line(level, event, cleaned(text), tuple(shown))


def as_text(line: Line, stamp: str, process: str) -> str:
    """The line for a person."""
    said = f"{stamp} {line.level.name.lower()} {process} {line.event}"
    if line.text:
        said += f": {line.text}"
    return said + "".join(f" {name}={_quoted(value)}" for name, value in line.fields)


def as_json(line: Line, stamp: str, process: str) -> str:
    """The line for a program: one object, ASCII only."""
    said: dict[str, Value] = {
        "time": stamp,
        "level": line.level.name.lower(),
        "process": process,
        "event": line.event,
    }
    if line.text:
        said["text"] = line.text
    # A field never takes the place of one of these.
    return json.dumps({**said, **{name: value for name, value in line.fields if name not in said}})


def _quoted(value: Value) -> str:
    if isinstance(value, str) and not _PLAIN.fullmatch(value):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


class Floods:
    """Which lines are written at once and which are only counted. Pure; time is monotonic, in seconds."""

    def __init__(self) -> None:
        self._seen: dict[Line, tuple[float, int]] = {}
        self._left_out = 0

    def admit(self, line: Line, now: float) -> bool:
        """Whether it is to be written now. Call `settle` before."""
        met = self._seen.get(line)
        if met is not None:
            self._seen[line] = (met[0], met[1] + 1)
            return False
        if len(self._seen) >= MOST_LINES:
            self._left_out += 1
            return False
        self._seen[line] = (now, 0)
        return True

    def settle(self, now: float, *, everything: bool = False) -> list[Line]:
        """Lines that say how often those of past windows were repeated, or of all."""
        over = [
            line for line, (since, _) in self._seen.items() if everything or now - since >= WINDOW_SECONDS
        ]
        told = []
        for line in over:
            count = self._seen.pop(line)[1]
            if count:
                told.append(line._replace(fields=(*line.fields, ("repeated", count))))
        if self._left_out and len(self._seen) < MOST_LINES:
            told.append(line_of(Level.WARNING, "lines_left_out", "", {"lines": self._left_out}))
            self._left_out = 0
        return told


class Log:
    """The log of one process."""

    def __init__(
        self,
        process: str,
        *,
        style: str = "text",
        level: Level = Level.INFO,
        write: Callable[[str], None] | None = None,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.process = process
        self.style = style
        self.level = level
        self._write = write or _to_standard_error
        self._wall = wall
        self._monotonic = monotonic
        self._floods = Floods()
        self._lock = threading.Lock()
        self._speaking: int | None = None
        """The thread that holds the lock."""

    def say(self, level: Level, event: str, text: str = "", **fields: object) -> None:
        """Write one line, or count it. Never raises: a log that cannot be written stops nothing."""
        if level < self.level:
            return
        line = line_of(level, event, text, fields)
        if self._speaking == threading.get_ident():
            # From inside our own work (a finaliser that failed, run by the collector): not counted.
            self._put(line)
            return
        with self._alone():
            now = self._monotonic()
            for earlier in self._floods.settle(now):
                self._put(earlier)
            if self._floods.admit(line, now):
                self._put(line)

    def announce(self, event: str, lines: Iterable[str], **fields: object) -> None:
        """What a person at the terminal reads as it stands; for a program it is a line like others."""
        if self.style == "json":
            self.say(Level.INFO, event, "", **fields)
            return
        for line in lines:
            self._write(cleaned(line))

    def settle(self) -> None:
        """Write how often lines of past windows were repeated; called now and then, for nothing may come after."""
        with self._alone():
            for line in self._floods.settle(self._monotonic()):
                self._put(line)

    def flush(self) -> None:
        """Write all that was only counted so far: before the process ends."""
        with self._alone():
            for line in self._floods.settle(self._monotonic(), everything=True):
                self._put(line)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock:
            self._speaking = threading.get_ident()
            try:
                yield
            finally:
                self._speaking = None

    def _put(self, line: Line) -> None:
        stamp = datetime.fromtimestamp(self._wall(), UTC).isoformat(timespec="milliseconds")
        make = as_json if self.style == "json" else as_text
        self._write(make(line, stamp.replace("+00:00", "Z"), self.process))


def _to_standard_error(line: str) -> None:
    try:
        # In one piece: other processes write to the same place.
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except (OSError, ValueError, RuntimeError):
        pass  # RuntimeError: from inside another write of this thread


_log = Log("valetkey")


def current() -> Log:
    """The log of this process."""
    return _log


def configure(process: str, *, style: str, level: str) -> Log:
    """Make the log of this process, and send there whatever libraries and the interpreter would print themselves."""
    global _log
    _log = Log(process, style=style, level=Level[level.upper()])
    root = logging.getLogger()
    root.handlers[:] = [_Foreign()]
    root.setLevel(logging.WARNING)
    logging.getLogger(_OURS).setLevel(_log.level)
    logging.captureWarnings(True)
    sys.excepthook = lambda kind, error, trace: note_failure(error, trace)
    threading.excepthook = lambda seen: note_failure(seen.exc_value, seen.exc_traceback)
    sys.unraisablehook = lambda seen: note_failure(seen.exc_value, seen.exc_traceback)
    return _log


def debug(event: str, text: str = "", **fields: object) -> None:
    _log.say(Level.DEBUG, event, text, **fields)


def info(event: str, text: str = "", **fields: object) -> None:
    _log.say(Level.INFO, event, text, **fields)


def warning(event: str, text: str = "", **fields: object) -> None:
    _log.say(Level.WARNING, event, text, **fields)


def error(event: str, text: str = "", **fields: object) -> None:
    _log.say(Level.ERROR, event, text, **fields)


def note_failure(failed: BaseException | None, trace: TracebackType | None = None) -> None:
    """One line about an error of ours: one that was foreseen says what to do; of others kind and place are told, never
    the text, which may hold a key."""
    trace = trace or (None if failed is None else failed.__traceback__)
    if isinstance(failed, ValetkeyError):
        _log.say(Level.ERROR, "not_done", failed.sentence, next_step=failed.next_step, at=_place(trace))
        return
    _log.say(Level.ERROR, "failure", kind=type(failed).__name__, at=_place(trace))


def _place(trace: TracebackType | None) -> str | None:
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return None if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


class _Foreign(logging.Handler):
    """Takes what the standard library's logging is given. Only our own words are shown: those of libraries may hold
    anything, so of theirs only who spoke, where, and the kind of error."""

    def emit(self, record: logging.LogRecord) -> None:
        level = Level(max(Level.DEBUG, min(Level.ERROR, record.levelno // 10 * 10)))
        ours = record.name.partition(".")[0] == _OURS
        fields: dict[str, object] = {"logger": record.name, "at": f"{record.pathname}:{record.lineno}"}
        if record.exc_info and record.exc_info[0] is not None:
            fields["kind"] = record.exc_info[0].__name__
            fields["at"] = _place(record.exc_info[2]) or fields["at"]
        _log.say(level, "message", record.getMessage() if ours else "", **fields)
