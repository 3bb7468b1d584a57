"""``valetkey partner``: partners, and what was agreed with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from valetkey.cli.client import connect, segment
from valetkey.cli.commands.agreement_file import in_words_of_the_file, read_agreement
from valetkey.cli.failure import Failure
from valetkey.cli.figures import counted, day_and_time
from valetkey.cli.grammar import group, json_flag
from valetkey.cli.tables import Column, draw, state
from valetkey.cli.terminal import hint, say, say_json, say_state, warn

_NAME = click.argument("name", metavar="NAME")
_AGREEMENT = click.option(
    "--agreement",
    "file",
    metavar="FILE",
    required=True,
    help="What was agreed, in TOML: docs/formats/agreement.md.",
)


@group(
    "partner",
    examples=("valetkey partner add acme --agreement acme.toml", "valetkey partner list"),
)
def partner() -> None:
    """Partners, and what was agreed with them."""


@partner.command("add", examples=("valetkey partner add acme --agreement acme.toml",))
@_NAME
@_AGREEMENT
@json_flag
def add(name: str, file: str, as_json: bool) -> None:
    """Make a partner known with its agreement: every key it holds stays within it and dies with it."""
    client = connect()
    answer = _send(file, lambda written: client.post("/partners", {"name": name, "agreement": written}))
    if as_json:
        say_json(answer)
        return
    say(f"{name} is a partner. What was agreed:")
    _show(answer)
    hint(f"Next: valetkey key issue SERVICE --kind partner --holder {name}")


@partner.command(
    "change",
    examples=(
        "valetkey partner change acme --agreement acme-2028.toml",
        "valetkey partner change acme --agreement acme-2028.toml --revive",
    ),
)
@_NAME
@_AGREEMENT
@click.option("--revive", is_flag=True, help="Also if it was ended: the partner's keys live again.")
@json_flag
def change(name: str, file: str, revive: bool, as_json: bool) -> None:
    """Put another agreement in the place of the one there is; in force when this returns."""
    revived = "?revive=true" if revive else ""
    client, path = connect(), f"/partners/{segment(name)}/agreement{revived}"
    answer = _send(file, lambda written: client.put(path, written))
    if as_json:
        say_json(answer)
        return
    say(f"Changed; it is in force. {_cut(answer)}".rstrip())
    _show(answer["partner"])
    for note in answer["partner"].get("notes") or ():
        warn(note)


@partner.command("end", examples=("valetkey partner end acme",))
@_NAME
@json_flag
def end(name: str, as_json: bool) -> None:
    """End an agreement before its time: every key of the partner is dead when this returns."""
    answer = connect().post(f"/partners/{segment(name)}/end", {})
    if as_json:
        say_json(answer)
        return
    say(f"The agreement with {name} has ended, and its keys are dead. {_cut(answer)}".rstrip())


@partner.command("show", examples=("valetkey partner show acme",))
@_NAME
@json_flag
def show(name: str, as_json: bool) -> None:
    """Show one partner."""
    answer = connect().get(f"/partners/{segment(name)}")
    if as_json:
        say_json(answer)
        return
    title = answer["agreement"].get("title")
    say_state(f"{name}{f', {title}' if title else ''}: ", answer["state"])
    _show(answer)
    if answer["ended"] is not None:
        say(f"  Ended on {day_and_time(answer['ended'])}.")
    contact = answer["agreement"].get("contact") or {}
    reached = ", ".join(contact[part] for part in ("name", "email", "phone") if contact.get(part))
    if reached:
        say(f"  Contact: {reached}.")
    hint(f"Its keys: valetkey key list --holder {name}")


@partner.command("list", examples=("valetkey partner list",))
@json_flag
def list_partners(as_json: bool) -> None:
    """List all partners."""
    answer = connect().get("/partners")
    if as_json:
        say_json(answer)
        return
    if not answer["items"]:
        say("There are no partners yet.")
        say("Add the first: valetkey partner add NAME --agreement FILE.toml")
        return
    draw(
        (Column("NAME", 0, 12), "SERVICES", "UNTIL", "STATE"),
        (
            (
                one["name"],
                ", ".join(service["name"] for service in one["agreement"]["services"]),
                day_and_time(one["ends"]),
                state(one["state"]),
            )
            for one in answer["items"]
        ),
    )
    hint("Look at one: valetkey partner show NAME")


def _send(file: str, send: Callable[[dict[str, Any]], Any]) -> Any:
    written = read_agreement(file)
    try:
        return send(written)
    except Failure as refused:
        raise in_words_of_the_file(file, written, refused) from None


def _show(view: dict[str, Any]) -> None:
    for sentence in view["sentences"]:
        say(f"  {sentence}")


def _cut(answer: dict[str, Any]) -> str:
    cut = answer["cut"]
    return f"{counted(cut, 'open exchange was', 'open exchanges were')} cut." if cut else ""
