"""``valetkey vault``: the root key, under which everything is sealed."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from valetkey.cli.client import connect
from valetkey.cli.grammar import given, group, json_flag
from valetkey.cli.terminal import say, say_json


@group("vault", examples=("valetkey vault rewrap",))
def vault() -> None:
    """The root key, under which everything is sealed."""


@vault.command(
    "rewrap", examples=("valetkey vault rewrap", "valetkey vault rewrap --to /etc/valetkey/new.key")
)
@click.option(
    "--to",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Where the new root key lies or is to lie; left out: in place of the one in use.",
)
@json_flag
def rewrap(file: Path | None, as_json: bool) -> None:
    """Seal everything under a new root key, while calls go on.

    The former root key is kept beside the new one, with --to where it lies: backups that were made under it open with
    nothing else. After --to the new place has to be named: VALETKEY_ROOT_KEY_FILE. Run it again if it was
    interrupted.
    """
    answer = connect().post("/vault/rewrap", given(file=None if file is None else str(file.absolute())))
    if as_json:
        say_json(answer)
        return
    say(f"Everything is sealed under the new root key {answer['root_key']}: {answer['file']}")
    if file is not None:
        if answer["kept"] is not None:
            say(f"The former one still lies in {answer['kept']}, for backups that were made under it.")
        named = shlex.quote(answer["file"])
        say(
            "From now on name the new place, or the next start fails: "
            f"VALETKEY_ROOT_KEY_FILE={named}, or serve --root-key-file {named}"
        )
        return
    say(f"The former one is kept, for backups that were made under it: {answer['kept']}")
    say("Put it where those are, and delete it here.")
