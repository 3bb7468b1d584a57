"""``valetkey key``: show, check, suspend, resume, revoke. The others stand in `key_issue` and `key_list`."""

from __future__ import annotations

import time
from typing import Any

import click

from valetkey.cli.client import connect, segment
from valetkey.cli.commands.key_issue import change, derive, issue
from valetkey.cli.commands.key_list import find, list_keys
from valetkey.cli.commands.key_view import show_key
from valetkey.cli.figures import clock, counted, day_and_time, parse_moment
from valetkey.cli.grammar import given, group, json_flag
from valetkey.cli.terminal import hint, say, say_json, say_state

_ID = click.argument("key_id", metavar="ID")
_LET_FINISH = click.option("--let-finish", is_flag=True, help="Spare answers that are open now.")


@group(
    "key", examples=("valetkey key issue openai --holder ana", "valetkey key list", "valetkey key revoke ID")
)
def key() -> None:
    """Keys that you give out instead of the real ones."""


key.add_command(issue)
key.add_command(derive)


key.add_command(list_keys)
key.add_command(find)


@key.command("show", examples=("valetkey key show key_8f3k2m", "valetkey key show key_8f3k2m --value"))
@_ID
@click.option("--value", is_flag=True, help="The key itself; public keys only.")
@json_flag
def show(key_id: str, value: bool, as_json: bool) -> None:
    """Show a key: what it may do, as sentences."""
    client = connect()
    path = f"/keys/{segment(key_id)}"
    answer = client.post(f"{path}/value") if value else client.get(path)
    if as_json:
        say_json(answer)
        return
    if value:
        say(answer["key"])
        return
    show_key(answer)
    hint(
        f"See its calls: valetkey events --key {key_id}"
        if answer["state"] != "active"
        else f"Would a call pass? valetkey key check {key_id} --method GET --path /"
    )


@key.command(
    "check",
    examples=(
        "valetkey key check key_8f3k2m --method GET --path /v1/models",
        "valetkey key check key_8f3k2m --method POST --path /v1/files --address 203.0.113.7 --at 2026-12-31T18:00:00Z",
    ),
)
@_ID
@click.option("--method", required=True, metavar="M", help="HTTP method of the call.")
@click.option("--path", required=True, metavar="P", help="Its path, without the service's name in front.")
@click.option("--address", metavar="A", help="Where it comes from.")
@click.option("--origin", metavar="O", help="Web origin it comes from.")
@click.option("--host", metavar="NAME", help="Which of the service's hosts it goes to.")
@click.option("--listener", metavar="ADDRESS[:PORT]", help="Which address of the gateway it calls.")
@click.option("--bytes", "size", type=click.IntRange(0), metavar="N", help="How long its body is.")
@click.option(
    "--at", metavar="TIME", help="When, as an RFC 3339 time, in UTC without a zone; now, when not said."
)
@json_flag
def check(
    key_id: str,
    method: str,
    path: str,
    address: str | None,
    origin: str | None,
    host: str | None,
    listener: str | None,
    size: int | None,
    at: str | None,
    as_json: bool,
) -> None:
    """Say whether a call would pass. Nothing is spent."""
    if at is not None:
        parse_moment(at, "--at")  # wrong usage is told before the server is asked
    body = given(
        method=method,
        path=path,
        address=address,
        origin=origin,
        host=host,
        listener=listener,
        bytes=size,
        at=at,
    )
    answer = connect().post(f"/keys/{segment(key_id)}/check", body)
    if as_json:
        say_json(answer)
        return
    say_state("", answer["code"])
    say(answer["sentence"])
    if answer.get("limit"):
        say(f"What stops it: {answer['limit']}")
    if answer["code"] == "VALID":
        if answer.get("endpoint"):
            say(f"Opened by: {answer['endpoint']}")
        return
    if answer.get("next_step"):
        say(answer["next_step"])
    hint(f"See what it may do: valetkey key show {key_id}")


key.add_command(change)


@key.command(
    "suspend", examples=("valetkey key suspend key_8f3k2m", "valetkey key suspend key_8f3k2m --let-finish")
)
@_ID
@_LET_FINISH
@json_flag
def suspend(key_id: str, let_finish: bool, as_json: bool) -> None:
    """Stop a key for now; its open answers are cut."""
    _end(key_id, "suspend", "Suspended", let_finish, as_json)
    if not as_json:
        hint(f"Let it work again: valetkey key resume {key_id}")


@key.command("resume", examples=("valetkey key resume key_8f3k2m",))
@_ID
@click.option("--let-finish", is_flag=True, hidden=True, help="Of no effect; scripts may say it.")
@json_flag
def resume(key_id: str, let_finish: bool, as_json: bool) -> None:
    """Let a suspended key work again."""
    answer = connect().post(f"/keys/{segment(key_id)}/resume", {"let_finish": let_finish})
    if as_json:
        say_json(answer)
        return
    say(f"Works everywhere again since {clock(time.time())}.")


@key.command("unpin", examples=("valetkey key unpin key_8f3k2m",))
@_ID
@json_flag
def unpin(key_id: str, as_json: bool) -> None:
    """Let the next call pin a sticky key anew, from wherever it comes."""
    answer = connect().post(f"/keys/{segment(key_id)}/unpin")
    if as_json:
        say_json(answer)
        return
    say("Pinned to no address any more; the next call pins it.")


@key.command(
    "revoke", examples=("valetkey key revoke key_8f3k2m", "valetkey key revoke key_8f3k2m --let-finish")
)
@_ID
@_LET_FINISH
@json_flag
def revoke(key_id: str, let_finish: bool, as_json: bool) -> None:
    """End a key for ever, everywhere, before this returns."""
    _end(key_id, "revoke", "Dead", let_finish, as_json)


def _end(key_id: str, verb: str, what: str, let_finish: bool, as_json: bool) -> None:
    answer = connect().post(f"/keys/{segment(key_id)}/{verb}", {"let_finish": let_finish})
    # The server answers when every worker knows: from the moment the answer is here, it holds.
    since = time.time()
    if as_json:
        say_json(answer)
        return
    if answer.get("already"):
        say(f"Dead everywhere already, since {day_and_time(answer['ended'])}.")
        return
    say(f"{what} everywhere since {clock(since)}. {_cut(answer, let_finish)}")
    fenced = answer.get("fenced") or 0
    if fenced:
        say(
            f"{counted(fenced, 'worker', 'workers')} did not answer and {'was' if fenced == 1 else 'were'} replaced."
        )


def _cut(answer: dict[str, Any], let_finish: bool) -> str:
    if let_finish:
        return "Open answers may finish."
    number = int(answer.get("cut") or 0)
    return f"{counted(number, 'open answer was', 'open answers were')} cut."
