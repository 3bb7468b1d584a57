"""``valetkey audit``: what was done by whom, and the proof that the journal is whole."""

from __future__ import annotations

import os
import time
from typing import Any

from valetkey.cli.client import Client, connect
from valetkey.cli.failure import ExitCode, NoServer
from valetkey.cli.figures import clock
from valetkey.cli.grammar import group, json_flag, paging
from valetkey.cli.tables import draw
from valetkey.cli.terminal import hint, say, say_json, say_state, working


@group("audit", examples=("valetkey audit list", "valetkey audit verify"))
def audit() -> None:
    """What was done by whom, and the proof of it."""


@audit.command("list", examples=("valetkey audit list", "valetkey audit list --limit 10 --json"))
@paging
@json_flag
def list_audit(limit: int | None, cursor: str | None, as_json: bool) -> None:
    """List management actions, newest first."""
    answer = connect().page("/audit", {}, limit=limit, cursor=cursor)
    if as_json:
        say_json(answer)
        return
    if not answer["items"]:
        say("Nothing was done yet.")
        say("Begin: valetkey service add openai --preset openai")
        return
    now = time.time()
    draw(
        ("TIME", "ACTION", "SUBJECT", "ACTOR", "OUTCOME"),
        (
            (
                clock(a["time"], now),
                a["action"],
                a.get("subject") or "-",
                a.get("actor") or "-",
                a.get("outcome") or "-",
            )
            for a in answer["items"]
        ),
    )
    following = answer.get("next")
    hint(
        f"Older ones: valetkey audit list --cursor {following}"
        if following
        else "Prove it: valetkey audit verify"
    )


@audit.command("verify", examples=("valetkey audit verify", "valetkey audit verify --json"))
@json_flag
def verify(as_json: bool) -> int:
    """Prove the journal; works without a server too.

    Integrity: no record was changed. Completeness: none is missing. Each is ok, broken or unproven.
    """
    client = connect()
    with working("Verifying every record of the journal"):
        report = _verify(client)
    if as_json:
        say_json(report)
    else:
        _tell(report)
    broken = "broken" in (report["integrity"], report["completeness"])
    return ExitCode.FAILED if broken else ExitCode.DONE


def _verify(client: Client) -> dict[str, Any]:
    try:
        # A long journal takes as long as it takes.
        report: dict[str, Any] = client.post("/audit/verify", patience=None)
    except NoServer:
        if client.remote is not None or not client.home.exists:
            raise
        from valetkey.server.offline import verify_home

        report = verify_home(client.home)
    return report


def _tell(report: dict[str, Any]) -> None:
    say_state("integrity     ", str(report["integrity"]))
    say_state("completeness  ", str(report["completeness"]))
    say(f"records       {report['records']}")
    problems = report.get("problems") or ()
    if problems:
        say()
        for problem in problems:
            say(f"  {_sentence(problem)}")
        if report.get("more_problems"):
            say(f"  and {report['more_problems']} more")
        if os.environ.get("VALETKEY_URL") is None:
            hint("Keep a copy of the data folder before anything else touches it.")


def _sentence(problem: Any) -> str:
    if not isinstance(problem, dict):
        return str(problem)
    place = problem.get("segment")
    where = (
        ""
        if place is None
        else str(place)
        if problem.get("seq") is None
        else f"{place}, record {problem['seq']}"
    )
    what = " ".join(str(problem[name]) for name in ("what", "detail") if problem.get(name))
    return f"{where}: {what}" if where else what
