"""``valetkey key list`` and ``key find``: which keys there are, and which one a plain key is."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from valetkey.cli.client import Client, connect, segment
from valetkey.cli.commands.key_view import life_of, show_key
from valetkey.cli.failure import Failure
from valetkey.cli.figures import end
from valetkey.cli.grammar import Command, json_flag, paging, repeated
from valetkey.cli.tables import Cell, Column, draw, state
from valetkey.cli.terminal import hint, say, say_json
from valetkey.nearest import did_you_mean

MAX_KEY = 1000
"""Bytes that are read as a key: ten times the longest."""

_COLUMNS = (
    Column("ID"),
    Column("SERVICE", 4, 8),
    Column("HOLDER", 0, 8),
    Column("LABEL", 3, 8),
    Column("KIND", 1),
    Column("LAST 4", 5),
    Column("STATE"),
    Column("EXPIRES", 2),
)


@click.command(
    "list",
    cls=Command,
    examples=(
        "valetkey key list",
        "valetkey key list --holder ana --state active",
        "valetkey key list --last4 YsVd",
    ),
)
@click.option("--service", metavar="S", help="Keys of this service.")
@click.option("--holder", metavar="PARTY", help="Keys of this party.")
@click.option(
    "--state",
    "in_state",
    type=click.Choice(("active", "suspended", "revoked", "expired", "exposed")),
    help="Keys in this state.",
)
@click.option("--last4", metavar="XXXX", help="Keys that end in these four characters.")
@paging
@json_flag
def list_keys(
    service: str | None,
    holder: str | None,
    in_state: str | None,
    last4: str | None,
    limit: int | None,
    cursor: str | None,
    as_json: bool,
) -> None:
    """List keys, newest first."""
    filters = {"service": service, "holder": holder, "state": in_state, "last4": last4}
    client = connect()
    answer = client.page("/keys", filters, limit=limit, cursor=cursor)
    if as_json:
        say_json(answer)
        return
    if not answer["items"]:
        if any(filters.values()) or cursor:
            _refuse_unknown(client, service, holder)
            say("No key is like that.")
            hint("See all: valetkey key list")
            return
        say("There are no keys yet.")
        say("Issue the first: valetkey key issue SERVICE")
        return
    now = time.time()
    columns: tuple[Column, ...] = _COLUMNS
    rows = [_row(key, now) for key in answer["items"]]
    if any(key.get("parent") for key in answer["items"]):
        columns = (*columns, Column("DERIVED FROM", 1))
        rows = [(*row, key.get("parent") or "-") for row, key in zip(rows, answer["items"], strict=True)]
    draw(columns, rows)
    following = answer.get("next")
    again = repeated("valetkey key list", **filters, limit=limit, cursor=following)
    hint(f"More: {again}" if following else "Look at one: valetkey key show ID")


def _row(key: dict[str, Any], now: float) -> tuple[str | Cell, ...]:
    life = life_of(key, now)
    return (
        key["id"],
        key["service"],
        key["holder"],
        key["label"] or "-",
        key["kind"],
        key["last4"],
        state(life),
        # What was revoked will not expire any more.
        "-" if life == "revoked" else end(key.get("expires")),
    )


def _refuse_unknown(client: Client, service: str | None, holder: str | None) -> None:
    """Raise `Failure` for a filter that names nothing: otherwise a slip of the pen looks like an empty list."""
    if service is not None:
        client.get(f"/services/{segment(service)}")
    if holder is not None:
        names = {party["name"] for party in client.get("/parties")["items"]}
        if holder not in names:
            meant = did_you_mean(holder, names)
            raise Failure("There is no party with that name.", f"{meant} See: valetkey party list".lstrip())


@click.command(
    "find",
    cls=Command,
    stray="A key never goes on the command line: give it when asked, or on standard input.",
    examples=("valetkey key find", "pass show found-key | valetkey key find --json"),
)
@json_flag
def find(as_json: bool) -> None:
    """Say which key a plain key is, living or dead. It is read unseen, or from standard input."""
    answer = connect().post("/keys/find", {"key": _key()})
    if as_json:
        say_json(answer)
        return
    show_key(answer)
    if answer["state"] != "revoked":
        hint(f"End it: valetkey key revoke {answer['id']}")
    else:
        hint(f"See its calls: valetkey events --key {answer['id']}")


def _key() -> str:
    if sys.stdin is None:
        raise Failure("Standard input is closed.", "Give the key on it.")
    if sys.stdin.isatty():
        return str(click.prompt("The key (it is not shown)", hide_input=True, err=True)).strip()
    content = sys.stdin.buffer.read(MAX_KEY + 1).strip()
    # An exception of a decoder would carry the key: look first.
    if not content or len(content) > MAX_KEY or not content.isascii():
        raise Failure("No key came in.", "Give one key alone on standard input.")
    return content.decode("ascii")
