"""``valetkey network``: names for address blocks, interfaces and our own addresses, which keys use instead."""

from __future__ import annotations

from typing import Any

import click

from valetkey.cli.client import connect, segment
from valetkey.cli.failure import ExitCode, Failure
from valetkey.cli.grammar import given, group, json_flag
from valetkey.cli.tables import Column, draw
from valetkey.cli.terminal import hint, say, say_json, warn

MAX_INTERFACE = 15
"""IFNAMSIZ of linux/if.h, without its NUL."""


@group("network", examples=("valetkey network add office 203.0.113.0/24", "valetkey network list"))
def network() -> None:
    """Names for where calls come from."""


@network.command(
    "add",
    examples=(
        "valetkey network add office 203.0.113.0/24 2001:db8:7::/48",
        "valetkey network add vpn --interface wg0",
        "valetkey network add inside --listener 10.0.0.1:8300",
    ),
)
@click.argument("name", metavar="NAME")
@click.argument("blocks", metavar="[CIDR]...", nargs=-1)
@click.option("--interface", metavar="I", help="The networks of the server's interface, at any time.")
@click.option(
    "--listener", metavar="ADDRESS[:PORT]", help="Whoever calls the gateway at this address of its machine."
)
@json_flag
def add(
    name: str, blocks: tuple[str, ...], interface: str | None, listener: str | None, as_json: bool
) -> None:
    """Give a name to address blocks, to an interface or to a listener's address; a name that exists gets this instead.

    A network by interface follows the addresses of that interface: keys that name it are held to the new ones as
    soon as they change.
    """
    kinds = bool(blocks) + (interface is not None) + (listener is not None)
    if kinds != 1:
        raise Failure(
            "Too many kinds of addresses were given." if kinds else "It is not said which addresses.",
            "Give address blocks, or --interface NAME, or --listener ADDRESS.",
            ExitCode.USAGE,
        )
    if interface is not None and len(interface) > MAX_INTERFACE:
        # It may be a key that was pasted: it goes nowhere.
        raise Failure(
            f"An interface's name has at most {MAX_INTERFACE} characters.",
            "See those of the server's machine: ip address",
            ExitCode.USAGE,
        )
    body = given(name=name, blocks=list(blocks) or None, interface=interface, listener=listener)
    answer = connect().post("/networks", body)
    if as_json:
        say_json(answer)
        return
    before = answer.get("before")
    was = "" if before is None else f"was {_meant(before)}, "
    now = "now " if was else ""
    say(f"{name} {was}is {now}{_meant(answer)}. Keys that name it follow at their next call.")
    for warning in answer.get("warnings") or ():
        warn(warning)
    if interface is not None and not answer["blocks"]:
        warn(f"{interface} has no address now, so nobody is in {name} until it has.")
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
    draw(("NAME", Column("WHERE", 0, 20)), ((n["name"], _meant(n)) for n in answer["items"]))
    hint("Tie a key to one: valetkey key change ID --network NAME")


@network.command("remove", examples=("valetkey network remove office",))
@click.argument("name", metavar="NAME")
@json_flag
def remove(name: str, as_json: bool) -> None:
    """Forget a name; no key and no agreement may name it any more."""
    answer = connect().delete(f"/networks/{segment(name)}")
    if as_json:
        say_json(answer)
        return
    say(f"{name} is removed. It was {_meant(answer)}.")


def _meant(network: dict[str, Any]) -> str:
    blocks = ", ".join(network["blocks"])
    if network.get("listener") is not None:
        return f"whoever calls at {network['listener']}"
    if network.get("interface") is not None:
        return f"interface {network['interface']}: {blocks or 'no address now'}"
    return blocks
