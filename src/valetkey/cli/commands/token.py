"""``valetkey token``: how a program reaches the control API from where it is not the local owner."""

from __future__ import annotations

import time

import click

from valetkey.cli.client import connect, segment
from valetkey.cli.figures import relative
from valetkey.cli.grammar import given, group, json_flag
from valetkey.cli.tables import Column, draw, state
from valetkey.cli.terminal import hint, say, say_json


@group("token", examples=("valetkey token issue deploy-bot", "valetkey token list"))
def token() -> None:
    """Tokens for programs that manage this server."""


@token.command("issue", examples=("valetkey token issue deploy-bot --label nightly",))
@click.argument("party", metavar="PARTY")
@click.option("--label", metavar="L", help="What it is for.")
@json_flag
def issue(party: str, label: str | None, as_json: bool) -> None:
    """Make a token that may do everything here but make and revoke tokens.

    A party that is not known is made, as an application.
    """
    answer = connect().post("/tokens", given(party=party, label=label))
    if as_json:
        say_json(answer)
        return
    if answer.get("party_made"):
        say(f"{answer['party']} was not known and is made, as an application.")
        say()
    say(answer["token"])
    say()
    say("Whoever has it may do everything here but make and revoke tokens.")
    say("It is shown this once. Put it into a file that only its program reads, and there:")
    say("  export VALETKEY_URL=https://HOST:8200 VALETKEY_TOKEN_FILE=FILE")
    hint(f"Take it back: valetkey token revoke {answer['id']}")


@token.command("list", examples=("valetkey token list",))
@json_flag
def list_tokens(as_json: bool) -> None:
    """List all tokens, newest first."""
    answer = connect().get("/tokens")
    if as_json:
        say_json(answer)
        return
    if not answer["items"]:
        say("There are no tokens yet.")
        say("Make the first: valetkey token issue PARTY")
        return
    now = time.time()
    draw(
        ("ID", Column("PARTY", 0, 8), Column("LABEL", 2, 8), "LAST 4", Column("MADE", 1), "STATE"),
        (
            (
                t["id"],
                t["party"],
                t["label"] or "-",
                t["last4"],
                relative(t["created"], now),
                state("active" if t["revoked"] is None else "revoked"),
            )
            for t in answer["items"]
        ),
    )
    hint("End one: valetkey token revoke ID")


@token.command("revoke", examples=("valetkey token revoke tok_8f3k2m",))
@click.argument("token_id", metavar="ID")
@json_flag
def revoke(token_id: str, as_json: bool) -> None:
    """End a token; it is refused from its next request on."""
    answer = connect().post(f"/tokens/{segment(token_id)}/revoke")
    if as_json:
        say_json(answer)
        return
    say(f"The token of {answer['party']} is revoked.")
