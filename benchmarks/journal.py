"""What the journal says about a run: counted from the files themselves, not from what the server reports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from valetkey.journal.chain import SEGMENT_SUFFIX, split_line
from valetkey.journal.records import AnyRecord, Opened, decode_record


def sizes(folder: Path) -> dict[str, int]:
    """How long each segment is now: where `since` goes on."""
    return {path.name: path.stat().st_size for path in _segments(folder)}


def codes_since(folder: Path, before: dict[str, int]) -> dict[str, int]:
    """Opened records since then, by code. Looks at the text only: quick enough for millions."""
    found: dict[str, int] = {}
    for path in _segments(folder):
        with path.open("rb") as file:
            file.seek(before.get(path.name, 0))
            for line in file:
                head, mark, rest = line[:200].partition(b'"code":"')
                if mark and b'"kind":"opened"' in head:
                    code = rest.partition(b'"')[0].decode()
                    found[code] = found.get(code, 0) + 1
    return found


def opened_since(folder: Path, before: dict[str, int]) -> Iterator[Opened]:
    """Every opened record since then."""
    for path in _segments(folder):
        with path.open("rb") as file:
            file.seek(before.get(path.name, 0))
            for line in file:
                parts = split_line(line)
                if parts is None or b'"kind":"opened"' not in line:
                    continue
                record: AnyRecord = decode_record(parts[0])
                if isinstance(record, Opened):
                    yield record


def _segments(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SEGMENT_SUFFIX}"))
