"""Everything a person reads goes out here: answers to standard output; warnings, hints, errors to standard error.

Names, paths and agents come from strangers, so no text reaches a terminal before `harmless` has seen it.
"""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import click

_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories that steer a terminal, turn the direction of reading, break lines or cannot be encoded."""

_STATE_COLOURS = {
    **dict.fromkeys(("active", "VALID", "ok", "ready", "in use", "complete"), "green"),
    **dict.fromkeys(
        ("suspended", "upcoming", "locked", "unproven", "starting", "not ready", "weak"), "yellow"
    ),
    # Codes of calls that may pass later by themselves.
    **dict.fromkeys(("RATE_LIMITED", "CONCURRENCY_LIMITED", "THROTTLED", "NOT_READY"), "yellow"),
    **dict.fromkeys(("UPSTREAM_FAILED", "UPSTREAM_TIMEOUT"), "yellow"),
    **dict.fromkeys(("revoked", "expired", "ended", "exposed", "broken", "retired", "serious"), "red"),
}


def harmless(text: object) -> str:
    """`text` on one line, with nothing in it that a terminal would obey or that makes it read otherwise."""
    line = str(text)
    if line.isascii() and line.isprintable():
        return line
    return "".join(
        " "
        if character in "\t\n\r"
        else "\ufffd"
        if unicodedata.category(character) in _HARMFUL
        else character
        for character in line
    )


def width_of(text: str) -> int:
    """Columns that `text` takes in a terminal: wide characters take two, marks on others none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def can_show(text: str) -> bool:
    """Whether standard output can carry these characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    # In the POSIX locale Python writes UTF-8, but the terminal need not know it.
    locale = os.environ.get("LC_ALL") or os.environ.get("LC_CTYPE") or os.environ.get("LANG") or ""
    return text.isascii() or not is_terminal(sys.stdout) or locale not in ("C", "POSIX")


def is_terminal(stream: TextIO) -> bool:
    """Whether a person sees what is written there."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def has_colours(stream: TextIO) -> bool:
    """Whether colours may be written: on a terminal that knows them, unless NO_COLOR is set."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def colour_of(state: str) -> str | None:
    """The colour of a state or code, None for what is no state. The word always stands beside it."""
    return _STATE_COLOURS.get(state, "red" if state.isupper() else None)


def coloured(text: object, colour: str | None, stream: TextIO | None = None) -> str:
    """`text`, harmless, in `colour` where the stream (standard output) shows colours."""
    clean = harmless(text)
    return click.style(clean, fg=colour) if colour and has_colours(stream or sys.stdout) else clean


def say(text: object = "") -> None:
    """One line of the answer."""
    print(harmless(text), flush=True)


def say_state(before: str, state: str, after: str = "") -> None:
    """One line of the answer with a state in its colour."""
    print(f"{harmless(before)}{coloured(state, colour_of(state))}{harmless(after)}", flush=True)


def say_json(value: Any) -> None:
    """One object on one line, and nothing else. ASCII only: what is escaped steers no terminal."""
    print(json.dumps(value, separators=(", ", ": ")), flush=True)


def warn(text: object) -> None:
    """What a person should know though the command went on."""
    print(f"{coloured('warning:', 'yellow', sys.stderr)} {harmless(text)}", file=sys.stderr, flush=True)


def hint(text: object) -> None:
    """The next command, after a blank line; only for a person at a terminal."""
    if is_terminal(sys.stderr) and is_terminal(sys.stdout):
        print(f"\n{harmless(text)}", file=sys.stderr, flush=True)


def complain(sentence: object, next_step: object = "", code: str | None = None) -> None:
    """An error: what is wrong, and what to do; for a program (`code`) as one JSON object."""
    if code is not None:
        problem = {"code": code, "sentence": str(sentence), "next_step": str(next_step)}
        print(json.dumps(problem, separators=(", ", ": ")), file=sys.stderr, flush=True)
        return
    print(f"{coloured('error:', 'red', sys.stderr)} {harmless(sentence)}", file=sys.stderr)
    if next_step:
        print(harmless(next_step), file=sys.stderr)
    sys.stderr.flush()


@contextmanager
def working(text: str) -> Iterator[None]:
    """Shows that something takes its time; only on a terminal."""
    if not is_terminal(sys.stderr):
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(harmless(text)):
        yield
