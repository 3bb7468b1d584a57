"""Which columns of a table fit a terminal's width, and how wide each is. Pure; identifiers are never cut or folded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

GAP = 2
"""Blanks between two columns."""


class Column(NamedTuple):
    """A heading, and what becomes of its column where the terminal is narrow."""

    heading: str
    leave_out: int = 0
    """Its turn when columns must go, 1 first; 0: it always stays."""
    least: int = 0
    """Characters to which its cells may be shortened; 0: they are never shortened."""


def fit(columns: Sequence[Column], widths: Sequence[int], room: int | None) -> list[int]:
    """A width for each column, 0 for one that is left out. `room` None: all there is.

    What must stay may still be wider than the room: then the terminal breaks lines, but nothing is lost.
    """
    if room is None:
        return list(widths)
    shown = list(range(len(columns)))
    smallest = [
        min(width, max(column.least, len(column.heading))) if column.least else width
        for column, width in zip(columns, widths, strict=True)
    ]
    gone = []
    for place in sorted(
        (place for place in shown if columns[place].leave_out), key=lambda place: columns[place].leave_out
    ):
        if _total([smallest[one] for one in shown]) <= room:
            break
        shown.remove(place)
        gone.append(place)
    for place in reversed(gone):  # a narrow one may have gone before a wide one that made the room
        if _total([smallest[one] for one in (*shown, place)]) <= room:
            shown.append(place)
    given = {place: smallest[place] for place in shown}
    spare = room - _total(list(given.values()))
    # What is left goes to the shortened columns, to the narrowest first, so that short cells stay whole.
    for place in sorted(shown, key=lambda place: widths[place] - smallest[place]):
        more = min(max(spare, 0), widths[place] - given[place])
        given[place] += more
        spare -= more
    return [given.get(place, 0) for place in range(len(columns))]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * max(len(widths) - 1, 0)
