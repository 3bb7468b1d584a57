"""``valetkey key issue`` and ``key change``: what a key may do, said in flags."""

from __future__ import annotations

from typing import Any

import click

from valetkey.cli.client import Client, connect, segment
from valetkey.cli.commands.key_terms import CLEARABLE, TERM_SECTIONS, terms_flags, terms_of
from valetkey.cli.commands.key_view import show_key
from valetkey.cli.commands.session_flags import session_flags, session_of
from valetkey.cli.failure import ExitCode, Failure
from valetkey.cli.figures import day_and_time
from valetkey.cli.first_call import first_call
from valetkey.cli.grammar import Command, given, json_flag
from valetkey.cli.terminal import hint, say, say_json, warn

_UNTIL = ", 2026-12-31 or 2026-12-31T18:00+01:00; without a zone it is UTC"
MAX_IDEMPOTENCY_KEY = 128
"""What the API takes."""


@click.command(
    "issue",
    cls=Command,
    examples=(
        "valetkey key issue openai --holder ana --expires 30d",
        "valetkey key issue openai --endpoint 'POST /v1/chat/completions' --budget 5.00/month",
        "valetkey key issue maps --kind public --origin https://www.example.com",
        "valetkey key issue github --kind temporary --uses 3 --json",
        "valetkey key issue github --kind temporary --with-session --session-pid $$",
    ),
    sections={
        "Whose": ("kind", "holder", "label", "environment", "secret"),
        **TERM_SECTIONS,
        "Until": ("with_session", "session_pid"),
    },
)
@click.argument("service", metavar="SERVICE")
@click.option(
    "--kind",
    type=click.Choice(("public", "private", "partner", "temporary")),
    help="What the key is for (private).",
)
@click.option("--holder", metavar="PARTY", help="Who it is for; you, when not said.")
@click.option("--label", metavar="L", help="Tells keys of one holder apart.")
@click.option("--environment", metavar="E", help="Which environment (production).")
@click.option("--secret", metavar="NAME", help="Which of the service's secrets it uses (default).")
@click.option("--expires", metavar="WHEN", help=f"Until when: 1h, 30d{_UNTIL}.")
@terms_flags
@session_flags
@click.option("--idempotency-key", metavar="TEXT", help="The same text again issues no second key.")
@json_flag
def issue(
    service: str,
    kind: str | None,
    holder: str | None,
    label: str | None,
    environment: str | None,
    secret: str | None,
    expires: str | None,
    with_session: bool,
    session_pid: int | None,
    idempotency_key: str | None,
    as_json: bool,
    **terms: Any,
) -> None:
    """Issue a key. It is shown once, unless it is public."""
    client = connect()
    body = given(
        service=service,
        kind=kind,
        holder=holder,
        label=label,
        environment=environment,
        secret=secret,
        expires=expires,
        terms=terms_of(terms) or None,
        **session_of(client, with_session, session_pid),
    )
    answer = client.post("/keys", body, headers=_idempotency(idempotency_key))
    if as_json:
        say_json(answer)
        return
    _tell(client, answer)


@click.command(
    "derive",
    cls=Command,
    examples=(
        "valetkey key derive key_8f3k2m --holder agent --expires 1h",
        "valetkey key derive key_8f3k2m --endpoint 'GET /v1/models' --uses 100",
    ),
    sections={"Whose": ("holder", "label"), **TERM_SECTIONS, "Until": ("with_session", "session_pid")},
)
@click.argument("key_id", metavar="ID")
@click.option("--holder", metavar="PARTY", help="Who it is for (who holds the key that it comes from).")
@click.option("--label", metavar="L", help="Tells keys of one holder apart.")
@click.option("--expires", metavar="WHEN", help=f"Until when: 1h, 30d{_UNTIL} (1h).")
@terms_flags
@session_flags
@click.option("--idempotency-key", metavar="TEXT", help="The same text again derives no second key.")
@json_flag
def derive(
    key_id: str,
    holder: str | None,
    label: str | None,
    expires: str | None,
    with_session: bool,
    session_pid: int | None,
    idempotency_key: str | None,
    as_json: bool,
    **terms: Any,
) -> None:
    """Make a temporary key from a key, as for an agent.

    It is never wider than the key that it comes from, at no later moment, counts at it, and dies with it.
    """
    client = connect()
    body = given(
        holder=holder,
        label=label,
        expires=expires,
        terms=terms_of(terms) or None,
        **session_of(client, with_session, session_pid),
    )
    answer = client.post(f"/keys/{segment(key_id)}/derive", body, headers=_idempotency(idempotency_key))
    if as_json:
        say_json(answer)
        return
    _tell(client, answer)


@click.command(
    "change",
    cls=Command,
    examples=(
        "valetkey key change key_8f3k2m --rate 2/s --expires 2026-12-31",
        "valetkey key change key_8f3k2m --clear network --clear budget",
        "valetkey key change key_8f3k2m --expires never",
    ),
    sections={"Whose": ("label",), **TERM_SECTIONS, "Less": ("clear",)},
)
@click.argument("key_id", metavar="ID")
@click.option("--label", metavar="L", help="Tells keys of one holder apart.")
@click.option("--expires", metavar="WHEN", help=f"Until when: never, 1h, 30d{_UNTIL}.")
@terms_flags
@click.option("--clear", multiple=True, type=click.Choice(CLEARABLE), help="Take this away. Repeatable.")
@json_flag
def change(
    key_id: str, label: str | None, expires: str | None, clear: tuple[str, ...], as_json: bool, **terms: Any
) -> None:
    """Change what a key may do; it is in force at the next call.

    What is given replaces what was there; the rest stays.
    """
    body = given(label=label, expires=expires, terms=terms_of(terms, clear) or None)
    if not body:
        raise Failure("Nothing is to be changed.", "See: valetkey key change --help", ExitCode.USAGE)
    answer = connect().patch(f"/keys/{segment(key_id)}", body)
    if as_json:
        say_json(answer)
        return
    say("Changed; it is in force.")
    say()
    show_key(answer)


def _idempotency(text: str | None) -> dict[str, str]:
    if text is None:
        return {}
    if not 0 < len(text) <= MAX_IDEMPOTENCY_KEY or not all("!" <= character <= "~" for character in text):
        raise Failure(
            "The idempotency key must be one word of printable ASCII.",
            "Give a random word, such as a UUID.",
            ExitCode.USAGE,
        )
    return {"Idempotency-Key": text}


def _tell(client: Client, answer: dict[str, Any]) -> None:
    value = answer.get("key")
    if value is None:
        say(f"Key {answer['id']} was issued before, with the same idempotency key.")
        warn("Its value was shown then and is not kept.")
        return
    if answer.get("holder_made"):
        say(f"{answer['holder']} was not known and is made, as an application.")
        say()
    say(value)
    say()
    again = f"See it again: valetkey key show {answer['id']} --value"
    say(
        again
        if answer["kind"] == "public"
        else "It is shown this once: hand it over now, or keep it where secrets are kept."
    )
    say()
    say(f"For {answer['holder']}, key {answer['id']}, {answer['kind']}:")
    for sentence in answer.get("sentences") or ():
        say(f"  {sentence.rstrip('.')}.")
    if answer.get("expires") is not None:
        say(f"  Until {day_and_time(answer['expires'])}.")
    for warning in answer.get("warnings") or ():
        warn(warning)
    commands = first_call(client, answer["service"], answer["id"])
    if commands:
        say()
        say("Use it:")
        for command in commands:
            say(f"  {command}")
    hint(f"Watch its calls: valetkey events --key {answer['id']} --follow")
