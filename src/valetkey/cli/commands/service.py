"""``valetkey service``: the APIs that keys open."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from valetkey.cli.client import connect, segment
from valetkey.cli.failure import ExitCode, Failure
from valetkey.cli.figures import relative
from valetkey.cli.grammar import given, group, json_flag
from valetkey.cli.tables import Column, draw, facts, state
from valetkey.cli.terminal import hint, say, say_json, warn

_NAME = click.argument("name", metavar="NAME")


@group(
    "service",
    examples=("valetkey service add openai --preset openai", "valetkey service list"),
)
def service() -> None:
    """APIs that keys open."""


@service.command(
    "add",
    examples=(
        "valetkey service add openai --preset openai",
        "valetkey service add billing --own",
        "valetkey service add weather --base-url https://api.example.com --auth header:X-Api-Key",
        "valetkey service add films --base-url https://films.example.com --auth bearer --max-body-mb 2000",
        "valetkey service add trial --preset openai --base-url http://127.0.0.1:8080 --allow-private",
    ),
)
@_NAME
@click.option(
    "--preset", metavar="P", help="A well-known API: anthropic, github, openai, openweather, stripe."
)
@click.option("--own", is_flag=True, help="An API of your own, which asks Valetkey about each key.")
@click.option("--base-url", metavar="URL", help="Where the API is; with --preset, a stand-in for it.")
@click.option("--auth", metavar="WAY", help="How it takes its key: bearer, basic, header:NAME or query:NAME.")
@click.option(
    "--host", "hosts", multiple=True, metavar="NAME=URL", help="One more host of the API, by a name."
)
@click.option("--allow-private", is_flag=True, help="It may lie in a private network.")
@click.option("--allow-plain-upstream", is_flag=True, help="It may be reached by http://.")
@click.option("--ca-file", metavar="FILE", help="Trust this authority for its certificate.")
@click.option("--price", metavar="AMOUNT", help="Price of a call, such as 0.01.")
@click.option(
    "--max-body-mb", type=int, metavar="MEGABYTES", help="Largest body of a call; else the preset's, or 104."
)
@json_flag
def add(
    name: str,
    preset: str | None,
    own: bool,
    base_url: str | None,
    auth: str | None,
    hosts: tuple[str, ...],
    allow_private: bool,
    allow_plain_upstream: bool,
    ca_file: str | None,
    price: str | None,
    max_body_mb: int | None,
    as_json: bool,
) -> None:
    """Add a service: of a preset, at a base URL, or one of your own."""
    if sum((preset is not None, own, preset is None and base_url is not None)) != 1:
        raise Failure(
            "It is not clear what kind of service this is.",
            "Give one of --preset NAME, --own, or --base-url URL with --auth WAY.",
            ExitCode.USAGE,
        )
    body = given(
        name=name,
        preset=preset,
        own=own or None,
        base_url=base_url,
        auth=auth,
        hosts=_hosts(hosts) or None,
        allow_private=allow_private or None,
        allow_plain_upstream=allow_plain_upstream or None,
        ca_file=_absolute(ca_file),
        price=price,
        max_body_mb=max_body_mb,
    )
    answer = connect().post("/services", body)
    if as_json:
        say_json(answer)
        return
    say(f"Service {name} is added.")
    for note in answer.get("notes") or ():
        warn(note)
    hint(
        f"Next: valetkey service credential {name}"
        if answer.get("kind") == "own"
        else f"Next: valetkey secret set {name}"
    )


@service.command("list", examples=("valetkey service list", "valetkey service list --json"))
@json_flag
def list_services(as_json: bool) -> None:
    """List all services."""
    answer = connect().get("/services")
    if as_json:
        say_json(answer)
        return
    if not answer["items"]:
        say("There are no services yet.")
        say("Add the first: valetkey service add openai --preset openai")
        return
    draw(
        ("NAME", Column("KIND", 2), Column("PRESET", 1), Column("UPSTREAM", 3, 20), "STATE"),
        (
            (
                s["name"],
                s["kind"],
                s.get("preset") or "-",
                _upstream(s),
                state("locked" if s["locked"] else "open to keys"),
            )
            for s in answer["items"]
        ),
    )
    hint("Look at one: valetkey service show NAME")


@service.command("show", examples=("valetkey service show openai",))
@_NAME
@json_flag
def show(name: str, as_json: bool) -> None:
    """Show one service."""
    answer = connect().get(f"/services/{segment(name)}")
    if as_json:
        say_json(answer)
        return
    _show(answer)
    hint(f"Give someone a key: valetkey key issue {name} --holder NAME")


@service.command(
    "change",
    examples=(
        "valetkey service change openai --price 0.002",
        "valetkey service change weather --no-allow-private",
    ),
)
@_NAME
@click.option("--base-url", metavar="URL", help="Where the API is.")
@click.option("--auth", metavar="WAY", help="How it takes its key: bearer, basic, header:NAME or query:NAME.")
@click.option(
    "--host", "hosts", multiple=True, metavar="NAME=URL", help="The further hosts, in place of the old ones."
)
@click.option(
    "--allow-private/--no-allow-private", default=None, help="Whether it may lie in a private network."
)
@click.option(
    "--allow-plain-upstream/--no-allow-plain-upstream", default=None, help="Whether http:// may be used."
)
@click.option("--ca-file", metavar="FILE", help="Trust this authority for its certificate.")
@click.option("--price", metavar="AMOUNT", help="Price of a call, such as 0.01.")
@click.option("--max-body-mb", type=int, metavar="MEGABYTES", help="Largest body of a call.")
@json_flag
def change(name: str, hosts: tuple[str, ...], ca_file: str | None, as_json: bool, **options: Any) -> None:
    """Change a service; it is in force at the next call."""
    body = given(hosts=_hosts(hosts) or None, ca_file=_absolute(ca_file), **options)
    if not body:
        raise Failure("Nothing is to be changed.", "See: valetkey service change --help", ExitCode.USAGE)
    answer = connect().patch(f"/services/{segment(name)}", body)
    if as_json:
        say_json(answer)
        return
    say("Changed; it is in force.")
    for note in answer.get("notes") or ():
        warn(note)
    hint(f"Look at it: valetkey service show {name}")


@service.command("lock", examples=("valetkey service lock openai",))
@_NAME
@json_flag
def lock(name: str, as_json: bool) -> None:
    """Refuse every call of a service, with any key."""
    answer = connect().post(f"/services/{segment(name)}/lock")
    if as_json:
        say_json(answer)
        return
    say(f"{name} is locked: no key opens it.")
    hint(f"Open it again: valetkey service unlock {name}")


@service.command("unlock", examples=("valetkey service unlock openai",))
@_NAME
@json_flag
def unlock(name: str, as_json: bool) -> None:
    """Let calls of a service through again."""
    answer = connect().post(f"/services/{segment(name)}/unlock")
    if as_json:
        say_json(answer)
        return
    say(f"{name} is open to its keys again.")


@service.command("remove", examples=("valetkey service remove weather",))
@_NAME
@json_flag
def remove(name: str, as_json: bool) -> None:
    """Take a service away; its keys must be revoked before."""
    answer = connect().delete(f"/services/{segment(name)}")
    if as_json:
        say_json(answer)
        return
    say(f"{name} is removed, and its secrets are retired.")
    for note in answer.get("notes") or ():
        warn(note)


@service.command(
    "credential",
    examples=(
        "valetkey service credential billing --json",
        "valetkey service credential billing --revoke crd_8f3k2m",
    ),
)
@_NAME
@click.option("--revoke", metavar="ID", help="Take this credential back instead.")
@json_flag
def credential(name: str, revoke: str | None, as_json: bool) -> None:
    """Make the credential with which a service of your own asks about keys, or take one back."""
    path = f"/services/{segment(name)}"
    if revoke is not None:
        answer = connect().post(f"{path}/credentials/{segment(revoke)}/revoke")
        if as_json:
            say_json(answer)
            return
        say(f"{revoke} is refused everywhere from now on.")
        hint(f"Make another: valetkey service credential {name}")
        return
    answer = connect().post(f"{path}/credential")
    if as_json:
        say_json(answer)
        return
    say(answer["credential"])
    say()
    say("It is shown this once. Your service sends it as bearer to /v1/verify and /v1/authorize.")
    say("Credentials made before go on working.")
    hint(f"See all and take one back: valetkey service credentials {name}")


@service.command("credentials", examples=("valetkey service credentials billing",))
@_NAME
@json_flag
def credentials(name: str, as_json: bool) -> None:
    """List the credentials of a service of your own, newest first."""
    answer = connect().get(f"/services/{segment(name)}/credentials")
    if as_json:
        say_json(answer)
        return
    if not answer["items"]:
        say(f"{name} has no credential yet.")
        say(f"Make the first: valetkey service credential {name}")
        return
    now = time.time()
    draw(
        ("ID", "LAST 4", Column("MADE", 1), "STATE"),
        (
            (
                one["id"],
                one["last4"],
                relative(one["created"], now),
                state("active" if one["revoked"] is None else "revoked"),
            )
            for one in answer["items"]
        ),
    )
    hint(f"Take one back: valetkey service credential {name} --revoke ID")


def _hosts(pairs: tuple[str, ...]) -> dict[str, str]:
    hosts: dict[str, str] = {}
    for pair in pairs:
        label, equals, url = pair.partition("=")
        if not label or not equals or not url:
            raise Failure(
                "A further host needs a name and an address.",
                "Write it as --host files=https://files.example.com.",
                ExitCode.USAGE,
            )
        hosts[label] = url
    return hosts


def _absolute(file: str | None) -> str | None:
    """The server has a working folder of its own."""
    return None if file is None else str(Path(file).expanduser().absolute())


def _upstream(service: dict[str, Any]) -> str:
    return next(iter(service.get("hosts", {}).values()), "-")


def _show(service: dict[str, Any]) -> None:
    facts(
        (
            ("name", service["name"]),
            ("title", service.get("title") or ""),
            ("kind", service["kind"]),
            ("preset", service.get("preset") or ""),
            *((f"host {label}", url) for label, url in service.get("hosts", {}).items()),
            ("key goes in", service.get("auth") or ""),
            ("price a call", service.get("price") or ""),
            ("largest body", f"{service['max_body'] / 1_000_000:,.0f} MB" if service.get("max_body") else ""),
            ("private addresses", "allowed" if service.get("allow_private") else ""),
            ("plain http", "allowed" if service.get("allow_plain_upstream") else ""),
            ("trusted authority", service.get("ca_file") or ""),
            ("state", "locked" if service["locked"] else "open to keys"),
        )
    )
