"""``valetkey partner``: partners, and what was agreed with them."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import click

from valetkey.cli.client import connect, segment
from valetkey.cli.failure import ExitCode, Failure
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
MAX_BYTES = 262_144


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
    answer = connect().post("/partners", {"name": name, "agreement": _read(file)})
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
    answer = connect().put(f"/partners/{segment(name)}/agreement{revived}", _read(file))
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


def _read(file: str) -> dict[str, Any]:
    path = Path(file).expanduser()
    try:
        with path.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise Failure(
            f"{file} cannot be read ({error.strerror}).", "Name the file with the agreement.", ExitCode.USAGE
        ) from None
    try:
        if len(content) > MAX_BYTES:
            raise ValueError("it is too long")
        table = tomllib.loads(content.decode())
    except ValueError as error:
        raise _wrong(f"{file} is no TOML: {error}.") from None
    except RecursionError:
        raise _wrong(f"{file} is no agreement: it is nested too deeply.") from None
    try:
        # Days may stand there without quotes: the API takes them as text.
        written: dict[str, Any] = json.loads(json.dumps(table, default=str, allow_nan=False))
    except ValueError:
        raise _wrong(f"{file} is no agreement: nan and inf are no value of any field.") from None
    except RecursionError:
        raise _wrong(f"{file} is no agreement: it is nested too deeply.") from None
    return written


def _wrong(sentence: str) -> Failure:
    return Failure(sentence, "See docs/formats/agreement.md for one that is.", ExitCode.USAGE)


def _show(view: dict[str, Any]) -> None:
    for sentence in view["sentences"]:
        say(f"  {sentence}")


def _cut(answer: dict[str, Any]) -> str:
    cut = answer["cut"]
    return f"{counted(cut, 'open exchange was', 'open exchanges were')} cut." if cut else ""
