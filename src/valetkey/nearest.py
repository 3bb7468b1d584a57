"""The name that may be meant by one that does not exist: found in one way, told in one wording."""

from __future__ import annotations

from collections.abc import Iterable

MOST_COMPARED = 200
"""Stored names that are compared, the first by name: an error must not keep the server busy."""
LONGEST = 40
"""Characters of what is compared: the work grows with their square, and who mistypes a longer name copies it anyway."""

_LIKE = 0.6  # below it a guess is seldom right
_BEGUN = 3  # characters from which on a beginning tells enough


def nearest(text: str, choices: Iterable[str]) -> str | None:
    """The choice that is spelled most like `text`, whatever the case of either; else the first that begins so."""
    from difflib import get_close_matches  # when something is misspelt, not at every start

    wanted = text.casefold()
    if len(wanted) > LONGEST:
        return None
    by_folded: dict[str, str] = {}
    for choice in sorted(choice for choice in choices if len(choice) <= LONGEST):
        by_folded.setdefault(choice.casefold(), choice)
    found = get_close_matches(wanted, by_folded, n=1, cutoff=_LIKE)
    if not found and len(wanted) >= _BEGUN:
        found = [folded for folded in by_folded if folded.startswith(wanted)]
    return by_folded[found[0]] if found else None


def did_you_mean(text: str, choices: Iterable[str], before: str = "") -> str:
    """The question that names the nearest, with `before` in front of it; empty where nothing is near."""
    found = nearest(text, choices)
    return "" if found is None else f"Did you mean {before + found!r}?"
