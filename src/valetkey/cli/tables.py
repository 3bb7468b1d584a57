"""Aligned tables without boxes. Rich is imported only when one is drawn."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from valetkey.cli.terminal import colour_of, harmless, has_colours, is_terminal

_UNBOUNDED = 100_000
"""Columns where no terminal sets a width: what a script reads is never folded."""


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


def draw(headings: Sequence[str], rows: Iterable[Sequence[str | Cell]]) -> None:
    """Print a table to standard output."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = has_colours(sys.stdout)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim" if colours else "")
    drawn = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
    for place, heading in enumerate(headings):
        right = any(row[place].right for row in drawn)
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for row in drawn:
        table.add_row(
            *(Text(harmless(cell.text), style=(cell.colour or "") if colours else "") for cell in row)
        )
    console = Console(
        file=sys.stdout,
        force_terminal=colours,
        color_system="auto" if colours else None,
        width=None if is_terminal(sys.stdout) else _UNBOUNDED,
        highlight=False,
        legacy_windows=False,
    )
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()), flush=True)


def facts(pairs: Iterable[tuple[str, str]]) -> None:
    """Names and values below each other; no table, so no Rich."""
    shown = [(name, value) for name, value in pairs if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        print(f"{harmless(name):<{width}}  {harmless(value)}", flush=True)
