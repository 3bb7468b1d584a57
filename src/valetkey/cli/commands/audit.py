"""``valetkey audit``: what was done by whom, and the proof that the journal is whole."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from valetkey.cli.client import Client, connect
from valetkey.cli.commands.audit_record import checked_public_key, erase, proof
from valetkey.cli.failure import ExitCode, NoServer
from valetkey.cli.figures import clock, zone
from valetkey.cli.grammar import group, json_flag, paging, repeated
from valetkey.cli.tables import Column, draw
from valetkey.cli.terminal import hint, say, say_json, say_state, working


@group("audit", examples=("valetkey audit list", "valetkey audit verify"))
def audit() -> None:
    """What was done by whom, and the proof of it."""


audit.add_command(proof)
audit.add_command(erase)


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
        (
            f"TIME ({zone(now)})",
            Column("ID", 3),
            "ACTION",
            Column("SUBJECT", 0, 24),
            Column("ACTOR", 2, 8),
            Column("OUTCOME", 1),
        ),
        (
            (
                clock(a["time"], now),
                a.get("id") or "-",
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
        f"Older ones: {repeated('valetkey audit list', limit=limit, cursor=following)}"
        if following
        else "Prove it: valetkey audit verify"
    )


@audit.command(
    "verify",
    examples=(
        "valetkey audit verify",
        "valetkey audit verify --json",
        "valetkey audit verify --witness /mnt/other-disk/valetkey-witness",
        "VALETKEY_HOME=copy valetkey audit verify --key 3b6a27bc... --witness witness.jsonl",
    ),
)
@click.option(
    "--witness",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Check it against what a witness outside holds.",
)
@click.option(
    "--key",
    "public_key",
    metavar="PUBLICKEY",
    callback=checked_public_key,
    help="Prove a copy of the data folder's journal with this public key alone.",
)
@json_flag
def verify(witness: Path | None, public_key: str | None, as_json: bool) -> int:
    """Prove the journal; works without a server too.

    Integrity: no record was changed. Completeness: none is missing. Each is ok, broken or unproven. Whoever holds
    the signing key can write a journal anew: only a witness outside shows that.
    """
    client = connect()
    with working("Verifying every record of the journal"):
        report = _verify(client, None if witness is None else witness.expanduser().absolute(), public_key)
    if as_json:
        say_json(report)
    else:
        _tell(report, witness)
    broken = "broken" in (report["integrity"], report["completeness"])
    return ExitCode.FAILED if broken else ExitCode.DONE


def _verify(client: Client, witness: Path | None, public_key: str | None) -> dict[str, Any]:
    if public_key is not None:
        from valetkey.server.offline import verify_copy

        return verify_copy(client.home, public_key, witness)
    try:
        # A long journal takes as long as it takes.
        body = None if witness is None else {"witness": str(witness)}
        report: dict[str, Any] = client.post("/audit/verify", body, patience=None)
    except NoServer:
        if client.remote is not None or not client.home.exists or client.home.holder() is not None:
            raise
        from valetkey.server.offline import verify_home

        report = verify_home(client.home, witness)
    return report


_FINDINGS = {
    "changed": "a record was changed after it was written",
    "removed": "a record was taken out",
    "reordered": "records stand in another order than they were written",
    "truncated": "records are missing at the end",
    "personal changed": "an address or user agent was changed",
    "personal removed": "an address or user agent was taken out without an erasure on record",
    "segment missing": "a whole file of the journal is missing",
    "stranger": "there is a file that is not of this journal",
    "checkpoint signature bad": "the signature of a checkpoint is wrong",
    "checkpoint missing": "a signed checkpoint is missing",
    "rewritten": "it is not what the witness saw",
    "witness bad": "a line of the witness proves nothing",
    "unproven": "this cannot be proved yet",
}
"""What was found, in words; other words of a newer server are shown as they are."""


def _tell(report: dict[str, Any], witness: Path | None) -> None:
    verdicts = (str(report["integrity"]), str(report["completeness"]))
    say_state("integrity     ", verdicts[0])
    say_state("completeness  ", verdicts[1])
    say(f"records       {report['records']}")
    if witness is not None:
        agreeing = report.get("witnessed", 0)
        say(f"witness       {agreeing} {'checkpoint agrees' if agreeing == 1 else 'checkpoints agree'}")
    if report.get("public_key"):
        say(f"signed by     {report['public_key']}")
    problems = report.get("problems") or ()
    if problems:
        say()
        for problem in problems:
            say(f"  {_sentence(problem)}")
        if report.get("more_problems"):
            say(f"  and {report['more_problems']} more")
    for step in _next_steps(report, verdicts):
        say()
        say(step)


def _next_steps(report: dict[str, Any], verdicts: tuple[str, str]) -> list[str]:
    if "broken" in verdicts:
        return [
            "Keep a copy of the data folder before anything else touches it, and compare it with the newest backup."
        ]
    if "unproven" not in verdicts:
        return []
    if not report["records"]:
        return [
            "Nothing was recorded yet, so there is nothing to prove. The first start of the server begins the record."
        ]
    if not report.get("checkpoints"):
        return [
            "No signed checkpoint covers these records yet. Start the server: it signs one within a second."
        ]
    return [
        "The newest records are not covered by a signed checkpoint. Start the server and verify again: it signs one."
    ]


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
    found = str(problem.get("what") or "")
    detail = str(problem.get("detail") or "").strip()
    what = " ".join(part for part in (f"{_FINDINGS.get(found, found)}.", detail) if part)
    return f"{where}: {what}" if where else what
