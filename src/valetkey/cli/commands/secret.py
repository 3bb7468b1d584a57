"""``valetkey secret``: the real keys. A value enters by prompt, standard input or file; it never comes out again."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from valetkey.cli.client import connect, segment
from valetkey.cli.failure import ExitCode, Failure
from valetkey.cli.figures import end, relative
from valetkey.cli.grammar import given, group, json_flag
from valetkey.cli.tables import Column, draw, number, state
from valetkey.cli.terminal import hint, say, say_json, warn

MAX_VALUE = 524_288
"""Bytes of a value: the longest private keys and JSON credentials have some thousands."""

_NEVER_AN_ARGUMENT = (
    "A key never goes on the command line, where others see it: give it on standard input or with --key-file. "
    "If that was a real key, treat it as exposed."
)
_SECRET = click.argument("secret_name", metavar="SECRET")
_ENVIRONMENT = click.option("--environment", metavar="E", help="Which environment (production).")


@group("secret", examples=("valetkey secret set openai", "valetkey secret list"))
def secret() -> None:
    """The real keys of services, sealed in versions. SECRET is SERVICE or SERVICE/NAME."""


@secret.command(
    "set",
    stray=_NEVER_AN_ARGUMENT,
    examples=(
        "valetkey secret set openai",
        "valetkey secret set openai --key-file openai.key",
        "pass show openai | valetkey secret set openai --expires 90d",
    ),
)
@_SECRET
@click.option("--name", metavar="N", help="Name of the secret (default).")
@_ENVIRONMENT
@click.option("--key-file", metavar="F", help="Read the value from this file; - is standard input.")
@click.option("--expires", metavar="WHEN", help="When the vendor ends it: 90d, 2026-12-31 or a time (UTC).")
@click.option("--risk", type=click.Choice(("low", "medium", "high")), help="How much harm its leak would do.")
@click.option("--strict", is_flag=True, help="Refuse a value that would only be warned about.")
@json_flag
def set_secret(
    secret_name: str,
    name: str | None,
    environment: str | None,
    key_file: str | None,
    expires: str | None,
    risk: str | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Seal a value as the newest version; calls use it from now on."""
    service, part = _split(secret_name)
    if part is not None and name is not None and part != name:
        raise Failure("The secret is named twice.", "Give SERVICE/NAME or --name, not both.", ExitCode.USAGE)
    client = connect()
    body = given(
        service=service,
        name=name or part,
        environment=environment,
        expires=expires,
        risk=risk,
        strict=strict or None,
        value=_value(service, key_file),
    )
    answer = client.post("/secrets", body)
    for warning in answer.get("warnings") or ():
        warn(warning)
    if as_json:
        say_json(answer)
        return
    say(f"Sealed as version {answer['version']} of {answer['service']}/{answer['name']}.")
    hint(f"Next: valetkey key issue {service} --holder NAME")


@secret.command("list", examples=("valetkey secret list", "valetkey secret list --service openai"))
@click.option("--service", metavar="S", help="Secrets of this service.")
@json_flag
def list_secrets(service: str | None, as_json: bool) -> None:
    """List all secrets with their newest version."""
    answer = connect().get("/secrets", service=service)
    if as_json:
        say_json(answer)
        return
    if not answer["items"]:
        say("There are no secrets yet." if service is None else f"{service} has no secret yet.")
        say(f"Set the first: valetkey secret set {service or 'SERVICE'}")
        return
    now = time.time()
    draw(
        ("SECRET", Column("ENVIRONMENT", 3), "VERSION", Column("RISK", 2), Column("SET", 1), "EXPIRES"),
        (
            (
                f"{s['service']}/{s['name']}",
                s["environment"],
                number(s["version"]),
                s["risk"],
                relative(s["created"], now),
                end(s.get("expires")),
            )
            for s in answer["items"]
        ),
    )
    hint("Look at one: valetkey secret versions SERVICE/NAME")


@secret.command(
    "versions", examples=("valetkey secret versions openai", "valetkey secret versions openai/batch")
)
@_SECRET
@_ENVIRONMENT
@json_flag
def versions(secret_name: str, environment: str | None, as_json: bool) -> None:
    """List the versions of a secret, newest first."""
    service, part = _split(secret_name)
    answer = connect().get(
        f"/secrets/{segment(service)}/{segment(part or 'default')}/versions", environment=environment
    )
    if as_json:
        say_json(answer)
        return
    now = time.time()
    draw(
        ("VERSION", "STATE", "SET", "EXPIRES", "RETIRED"),
        (
            (
                number(v["version"]),
                state(v["state"]),
                relative(v["created"], now),
                end(v.get("expires")),
                relative(v.get("retired"), now),
            )
            for v in answer["items"]
        ),
    )
    hint(f"Take one out of use: valetkey secret retire {secret_name} --version N")


@secret.command(
    "retire",
    examples=("valetkey secret retire openai --version 1", "valetkey secret retire openai/batch --all"),
)
@_SECRET
@_ENVIRONMENT
@click.option("--version", type=click.IntRange(1), metavar="N", help="This version.")
@click.option("--all", "every", is_flag=True, help="Every version: calls then have no key to use.")
@json_flag
def retire(
    secret_name: str, environment: str | None, version: int | None, every: bool, as_json: bool
) -> None:
    """Take versions out of use; calls then use the newest that is left."""
    if (version is None) != every:
        raise Failure("It is not said which versions.", "Give --version N, or --all.", ExitCode.USAGE)
    service, part = _split(secret_name)
    answer = connect().post(
        f"/secrets/{segment(service)}/{segment(part or 'default')}/retire",
        given(version=version, environment=environment),
    )
    if as_json:
        say_json(answer)
        return
    what = "Every version" if every else f"Version {version}"
    say(f"{what} of {answer['service']}/{answer['name']} is retired.")
    hint("Delete it at the vendor too; until then it still works there.")


def _split(text: str) -> tuple[str, str | None]:
    service, slash, name = text.partition("/")
    if not service or (slash and not name) or "/" in name:
        raise Failure("That names no secret.", "Write it as SERVICE or SERVICE/NAME.", ExitCode.USAGE)
    return service, name or None


def _value(service: str, key_file: str | None) -> str:
    if key_file in (None, "-") and sys.stdin is None:
        raise Failure("Standard input is closed.", "Give the key on it, or with --key-file.")
    if key_file is None and sys.stdin.isatty():
        return str(click.prompt(f"Key for {service} (it is not shown)", hide_input=True, err=True))
    try:
        if key_file is None or key_file == "-":
            content = sys.stdin.buffer.read(MAX_VALUE + 1)
        else:
            with Path(key_file).expanduser().open("rb") as file:
                content = file.read(MAX_VALUE + 1)
    except (OSError, ValueError):
        # The path is not repeated: by mistake it may be the key itself.
        raise Failure(
            "The file that --key-file names cannot be read.", "Give the path of a file that holds the key."
        ) from None
    if len(content) > MAX_VALUE:
        raise Failure("The value is longer than any key.", "Give the key alone.")
    if not content.strip():
        raise Failure("No key came in.", "Give it on standard input or with --key-file.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass  # that exception carries the value: it must not be chained
    raise Failure("The value is not UTF-8 text.", "Encode it as text, for instance in base64.")
