"""Entry point: the list of commands, and the one place where whatever happens becomes a sentence and an exit code.

Imports Click and nothing else of weight: a test holds `valetkey --help` to that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from valetkey.cli.failure import ExitCode, Failure, exit_code_of
from valetkey.cli.grammar import Entry, LazyGroup
from valetkey.cli.terminal import complain, harmless
from valetkey.errors import ValetkeyError

_ROOM = "valetkey.cli.commands"

_SECTIONS = {
    "Start": {
        "serve": Entry(f"{_ROOM}.server:serve", "Run the server: gateway and control."),
        "init": Entry(f"{_ROOM}.server:init", "Make an empty data folder."),
        "demo": Entry(f"{_ROOM}.server:demo", "Show in eight scenes what a valet key does."),
        "status": Entry(f"{_ROOM}.status:status", "Say how the server is."),
        "doctor": Entry(f"{_ROOM}.doctor:doctor", "Find what is weak about this installation."),
        "help": Entry(f"{_ROOM}.helping:helping", "Show the help of a command."),
        "completion": Entry(f"{_ROOM}.completion:completion", "Print the completion script of a shell."),
    },
    "Use": {
        "service": Entry(f"{_ROOM}.service:service", "APIs that keys open."),
        "secret": Entry(f"{_ROOM}.secret:secret", "The real keys of services, sealed in versions."),
        "key": Entry(f"{_ROOM}.key:key", "Keys that you give out instead of the real ones."),
    },
    "Rules": {
        "party": Entry(f"{_ROOM}.party:party", "People, machines and applications that hold keys."),
        "partner": Entry(f"{_ROOM}.partner:partner", "Partners, and what was agreed with them."),
        "limit": Entry(f"{_ROOM}.limit:limit", "Limits that the keys of a holder or service share."),
        "network": Entry(f"{_ROOM}.network:network", "Names for where calls come from."),
        "token": Entry(f"{_ROOM}.token:token", "Tokens for programs that manage this server."),
        "vault": Entry(f"{_ROOM}.vault:vault", "The root key, under which everything is sealed."),
        "clock": Entry(f"{_ROOM}.clock:clock", "What to do when records name later instants than the clock."),
    },
    "Watch": {
        "events": Entry(f"{_ROOM}.events:events", "Calls, newest first or live."),
        "usage": Entry(f"{_ROOM}.usage:usage", "How much each key is used, and from where."),
        "audit": Entry(f"{_ROOM}.audit:audit", "What was done by whom, and the proof of it."),
    },
}


@click.group(
    "valetkey",
    cls=LazyGroup,
    sections=_SECTIONS,
    examples=(
        "valetkey serve",
        "valetkey service add openai --preset openai",
        "valetkey secret set openai",
        "valetkey key issue openai --holder ana --expires 30d",
    ),
)
@click.version_option(package_name="valetkey", message="%(prog)s %(version)s")
def root() -> None:
    """Share the use of an API key, not the key."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. Never lets an exception out."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        result = root.main(args=arguments, prog_name="valetkey", standalone_mode=False)
        sys.stdout.flush()
    except BaseException as error:
        return _end(error, as_json="--json" in (sys.argv[1:] if arguments is None else arguments))
    return result if isinstance(result, int) else ExitCode.DONE


def _end(error: BaseException, *, as_json: bool) -> int:
    """Say what happened, as JSON where that was asked for, and give its exit code."""
    if isinstance(error, SystemExit):
        return (
            error.code
            if isinstance(error.code, int)
            else ExitCode.DONE
            if error.code is None
            else ExitCode.FAILED
        )
    if isinstance(error, BrokenPipeError):
        # Whoever read has enough; the interpreter must not stumble over the rest at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED
    if isinstance(error, (KeyboardInterrupt, click.Abort, EOFError)):
        print("Interrupted.", file=sys.stderr)  # after the blank line with which Click closes ^C
        return ExitCode.INTERRUPTED
    if os.environ.get("VALETKEY_DEBUG"):
        _show_place(error)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return ExitCode.USAGE
    if isinstance(error, Failure):
        complain(error.sentence, error.next_step, error.code if as_json else None)
        return error.exit_code
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        see = f"See: {context.command_path if context else 'valetkey'} --help"
        complain(error.format_message(), see, ExitCode.USAGE.name if as_json else None)
        return ExitCode.USAGE
    if isinstance(error, ValetkeyError):
        complain(error.sentence, error.next_step, error.code if as_json else None)
        return exit_code_of(error)
    complain(
        f"Something went wrong that valetkey does not know ({type(error).__name__}).",
        "Set VALETKEY_DEBUG=1 to see where, and report it.",
        "UNEXPECTED" if as_json else None,
    )
    return ExitCode.FAILED


def _show_place(error: BaseException) -> None:
    """Type and place of an error. Never its message or a value: either could hold a secret."""
    place = error.__traceback__
    while place is not None:
        code = place.tb_frame.f_code
        print(harmless(f"  {code.co_filename}:{place.tb_lineno} in {code.co_qualname}"), file=sys.stderr)
        place = place.tb_next
    print(f"  {type(error).__qualname__}", file=sys.stderr)
