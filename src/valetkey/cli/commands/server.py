"""``valetkey serve``, ``init`` and ``demo``: the commands that run here instead of asking a server."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import click
import msgspec

from valetkey.cli.failure import ExitCode, exit_code_of
from valetkey.cli.grammar import Command, given, json_flag
from valetkey.cli.terminal import hint, say, say_json
from valetkey.errors import ValetkeyError
from valetkey.server.home import Home
from valetkey.settings import Settings

HELP = {
    "listen": "Address that both ports listen on.",
    "control_port": "Port of the control API.",
    "gateway_port": "Port that callers use.",
    "workers": "Gateway processes.",
    "public_name": "A host name that callers use. Repeatable.",
    "allow_plain": "Let keys come in plain HTTP from other machines: behind a TLS proxy.",
    "tls_cert": "Speak TLS on both ports with this certificate (PEM, the chain behind it).",
    "tls_key": "The certificate's key.",
    "tls_dev": "Speak TLS with a certificate made here, for loopback and the public names.",
    "trusted_proxy": "A network whose forwarding headers are believed. Repeatable.",
    "fsync_interval_ms": "A loss of power costs at most so much of the journal; 0: nothing, slowly.",
    "personal_days": "After so many days addresses and user agents of calls are erased.",
    "witness": "A file on another disk, or an https URL, that gets each signed checkpoint. Repeatable.",
    "database_url": "Another database than the data folder's own.",
    "root_key_file": "Where the root key lies.",
    "max_body_mb": "Largest request body in megabytes.",
    "body_timeout": "Seconds a caller may take for a body's next piece; all of it at 250 bytes a second or faster.",
    "connect_timeout": "Seconds for reaching an upstream.",
    "first_byte_timeout": "Seconds until an upstream must begin to answer.",
    "idle_timeout": "Seconds an answer may stall.",
    "log_format": "How messages to the operator are written.",
    "log_level": "Messages below it are left out.",
}
"""One line a setting; a test holds it to `Settings`."""


METAVARS = {
    "listen": "ADDRESS",
    "control_port": "PORT",
    "gateway_port": "PORT",
    "public_name": "NAME",
    "tls_cert": "FILE",
    "tls_key": "FILE",
    "trusted_proxy": "CIDR",
    "fsync_interval_ms": "MILLISECONDS",
    "personal_days": "DAYS",
    "witness": "FILE|URL",
    "database_url": "URL",
    "root_key_file": "FILE",
    "max_body_mb": "MEGABYTES",
}
"""What stands for the value in the help, where type and name do not say it."""


def settings_options() -> list[click.Option]:
    """A flag for every field of `Settings`, in its order, with its bounds and default."""
    hints = get_type_hints(Settings, include_extras=True)
    return [
        _option(field.name, hints[field.name], field.default) for field in msgspec.structs.fields(Settings)
    ]


def _option(name: str, hint_: Any, default: Any) -> click.Option:
    bounds: dict[str, Any] = {}
    if get_origin(hint_) is Annotated:
        hint_, *metas = get_args(hint_)
        for meta in metas:
            found = {"min": meta.ge, "max": meta.le, "min_open": None}
            bounds |= {bound: value for bound, value in found.items() if value is not None}
            if meta.gt is not None:
                bounds |= {"min": meta.gt, "min_open": True}
    text = HELP.get(name, "A setting of the server.")
    if default not in (None, (), False):
        text = f"{text[:-1]} ({default})."
    flag = f"--{name.replace('_', '-')}"
    metavar = METAVARS.get(name) or (
        "SECONDS" if name.endswith("_timeout") else "N" if hint_ is int else "TEXT"
    )
    if hint_ is bool:
        return click.Option([flag, name], is_flag=True, default=None, help=text)
    if get_origin(hint_) is tuple:
        return click.Option([flag, name], multiple=True, metavar=metavar, help=text)
    kind: click.ParamType[Any] = click.STRING
    if get_origin(hint_) is Literal:
        return click.Option([flag, name], type=click.Choice(get_args(hint_)), help=text)
    if hint_ is int:
        kind = click.IntRange(**bounds) if bounds else click.INT
    elif hint_ is float:
        kind = click.FloatRange(**bounds) if bounds else click.FLOAT
    return click.Option([flag, name], type=kind, metavar=metavar, help=text)


def _serve(**flags: Any) -> int:
    """Run the server: gateway and control.

    An empty data folder is made ready without a question. Every flag is also a setting in config.toml.
    """
    from valetkey import log
    from valetkey.server import main

    try:
        main.serve(Home.from_environment(os.environ), given(**flags))
    except ValetkeyError as error:
        if log.current().style != "json":
            raise
        log.error("start_refused", error.sentence, code=error.code, next_step=error.next_step)
        return exit_code_of(error)
    log.current().flush()
    log.current().announce("stopped", ("Stopped.",))
    return ExitCode.DONE


serve = Command(
    "serve",
    callback=_serve,
    params=list(settings_options()),
    help=_serve.__doc__,
    examples=(
        "valetkey serve",
        "valetkey serve --workers 4 --fsync-interval-ms 50",
        "VALETKEY_HOME=/srv/valetkey valetkey serve --public-name keys.example.com",
    ),
)


@click.command("init", cls=Command, examples=("valetkey init", "VALETKEY_HOME=~/keys valetkey init"))
@json_flag
def init(as_json: bool) -> None:
    """Make an empty data folder. `serve` does so by itself."""
    from valetkey.server import main

    home = Home.from_environment(os.environ)
    main.init(home)
    if as_json:
        say_json({"home": str(home.folder)})
        return
    say(f"{home.folder} is ready.")
    hint("Next: valetkey serve")


@click.command("demo", cls=Command, examples=("valetkey demo", "valetkey demo --keep"))
@click.option("--keep", is_flag=True, help="Leave it serving at the end, and say where.")
@json_flag
def demo(keep: bool, as_json: bool) -> None:
    """Show in eight scenes what a valet key does. It uses a folder and ports of its own."""
    from valetkey.demo import story

    story.run(keep=keep, json=as_json)
