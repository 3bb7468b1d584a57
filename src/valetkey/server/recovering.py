"""Recovers the segments of writers that died: what they left open is closed, what is torn is said."""

from __future__ import annotations

from collections.abc import Callable, Container
from pathlib import Path

from valetkey.journal.chain import segment_path, segments_in
from valetkey.journal.errors import JournalError, SegmentLive
from valetkey.journal.recover import Recovery, recover_segment
from valetkey.journal.tail import Position
from valetkey.server.journal_reader import JournalReader


def recover_segments(
    journal: Path, reader: JournalReader, slot: int | None, live: Container[str], wall: Callable[[], float]
) -> list[Recovery]:
    """Of one worker slot, or of all (None), but those in `live`. `reader` has read on as far as it could."""
    found = []
    positions = reader.positions()
    for name in segments_in(journal):
        segment = str(name)
        if not reader.admit(name) or segment in live or (slot is not None and name.writer != f"w{slot}"):
            continue
        position = positions.get(segment)
        path = segment_path(journal, name)
        if position is not None and position.sealed and not (name.control and _goes_on(path, position)):
            continue
        try:
            recovery = recover_segment(
                path,
                time=wall(),
                resume=position,
                open_calls=reader.open_calls(segment),
            )
        except SegmentLive:
            continue
        except (OSError, JournalError) as error:
            reader.note(f"{segment}: {error}")
            continue
        if recovery.problem is not None:
            reader.note(f"{segment}: {recovery.problem.detail}")
        found.append(recovery)
    return found


def _goes_on(path: Path, position: Position) -> bool:
    """Whether something stands behind the seal: half a checkpoint, of a process that was killed at its very end."""
    try:
        return path.stat().st_size > position.offset
    except FileNotFoundError:
        return False
