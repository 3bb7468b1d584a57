"""``valetkey network``: names for address blocks, which keys use instead of the blocks."""

from __future__ import annotations

import click

from valetkey.cli.client import connect
from valetkey.cli.failure import ExitCode, Failure
from valetkey.cli.grammar import group, json_flag
from valetkey.cli.tables import Column, draw
from valetkey.cli.terminal import hint, say, say_json


@group("network", examples=("valetkey network add office 203.0.113.0/24", "valetkey network list"))
def network() -> None:
    """Names for address blocks."""


@network.command(
    "add",
    examples=(
        "valetkey network add office 203.0.113.0/24 2001:db8:7::/48",
        "valetkey network add vpn --interface wg0",
    ),
)
@click.argument("name", metavar="NAME")
@click.argument("blocks", metavar="[CIDR]...", nargs=-1)
@click.option("--interface", metavar="I", help="The networks of this machine's interface, as they are now.")
@json_flag
def add(name: str, blocks: tuple[str, ...], interface: str | None, as_json: bool) -> None:
    """Give a name to address blocks; a name that exists gets these instead."""
    if (interface is None) == (not blocks):
        raise Failure(
            "It is not said which addresses.", "Give address blocks, or --interface NAME.", ExitCode.USAGE
        )
    if interface is not None:
        from valetkey.cli.interface import networks_of

        blocks = networks_of(interface)
    answer = connect().post("/networks", {"name": name, "blocks": list(blocks)})
    if as_json:
        say_json(answer)
        return
    say(f"{name} is {', '.join(answer['blocks'])}. Keys that name it follow at their next call.")
    hint(f"Next: valetkey key issue SERVICE --network {name}")


@network.command("list", examples=("valetkey network list",))
@json_flag
def list_networks(as_json: bool) -> None:
    """List all named networks."""
    answer = connect().get("/networks")
    if as_json:
        say_json(answer)
        return
    if not answer["items"]:
        say("There are no named networks yet.")
        say("Add the first: valetkey network add office 203.0.113.0/24")
        return
    draw(("NAME", Column("BLOCKS", 0, 20)), ((n["name"], ", ".join(n["blocks"])) for n in answer["items"]))
    hint("Tie a key to one: valetkey key change ID --network NAME")
