"""The flags that tie a temporary key to a session, and which process that is."""

from __future__ import annotations

import os
from typing import Any

import click

from valetkey.cli.client import Client
from valetkey.cli.failure import ExitCode, Failure
from valetkey.cli.grammar import Decorated
from valetkey.processes import running_process

_NAME_ONE = "Name a process that is to stand for it: --session-pid $$"


def session_flags(function: Decorated) -> Decorated:
    """Adds ``--with-session`` and ``--session-pid``."""
    function = click.option(
        "--session-pid",
        type=click.IntRange(1),
        metavar="PID",
        help="End with this process of the machine instead; $$ is the script that asks.",
    )(function)
    return click.option(
        "--with-session",
        is_flag=True,
        help="End with the sign-in that asks: this terminal's, or the API token.",
    )(function)


def session_of(client: Client, with_session: bool, pid: int | None) -> dict[str, Any]:
    """The part of the body that says so. Raises `Failure`."""
    if pid is not None and not with_session:
        raise Failure("--session-pid goes with --with-session.", "Give both, or none.", ExitCode.USAGE)
    if not with_session:
        return {}
    if client.remote is not None:
        if pid is not None:
            raise Failure(
                "A process can be named on the server's machine only.",
                "Leave out --session-pid: the key ends with the API token.",
                ExitCode.USAGE,
            )
        return {"with_session": True}
    # The leader of the session: the shell of the sign-in, the job's or the service's first process. Not the parent,
    # which may be some wrapper or subshell that is gone a moment later.
    asked = pid or os.getsid(0)
    found = running_process(asked)
    if found is None:
        raise Failure(
            "There is no such process here." if pid else "This terminal's sign-in cannot be told.",
            _NAME_ONE,
        )
    return {"with_session": True, "session_process": {"pid": found.pid, "started": found.started}}
