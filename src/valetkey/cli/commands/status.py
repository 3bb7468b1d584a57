"""``valetkey status``: how the server is."""

from __future__ import annotations

import click

from valetkey.cli.client import connect
from valetkey.cli.grammar import Command, json_flag
from valetkey.cli.tables import draw, facts, number, state
from valetkey.cli.terminal import hint, say, say_json, say_state


@click.command("status", cls=Command, examples=("valetkey status", "valetkey status --json"))
@json_flag
def status(as_json: bool) -> None:
    """Say how the server is."""
    answer = connect().get("/status")
    if as_json:
        say_json(answer)
        return
    say_state(f"Valetkey {answer['version']}: ", "ready" if answer["ready"] else "not ready")
    for missing in answer.get("missing") or ():
        say(f"  {missing}")
    for degraded in answer.get("degraded") or ():
        say(f"  {degraded}")
    say()
    facts(
        (
            ("home", str(answer["home"])),
            ("gateway port", str(answer["gateway_port"])),
            ("control port", str(answer["control_port"])),
            ("keys", str(answer.get("keys") or "")),
        )
    )
    workers = answer.get("workers") or ()
    if workers:
        say()
        draw(
            ("WORKER", "PROCESS", "GENERATION", "STATE"),
            (
                (
                    number(w["slot"]),
                    number(w.get("pid") or "-"),
                    number(w["generation"]),
                    state("ready" if w["ready"] else "starting"),
                )
                for w in workers
            ),
        )
    hint("See calls as they come: valetkey events --follow")
