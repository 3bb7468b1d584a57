"""``valetkey doctor``: what is weak about this installation, and what mends it."""

from __future__ import annotations

import os
from itertools import groupby
from typing import Any

import click

from valetkey.cli.client import Client, connect
from valetkey.cli.failure import ExitCode, NoServer
from valetkey.cli.grammar import Command, json_flag
from valetkey.cli.terminal import say, say_json, say_state, warn, working
from valetkey.variables import about_unknown, unknown_variables

SHOWN = 5
"""Names of what a finding is about that a person is shown; `--json` has more."""
_WIDEST = len("serious")


@click.command("doctor", cls=Command, examples=("valetkey doctor", "valetkey doctor --json"))
@json_flag
def doctor(as_json: bool) -> int:
    """Find what is weak about this installation.

    Asks the server, or reads the data folder when none runs. Each finding is serious, weak or info, with what
    mends it. Exit code 1 when anything is weak or serious.
    """
    client = connect()
    with working("Looking around"):
        report = _examine(client)
    if report["server"] == "running":  # it has looked at its own environment, not at ours
        for name in unknown_variables(os.environ):
            warn(about_unknown(name))
    if as_json:
        say_json(report)
    else:
        _tell(report)
    return ExitCode.FAILED if report["severity"] in ("weak", "serious") else ExitCode.DONE


def _examine(client: Client) -> dict[str, Any]:
    try:
        report: dict[str, Any] = client.get("/doctor")
    except NoServer:
        if client.remote is not None or not client.home.exists or client.home.holder() is not None:
            raise
        import msgspec

        from valetkey.server.examining import examine_home

        report = msgspec.to_builtins(examine_home(client.home))
    return report


def _tell(report: dict[str, Any]) -> None:
    items = report["items"]
    if report["server"] != "running":
        say("No server is running: only the data folder was read.")
        say()
    if report["severity"] in ("ok", "info"):
        say_state("All is ", "ok", "." if not items else ", and this is good to know.")
    else:
        say(f"{_counted(items, 'serious')}, {_counted(items, 'weak')}, {_counted(items, 'info')}.")
    for area, findings in groupby(items, key=lambda finding: finding["area"]):
        say()
        say(area)
        for finding in findings:
            _tell_one(finding)
    say()
    say(f"Looked at: {', '.join(report['looked_at'])}.")
    for unseen in report["not_seen"]:
        say(f"Not looked at: {unseen['what']}. {unseen['why']}")


def _tell_one(finding: dict[str, Any]) -> None:
    severity = finding["severity"]
    say_state("  ", severity, f"{' ' * (_WIDEST - len(severity))}  {finding['sentence']}")
    subjects = finding["subjects"]
    if subjects:
        more = finding["count"] - len(subjects[:SHOWN])
        rest = f" and {more:,} more" if more > 0 else ""
        say(f"           {', '.join(subjects[:SHOWN])}{rest}")
    if finding["mend"]:
        say(f"           mend: {finding['mend']}")


def _counted(items: list[dict[str, Any]], severity: str) -> str:
    return f"{sum(1 for one in items if one['severity'] == severity):,} {severity}"
