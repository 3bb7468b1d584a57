"""``valetkey limit``: limits that several keys share."""

from __future__ import annotations

from typing import Any

import click

from valetkey.cli.client import connect
from valetkey.cli.commands.key_terms import LIMIT_FLAGS, LIMIT_SECTION, limit_flags, terms_of
from valetkey.cli.failure import ExitCode, Failure
from valetkey.cli.grammar import Command, given, group, json_flag
from valetkey.cli.tables import Column, draw
from valetkey.cli.terminal import hint, say, say_json


@group(
    "limit",
    examples=("valetkey limit change --holder ana --budget 20.00/month", "valetkey limit list"),
)
def limit() -> None:
    """Limits that the keys of a holder or service share."""


@limit.command(
    "change",
    cls=Command,
    examples=(
        "valetkey limit change --holder ana --budget 20.00/month",
        "valetkey limit change --service openai --rate 50/s --concurrency 100",
        "valetkey limit change --quota 100000/day",
        "valetkey limit change --holder ana --clear budget",
    ),
    sections={"Whose": ("holder", "service"), **LIMIT_SECTION, "Less": ("clear",)},
)
@click.option("--holder", metavar="PARTY", help="All keys of this holder together.")
@click.option("--service", metavar="S", help="All keys of this service together.")
@limit_flags
@click.option("--clear", multiple=True, type=click.Choice(LIMIT_FLAGS), help="Take this away. Repeatable.")
@json_flag
def change(
    holder: str | None, service: str | None, clear: tuple[str, ...], as_json: bool, **terms: Any
) -> None:
    """Limit what all keys of a holder, of a service, or all keys together may do.

    A call must fit into every limit that it meets: its key's own, its holder's, its service's and that of
    everything. What is given replaces what was there; the rest stays. It is in force at the next call.
    """
    if holder is not None and service is not None:
        raise Failure(
            "A limit belongs to a holder or to a service.",
            "Give one of --holder and --service.",
            ExitCode.USAGE,
        )
    changes = terms_of(terms, clear)
    if not changes:
        raise Failure("Nothing is to be changed.", "See: valetkey limit change --help", ExitCode.USAGE)
    answer = connect().patch("/limits", given(holder=holder, service=service, terms=changes))
    if as_json:
        say_json(answer)
        return
    say(f"{_whose(answer)}:")
    for sentence in answer["sentences"] or ["No limit of their own."]:
        say(f"  {sentence}")
    hint("See all: valetkey limit list")


@limit.command("list", examples=("valetkey limit list",))
@json_flag
def list_limits(as_json: bool) -> None:
    """List limits that keys share."""
    answer = connect().get("/limits")
    if as_json:
        say_json(answer)
        return
    if not answer["items"]:
        say("Keys share no limits: each has its own alone.")
        say("Set the first: valetkey limit change --holder NAME --quota 1000/day")
        return
    draw(
        ("SHARED BY", Column("LIMITS", 0, 20)),
        ((_whose(item), " ".join(item["sentences"])) for item in answer["items"]),
    )
    hint("Change one: valetkey limit change --holder NAME --rate 5/s")


def _whose(view: dict[str, Any]) -> str:
    level, name = view["level"], view.get("name")
    if level == "holder":
        return f"All keys of {name}"
    if level == "agreement":
        return f"All keys of {name}, as agreed"
    return f"All keys for {name}" if level == "service" else "All keys together"
