"""What a terminal shows that a pipe does not: colours and the next command."""

from __future__ import annotations

import json
import os
import pty
import sys
from pathlib import Path

import pytest
from cli_fake_api import FakeApi

TOKEN = {"id": "t", "party": "bot", "label": "", "last4": "aB3x", "created": 1.0, "revoked": None}


def on_a_terminal(home: Path, *arguments: str, **environment: str) -> tuple[int, bytes]:
    """Run a command with all its streams on a pseudo-terminal; its exit code and all that was shown."""
    child, terminal = pty.fork()
    if child == 0:
        os.execve(
            sys.executable,
            [sys.executable, "-m", "valetkey", *arguments],
            {
                "VALETKEY_HOME": str(home),
                "TERM": "xterm-256color",
                "COLUMNS": "200",
                "PATH": os.defpath,
                **environment,
            },
        )
    seen = b""
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # Linux says so when the other side is closed
            break
        if not piece:
            break
        seen += piece
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), seen


@pytest.mark.real
def test_colours_and_hints_are_for_terminals_that_want_them(api: FakeApi, home: Path) -> None:
    api.answer("GET", "/tokens", {"items": [TOKEN], "next": None})
    code, seen = on_a_terminal(home, "token", "list")
    assert code == 0
    assert b"\x1b[32mactive" in seen
    assert seen.rstrip().endswith(b"End one: valetkey token revoke ID")
    code, seen = on_a_terminal(home, "token", "list", NO_COLOR="1")
    assert b"\x1b" not in seen
    code, seen = on_a_terminal(home, "token", "list", "--json")
    assert json.loads(seen)["items"] == [TOKEN]
