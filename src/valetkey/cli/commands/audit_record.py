"""``valetkey audit proof`` and ``audit erase``: one record for others to check, and what calls tell of people gone."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from valetkey.cli.client import Client, connect
from valetkey.cli.failure import ExitCode, Failure, NoServer
from valetkey.cli.figures import counted, rfc3339
from valetkey.cli.grammar import Command, given, json_flag
from valetkey.cli.terminal import hint, is_terminal, say, say_json, say_state, warn, working
from valetkey.durations import is_span, parse_span

if TYPE_CHECKING:
    from valetkey.journal.proof import Checked

_PUBLIC_KEY = re.compile("[0-9a-fA-F]{64}")
_ASKED_UNDER = 86_400
"""Seconds: who keeps less than the last day of calls is asked whether that is meant."""
_TIMES = ("time", "time_ms", "since")
"""Fields of records that are instants: seconds since the epoch, or milliseconds."""


def checked_public_key(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """What --key says. Raises `Failure` (wrong usage)."""
    if text is not None and not _PUBLIC_KEY.fullmatch(text.strip()):
        raise Failure(
            "That is not the public key of a journal.",
            "It is 64 hex digits, which `valetkey audit verify` shows on the machine itself.",
            ExitCode.USAGE,
        )
    return text


@click.command(
    "proof",
    cls=Command,
    examples=(
        "valetkey audit proof 01997f3a-5c00-7abc-8def-0123456789ab --out call.proof",
        "valetkey audit proof aud_8f3k2m --out entry.proof",
        "valetkey audit proof --check call.proof --key 3b6a27bc...",
    ),
)
@click.argument("record", metavar="[ID]", required=False)
@click.option("--out", metavar="FILE", help="Where to write it; it must not be there yet.")
@click.option("--personal", is_flag=True, help="With address and user agent, as far as not erased.")
@click.option("--check", metavar="FILE", help="Check a proof instead; needs no server and no data folder.")
@click.option(
    "--key",
    "public_key",
    metavar="PUBLICKEY",
    callback=checked_public_key,
    help="The key that you trust, as audit verify tells it.",
)
@json_flag
def proof(
    record: str | None,
    out: str | None,
    personal: bool,
    check: str | None,
    public_key: str | None,
    as_json: bool,
) -> int:
    """Write the proof of one record, which anyone can check; or check one.

    ID is that of a call or of an audit entry, or SEGMENT:NUMBER. The proof shows that record and no other. With
    --check the exit code is 0 only when it holds under --key; without --key it shows nothing of whose record it is.
    """
    if check is not None:
        if record is not None or out is not None or personal:
            raise Failure("A proof is checked by itself.", "Leave out all but --key.", ExitCode.USAGE)
        return _check(Path(check).expanduser(), public_key, as_json)
    if record is None or public_key is not None:
        raise Failure(
            "It is not said what is to be proven." if record is None else "--key belongs to --check.",
            "Name the id of a call or an audit entry; see: valetkey events, or valetkey audit list",
            ExitCode.USAGE,
        )
    if out is None and not as_json:
        raise Failure("It is not said where the proof goes.", "Give --out FILE, or --json.", ExitCode.USAGE)
    with working("Proving the record"):
        made = _prove(connect(), record, personal)
    if out is not None:
        _write(Path(out).expanduser(), made)
    if as_json:
        say_json(made)
        return ExitCode.DONE
    number = len(made["records"])
    say(f"The proof of {counted(number, 'record', 'records')} stands in {out}.")
    if any(one.get("erased") for one in made["records"]):
        say("Its personal fields (address, user agent, origin, referer) were erased: the proof has none.")
    say(f"Whoever gets it also needs your public key, by another way: {made['public_key']}")
    hint(f"Check it: valetkey audit proof --check {out} --key {made['public_key']}")
    return ExitCode.DONE


def _prove(client: Client, record: str, personal: bool) -> dict[str, Any]:
    try:
        made: dict[str, Any] = client.post(
            "/audit/proof", {"record": record, "personal": personal}, patience=None
        )
    except NoServer:
        if client.remote is not None or not client.home.exists:
            raise
        from valetkey.server.offline import prove_at_rest

        made = prove_at_rest(client.home, record, personal=personal)
    return made


def _write(path: Path, made: dict[str, Any]) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(json.dumps(made, indent=1) + "\n")
    except OSError as error:
        raise Failure(
            f"{path} cannot be written ({(error.strerror or 'unknown error').lower()}).", "Name another file."
        ) from None


def _check(path: Path, public_key: str | None, as_json: bool) -> int:
    import msgspec

    from valetkey.journal.proof import MAX_BYTES, BadProof, check_proof, read_proof
    from valetkey.server.proving import read_public_key

    trusted = None if public_key is None else read_public_key(public_key)
    try:
        with path.open("rb") as file:
            checked = check_proof(read_proof(file.read(MAX_BYTES + 1)), trusted)
    except OSError as error:
        raise Failure(
            f"{path} cannot be read ({(error.strerror or 'unknown error').lower()}).",
            "Name the file of a proof.",
        ) from None
    except BadProof as error:
        raise Failure(f"{path} is no proof. {error}", "Ask for it anew.") from None
    if as_json:
        say_json(msgspec.to_builtins(checked))
    else:
        _tell(checked)
    return ExitCode.DONE if checked.verdict == "ok" else ExitCode.FAILED


def _tell(checked: Checked) -> None:
    say_state("proof      ", checked.verdict)
    say(f"signed by  {checked.public_key}")
    if checked.detail:
        say()
        say(checked.detail)
    if checked.verdict == "unproven":
        # Before what it shows: whoever reads that first may believe it.
        say()
        say(
            "Anyone could have written this: it holds only under the key that it names itself. Get the public"
        )
        say("key of the one who keeps the record from themselves, and give it as --key.")
    for one in checked.records:
        say()
        say(f"{one.record['kind']}, record {one.seq} of {one.segment}, signed {rfc3339(one.signed)}:")
        for name, value in {**one.record, **(one.personal or {})}.items():
            if name not in ("seq", "kind", "personal"):
                say(f"  {name}: {_shown(name, value)}")
        if one.erased:
            say("  address, user agent, origin and referer were erased, this file says; nobody signed that")
        elif one.personal is None and one.record.get("personal"):
            say("  address, user agent, origin and referer were left out")


def _shown(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if name in _TIMES and isinstance(value, (int, float)):
        return rfc3339(value / 1000 if name.endswith("_ms") else value)
    return json.dumps(value)


@click.command(
    "erase",
    cls=Command,
    examples=("valetkey audit erase --party ana", "valetkey audit erase --older-than 400d"),
)
@click.option("--party", metavar="PARTY", help="Of all calls with keys of this party.")
@click.option("--older-than", metavar="SPAN", help="Of all calls before that: 400d, 52w.")
@click.option("--yes", is_flag=True, help="Do not ask, where less than a day would be kept.")
@json_flag
def erase(party: str | None, older_than: str | None, yes: bool, as_json: bool) -> None:
    """Erase address, user agent, origin and referer of calls, for ever.

    The record still verifies. They are gone from every file of the data folder when this returns; not from backups.
    A living sticky key stays pinned to its address: valetkey key unpin ID first.
    """
    if (party is None) == (older_than is None):
        raise Failure(
            "It is not clear what is to be erased.", "Give one of --party and --older-than.", ExitCode.USAGE
        )
    if older_than is not None and not yes:
        _ask_whether(older_than)
    with working("Erasing"):
        answer = connect().post("/audit/erase", given(party=party, older_than=older_than), patience=None)
    if as_json:
        say_json(answer)
        return
    number = answer["erased"]
    say(f"Erased at {counted(number, 'call', 'calls')}." if number else "There was nothing to erase.")
    for key_id in answer.get("pinned") or ():
        warn(
            f"{key_id} lives and stays pinned to an address. Take that away first, then erase again: "
            f"valetkey key unpin {key_id}"
        )
    hint("The record is still whole: valetkey audit verify")


def _ask_whether(older_than: str) -> None:
    """Raise `Failure` unless at least a day is kept, or the person at the terminal means it."""
    if not is_span(older_than) or parse_span(older_than) >= _ASKED_UNDER:
        return  # what is no span is refused by the server
    if not sys.stdin or not is_terminal(sys.stdin):
        raise Failure(
            f"This erases at every call that is older than {older_than}, for ever.",
            "If that is meant, give --yes.",
            ExitCode.USAGE,
        )
    if not click.confirm(f"Erase at every call that is older than {older_than}, for ever?", err=True):
        raise Failure("Nothing was erased.", "Name a longer span, such as 400d.")
