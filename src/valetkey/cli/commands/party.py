"""``valetkey party``: who keys belong to."""

from __future__ import annotations

import click

from valetkey.cli.client import connect
from valetkey.cli.grammar import group, json_flag
from valetkey.cli.tables import Column, draw
from valetkey.cli.terminal import hint, say, say_json


@group("party", examples=("valetkey party add ana", "valetkey party list"))
def party() -> None:
    """People, machines and applications that hold keys."""


@party.command("add", examples=("valetkey party add ana", "valetkey party add ci-runner --kind machine"))
@click.argument("name", metavar="NAME")
@click.option(
    "--kind",
    type=click.Choice(("person", "machine", "application", "partner")),
    default="person",
    show_default=True,
    help="What it is.",
)
@json_flag
def add(name: str, kind: str, as_json: bool) -> None:
    """Make a party known."""
    answer = connect().post("/parties", {"name": name, "kind": kind})
    if as_json:
        say_json(answer)
        return
    say(f"{name} is known as {'an' if kind == 'application' else 'a'} {kind}.")
    hint(f"Next: valetkey key issue SERVICE --holder {name}")


@party.command("list", examples=("valetkey party list",))
@json_flag
def list_parties(as_json: bool) -> None:
    """List all parties."""
    answer = connect().get("/parties")
    if as_json:
        say_json(answer)
        return
    if not answer["items"]:
        say("There are no parties yet.")
        say("Add the first: valetkey party add ana")
        return
    draw((Column("NAME", 0, 12), "KIND", "ID"), ((p["name"], p["kind"], p["id"]) for p in answer["items"]))
    hint("See what one holds: valetkey key list --holder NAME")
