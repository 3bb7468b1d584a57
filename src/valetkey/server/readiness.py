"""What keeps this installation from being ready, as the control process sees it.

A coarse word for everyone, a sentence with details for those who are signed in.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from valetkey.decision.limits import MAX_CLOCK_LAG
from valetkey.journal.disk import free_and_held_back
from valetkey.readiness import Missing
from valetkey.server.workers import Worker


class Lacking(NamedTuple):
    """One thing that is missing."""

    what: Missing
    detail: str
    """For those who are signed in."""


def lacking(
    workers: Iterable[Worker],
    *,
    journal: Path,
    journal_failed: bool,
    newest: float,
    wall: float,
) -> list[Lacking]:
    """All that is missing; empty when calls are decided. `newest` is the latest time that a record states."""
    found = _workers(list(workers))
    if journal_failed:
        found.append(Lacking(Missing.JOURNAL, "The control segment of the journal cannot be written."))
    try:
        free, held_back = free_and_held_back(journal)
    except OSError as error:
        found.append(Lacking(Missing.DISK, f"The disk of {journal} cannot be asked: {error.strerror}."))
    else:
        if free < held_back:
            said = f"{_size(free)} are free on the disk of {journal}; calls need {_size(held_back)}."
            found.append(Lacking(Missing.DISK, said))
    if wall < newest - MAX_CLOCK_LAG:
        said = (
            f"The clock is {newest - wall:,.0f} seconds behind the newest record; set it right, "
            "or say that it is: valetkey clock accept"
        )
        found.append(Lacking(Missing.CLOCK, said))
    return found


def _workers(workers: list[Worker]) -> list[Lacking]:
    """Nothing as long as one worker serves."""
    if any(worker.ready and worker.channel is not None for worker in workers):
        return []
    if not workers:
        return [Lacking(Missing.KEYS, "No gateway worker is running.")]
    return [
        Lacking(Missing.CONTROL, f"Worker {worker.slot} (process {worker.pid}) has lost the control process.")
        if worker.ready
        else Lacking(Missing.KEYS, f"Worker {worker.slot} is starting.")
        for worker in workers
    ]


def _size(number: int) -> str:
    return f"{number / 1e9:.2f} GB" if number >= 1e8 else f"{number / 1e6:.2f} MB"


def words(found: Iterable[Lacking]) -> list[str]:
    """Each coarse word once, in order."""
    return list(dict.fromkeys(one.what.value for one in found))
