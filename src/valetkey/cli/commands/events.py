"""``valetkey events``: calls as they were answered, newest first or live."""

from __future__ import annotations

import sys
import time
from itertools import chain
from typing import Any

import click

from valetkey.cli.client import Client, connect, refuse_plain_key, segment
from valetkey.cli.failure import ExitCode, Failure
from valetkey.cli.figures import clock, parse_since, size, zone
from valetkey.cli.grammar import Command, json_flag, paging, repeated
from valetkey.cli.layout import fit
from valetkey.cli.tables import Cell, Column, draw, line, number, room, state
from valetkey.cli.terminal import colour_of, harmless, hint, is_terminal, say, say_json
from valetkey.nearest import did_you_mean

MOST_BEFORE = 1000
"""Earlier calls that --follow --since shows before the live ones."""
_COLUMNS = (
    (Column("CODE"), 23),
    (Column("METHOD", 6), 6),
    (Column("PATH", 0, 12), 40),
    (Column("STATUS", 7), 6),
    (Column("SERVICE", 5, 8), 12),
    (Column("HOLDER", 3, 8), 12),
    (Column("KEY"), 20),
    (Column("ADDRESS", 8), 15),
    (Column("SENT", 1), 7),
    (Column("END", 2, 15), 44),
    (Column("CALL", 4), 36),
)
"""After the time: each with its width where lines come one by one."""
_CLOCK = 12
"""Characters of a time of today."""


def _known_code(text: str | None) -> str | None:
    from valetkey.decision.codes import Code

    if text is None:
        return None
    code = text.upper()
    if code not in Code.__members__:
        hint = did_you_mean(code, Code.__members__) or "See docs/reference/codes.md for all codes."
        raise click.UsageError(f"There is no code {harmless(text)}. {hint}")
    return code


@click.command(
    "events",
    cls=Command,
    examples=(
        "valetkey events --since 1h",
        "valetkey events --key key_8f3k2m --code RATE_LIMITED",
        "valetkey events --service openai --follow",
        "valetkey events --follow --json",
    ),
)
@click.option("--key", metavar="ID", help="Calls with this key.")
@click.option("--service", metavar="S", help="Calls of this service.")
@click.option("--code", metavar="C", help="Calls that were answered so, such as VALID or RATE_LIMITED.")
@click.option(
    "--since",
    metavar="WHEN",
    help="From when on: a span back from now such as 1h, a day, or RFC 3339 time (UTC without zone).",
)
@paging
@click.option("--follow", is_flag=True, help="Go on as calls come, until interrupted.")
@json_flag
def events(
    key: str | None,
    service: str | None,
    code: str | None,
    since: str | None,
    limit: int | None,
    cursor: str | None,
    follow: bool,
    as_json: bool,
) -> None:
    """Calls, newest first or live."""
    if follow and (limit or cursor):
        raise Failure("What is followed has no pages.", "Leave out --limit and --cursor.", ExitCode.USAGE)
    refuse_plain_key(key)
    client = connect()
    now = time.time()
    query = {
        "key": key,
        "service": service,
        "code": _known_code(code),
        "since": None if since is None else parse_since(since, now),
    }
    if follow:
        _refuse_unknown(client, key, service)
        _follow(client, query, as_json)
    answer = client.page("/events", query, limit=limit, cursor=cursor)
    if as_json:
        say_json(answer)
        return
    if not answer["items"]:
        if any((key, service, code, since, cursor)):
            _refuse_unknown(client, key, service)
            say("No call is like that.")
        else:
            say("There were no calls yet.")
            say("Issue a key and make the first: valetkey key issue SERVICE")
        return
    draw(_headings(now), (_row(event, now) for event in answer["items"]))
    following = answer.get("next")
    flags = {"key": key, "service": service, "code": code, "since": since}
    hint(
        f"Older ones: {repeated('valetkey events', **flags, limit=limit, cursor=following)}"
        if following
        else f"Live: {repeated('valetkey events', key=key, service=service, code=code)} --follow"
    )


def _refuse_unknown(client: Client, key: str | None, service: str | None) -> None:
    """Raise `Failure` for a filter that names nothing: otherwise a slip of the pen looks like silence."""
    if key is not None:
        client.get(f"/keys/{segment(key)}")
    if service is not None:
        client.get(f"/services/{segment(service)}")


def _headings(now: float) -> list[Column]:
    return [Column(f"TIME ({zone(now)})"), *(column for column, _ in _COLUMNS)]


def _row(event: dict[str, Any], now: float) -> tuple[str | Cell, ...]:
    many = f" x {event['count']}" if (event.get("count") or 1) > 1 else ""
    return (
        clock(event["time"], now),
        Cell(event["code"] + many, colour_of(event["code"])),
        event.get("method") or "-",
        event.get("path") or "-",
        number(event.get("status") or "-"),
        event.get("service") or "-",
        event.get("holder") or "-",
        event.get("key_id") or "-",
        event.get("address") or "-",
        number(size(event.get("bytes_out"))),
        _end(event),
        event["call"],
    )


def _end(event: dict[str, Any]) -> Cell:
    """How it ended; of an upstream that failed also why."""
    ended = state(event.get("end") or "open")
    cause = event.get("cause")
    return ended._replace(text=f"{ended.text}: {cause}") if cause else ended


def _follow(client: Client, query: dict[str, Any], as_json: bool) -> None:
    since = query.pop("since")
    # The stream is asked for first, so that nothing falls between it and what came before.
    stream = client.stream("/events/stream", query)
    earlier: list[dict[str, Any]] = []
    if since is not None:
        earlier = client.page("/events", {**query, "since": since}, limit=MOST_BEFORE)["items"]
    shown = {(event["call"], event["end"]) for event in earlier}
    now = time.time()
    headings = _headings(now)
    first = max(len(headings[0].heading), *(len(clock(event["time"], now)) for event in earlier), _CLOCK)
    widths = fit(headings, [first, *(width for _, width in _COLUMNS)], room())
    if not as_json:
        print(line(headings, [column.heading for column in headings], widths), flush=True)
        if not earlier and is_terminal(sys.stderr):
            print("Waiting for calls. Ctrl-C ends it.", file=sys.stderr, flush=True)
    for event in chain(reversed(earlier), (e for e in stream if (e["call"], e["end"]) not in shown)):
        if as_json:
            say_json(event)
        else:
            print(line(headings, _row(event, now), widths), flush=True)
    raise Failure("The server ended the stream.", "See: valetkey status", ExitCode.NO_SERVER)
