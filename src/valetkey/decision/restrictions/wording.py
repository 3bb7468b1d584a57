"""How restrictions check their lists and speak of their entries, in errors and in sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from valetkey.decision.restrictions.base import InvalidRestriction

MAX_ENTRIES = 1000
"""Entries in one list: more belong into a named network or the catalogue; keeps a key's record small."""

_SHOWN = 80  # characters of an entry that an error repeats
_LISTED = 6  # entries that a sentence names before it only counts

NAME = re.compile(r"[a-z][a-z0-9._-]*")
"""Grammar of the names that stand for a network or for endpoints of the catalogue."""


def quoted(text: str) -> str:
    """`text` as an error may repeat it: cut, and harmless to a terminal."""
    return ascii(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def listed(entries: Sequence[str], joint: str = "or") -> str:
    """``a, b or c``; long lists end in a count."""
    shown = list(entries[:_LISTED])
    if len(entries) > _LISTED:
        shown.append(f"{len(entries) - _LISTED} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {joint} {shown[-1]}"


def checked_entries(what: str, entries: Sequence[str], *, may_be_empty: bool = False) -> tuple[str, ...]:
    """`entries` as a tuple of texts; raises `InvalidRestriction` if there are none, too many or no texts."""
    if isinstance(entries, str) or not all(isinstance(entry, str) for entry in entries):
        raise InvalidRestriction(f"The {what} must be a list of texts. Give each as a text of its own.")
    if not entries and not may_be_empty:
        raise InvalidRestriction(f"The list of {what} is empty. Name at least one, or leave it out.")
    if len(entries) > MAX_ENTRIES:
        raise InvalidRestriction(f"There are more than {MAX_ENTRIES} {what}. Give several keys instead.")
    return tuple(entries)


def without_repetition(entries: Iterable[str]) -> tuple[str, ...]:
    """`entries` in their order, each once."""
    return tuple(dict.fromkeys(entries))
