"""Aligned tables without boxes. On a narrow terminal less important columns go and long texts are shortened."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from valetkey.cli.layout import GAP, Column, fit
from valetkey.cli.terminal import (
    can_show,
    colour_of,
    coloured,
    harmless,
    has_colours,
    hint,
    is_terminal,
    width_of,
)

__all__ = ["Cell", "Column", "draw", "facts", "line", "number", "room", "state"]


class Cell(NamedTuple):
    """One field of a row."""

    text: str
    colour: str | None = None
    right: bool = False


def state(text: str) -> Cell:
    """A state, in its colour."""
    return Cell(text, colour_of(text))


def number(text: object) -> Cell:
    """A figure, aligned right."""
    return Cell(str(text), right=True)


def room() -> int | None:
    """Columns of the terminal; None where there is none: what a script reads is never shortened."""
    return shutil.get_terminal_size().columns if is_terminal(sys.stdout) else None


def draw(headings: Sequence[str | Column], rows: Iterable[Sequence[str | Cell]]) -> None:
    """Print a table to standard output."""
    columns = [heading if isinstance(heading, Column) else Column(heading) for heading in headings]
    drawn = [[_clean(cell) for cell in row] for row in rows]
    widths = [
        max(len(column.heading), *(width_of(row[place].text) for row in drawn), 0)
        for place, column in enumerate(columns)
    ]
    given = fit(columns, widths, room())
    rights = [any(row[place].right for row in drawn) for place in range(len(columns))]
    head = [
        Cell(column.heading, "bright_black", right) for column, right in zip(columns, rights, strict=True)
    ]
    print("\n".join(line(columns, row, given) for row in (head, *drawn)), flush=True)
    left_out = [column.heading for column, width in zip(columns, given, strict=True) if not width]
    if left_out:
        hint(f"Left out for want of room: {', '.join(left_out)}. A wider window or --json shows all.")


def line(columns: Sequence[Column], cells: Sequence[str | Cell], widths: Sequence[int]) -> str:
    """One line of a table. A column of width 0 is left out; the last one is not filled up."""
    whole = room() is None
    parts = []
    for column, cell, width in zip(columns, map(_clean, cells), widths, strict=True):
        if not width:
            continue
        text = shortened(cell.text, width) if column.least and not whole else cell.text
        blanks = " " * (width - width_of(text))
        # Coloured after it was measured: what colours is not seen.
        shown = coloured(text, cell.colour) if has_colours(sys.stdout) else text
        parts.append(blanks + shown if cell.right else shown + blanks)
    return (" " * GAP).join(parts).rstrip()


def shortened(text: str, width: int) -> str:
    """`text` in at most `width` columns, with a mark at the end where something is missing."""
    if width_of(text) <= width:
        return text
    mark = "…" if can_show("…") else "~"
    kept = ""
    for character in text:
        if width_of(kept + character) > width - 1:
            break
        kept += character
    return kept + mark


def _clean(cell: str | Cell) -> Cell:
    made = cell if isinstance(cell, Cell) else Cell(cell)
    return made._replace(text=harmless(made.text))


def facts(pairs: Iterable[tuple[str, str]]) -> None:
    """Names and values below each other."""
    shown = [(name, value) for name, value in pairs if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        print(f"{harmless(name):<{width}}  {harmless(value)}", flush=True)
