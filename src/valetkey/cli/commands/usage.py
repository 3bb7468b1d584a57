"""``valetkey usage``: how much each key is used; for one key also from where and by what."""

from __future__ import annotations

import time
from typing import Any

import click

from valetkey.cli.client import connect, refuse_plain_key, segment
from valetkey.cli.figures import money, relative, size, sparkline
from valetkey.cli.grammar import Command, json_flag
from valetkey.cli.tables import Cell, Column, draw, number
from valetkey.cli.terminal import colour_of, hint, say, say_json

MAX_HOURS = 744
"""A month: what the server keeps together hour by hour."""


_COLUMNS = (
    Column("KEY"),
    Column("LABEL", 5, 8),
    Column("HOLDER", 6, 8),
    Column("SERVICE", 4, 8),
    Column("CALLS"),
    Column("REFUSED"),
    Column("IN", 1),
    Column("OUT", 2),
    Column("COST"),
    Column("OVER TIME", 3),
)


@click.command(
    "usage",
    cls=Command,
    examples=("valetkey usage", "valetkey usage --key key_8f3k2m --hours 168", "valetkey usage --json"),
)
@click.option("--key", metavar="ID", help="Only this key, with addresses and user agents.")
@click.option(
    "--hours", type=click.IntRange(1, MAX_HOURS), metavar="N", help="Of the last so many hours (24)."
)
@json_flag
def usage(key: str | None, hours: int | None, as_json: bool) -> None:
    """How much each key is used, and from where."""
    refuse_plain_key(key)
    client = connect()
    answer = client.get("/usage", key=key, hours=hours)
    if as_json:
        say_json(answer)
        return
    items = answer["items"]
    if not items:
        if key is not None:
            client.get(f"/keys/{segment(key)}")  # an id that names nothing is told as such
        say("That key was not used in this time." if key else "No key was used in this time.")
        hint("Look further back: valetkey usage --hours 720")
        return
    now = time.time()
    draw(
        _COLUMNS,
        (_row(item) for item in items),
    )
    if key:
        # The lists may stand beside the items or in the one item.
        _details({**items[0], **answer}, now)
    else:
        hint("Look at one: valetkey usage --key ID")


def _row(item: dict[str, Any]) -> tuple[str | Cell, ...]:
    refused = item.get("refused") or 0
    return (
        item.get("key_id") or "no key of ours",
        item.get("label") or "-",
        item.get("holder") or "-",
        item.get("service") or "-",
        number(item.get("calls", 0)),
        Cell(str(refused), "red" if refused else None, right=True),
        number(size(item.get("bytes_in"))),
        number(size(item.get("bytes_out"))),
        number(money(item.get("cost"))),
        sparkline(item.get("hours") or ()),
    )


def _details(item: dict[str, Any], now: float) -> None:
    codes: dict[str, int] = item.get("codes") or {}
    if codes:
        say()
        draw(
            ("CODE", "CALLS"),
            (
                (Cell(code, colour_of(code)), number(count))
                for code, count in sorted(codes.items(), key=lambda c: -c[1])
            ),
        )
    for heading, name in (("ADDRESS", "addresses"), ("USER AGENT", "agents")):
        seen: list[dict[str, Any]] = item.get(name) or []
        if seen:
            say()
            draw(
                (Column(heading, 0, 15), "CALLS", Column("FIRST", 1), "LAST"),
                (
                    (
                        s.get("value") or "-",
                        number(s.get("calls", 0)),
                        relative(s.get("first"), now),
                        relative(s.get("last"), now),
                    )
                    for s in sorted(seen, key=lambda s: -(s.get("last") or 0))
                ),
            )
    hint(f"See the calls: valetkey events --key {item.get('key_id') or 'ID'}")
