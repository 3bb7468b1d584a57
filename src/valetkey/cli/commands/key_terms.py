"""The flags of `key issue` and `key change` that say what a key may do, and the terms they make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from valetkey.cli.failure import ExitCode, Failure
from valetkey.cli.grammar import Decorated, given

_LISTS = {
    "network": ("networks", "CIDR|NAME", "Only from there: an address block or a named network. Repeatable."),
    "origin": ("origins", "O", "Only from web pages of this origin. Repeatable."),
    "host": ("hosts", "NAME", "Only this one of the service's hosts. Repeatable."),
    "endpoint": (
        "endpoints",
        "'METHOD /path'",
        "Only this endpoint, by pattern or catalogue name. Repeatable.",
    ),
    "deny-endpoint": (
        "deny_endpoints",
        "'METHOD /path'",
        "Not this endpoint, whatever else is open. Repeatable.",
    ),
    "quota": ("quotas", "N/WINDOW", "Calls in a window, such as 1000/day. Repeatable."),
    "bytes": ("bytes", "SIZE/WINDOW", "Bytes sent and received in a window, such as 1GB/day. Repeatable."),
    "budget": ("budgets", "AMOUNT/WINDOW", "Money in a window, such as 5.00/month. Repeatable."),
}
_TEXTS = {
    "rate": ("rate", "N/UNIT", "Calls in a time, such as 5/s."),
    "schedule": ("schedule", "WHEN", "Only then, such as 'mon-fri 08:00-18:00 Europe/Berlin'."),
}
_FIGURES = {
    "burst": ("burst", "Calls that may come in one go; needs --rate."),
    "concurrency": ("concurrency", "Calls in progress at the same time."),
    "uses": ("uses", "Calls in the key's whole life."),
}
_SWITCHES = {
    "sticky": ("sticky", "Only from the address that uses it first."),
}
CLEARABLE = (*_LISTS, *_TEXTS, *_FIGURES, *_SWITCHES)
"""What `key change --clear` can take away."""


TERM_SECTIONS = {
    "From where": ("networks", "sticky", "origins"),
    "What": ("endpoints", "deny_endpoints", "hosts"),
    "When": ("expires", "schedule"),
    "How much": ("rate", "burst", "concurrency", "quotas", "bytes", "budgets", "uses"),
}
"""Headings under which the help shows the flags."""


LIMIT_FLAGS = ("rate", "burst", "concurrency", "quota", "bytes", "budget")
"""The flags that say how much, for all that several keys can share."""
LIMIT_SECTION = {"How much": ("rate", "burst", "concurrency", "quotas", "bytes", "budgets")}


def terms_flags(function: Decorated) -> Decorated:
    """Adds every flag of the terms, under the terms' own names."""
    return _add(function, CLEARABLE)


def limit_flags(function: Decorated) -> Decorated:
    """Adds `LIMIT_FLAGS`."""
    return _add(function, LIMIT_FLAGS)


def _add(function: Decorated, flags: tuple[str, ...]) -> Decorated:
    options: list[Callable[[Decorated], Decorated]] = [
        *(
            click.option(f"--{flag}", field, multiple=True, metavar=metavar, help=text)
            for flag, (field, metavar, text) in _LISTS.items()
            if flag in flags
        ),
        *(
            click.option(f"--{flag}", field, metavar=metavar, help=text)
            for flag, (field, metavar, text) in _TEXTS.items()
            if flag in flags
        ),
        *(
            click.option(f"--{flag}", field, type=click.IntRange(1), metavar="N", help=text)
            for flag, (field, text) in _FIGURES.items()
            if flag in flags
        ),
        *(
            click.option(f"--{flag}", field, is_flag=True, default=None, help=text)
            for flag, (field, text) in _SWITCHES.items()
            if flag in flags
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def terms_of(options: dict[str, Any], clear: tuple[str, ...] = ()) -> dict[str, Any]:
    """The terms as the API takes them: what was given; what is to be cleared as an empty value.

    Raises `Failure` where one thing is both given and cleared.
    """
    terms = {
        name: list(value) if isinstance(value, tuple) else value for name, value in given(**options).items()
    }
    for flag in clear:
        field = (_LISTS.get(flag) or _TEXTS.get(flag) or _SWITCHES.get(flag) or _FIGURES[flag])[0]
        if field in terms:
            raise Failure(
                f"--{flag} is both given and cleared.",
                f"Leave out one of --{flag} and --clear.",
                ExitCode.USAGE,
            )
        if flag in _FIGURES:
            terms.setdefault("clear", []).append(field)
        else:
            terms[field] = [] if flag in _LISTS else False if flag in _SWITCHES else ""
    return terms
