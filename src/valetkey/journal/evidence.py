"""What stands in a journal while it is proven, and what was found wrong with it so far."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from valetkey.journal.chain import Problem, SegmentName
from valetkey.journal.notes import by_id
from valetkey.journal.verdict import MOST_PROBLEMS, What
from valetkey.journal.walk import Walker


class Evidence:
    """For each part of a proof to look at and to add to."""

    def __init__(self, folder: Path, public_keys: Iterable[Ed25519PublicKey]) -> None:
        self.folder = folder
        self.keys = by_id(public_keys)
        self.names: dict[str, SegmentName] = {}
        self.walkers: dict[str, Walker] = {}
        self.recent: dict[str, dict[int, bytes]] = {}
        """Links of a control segment's records since its last good checkpoint: what the next one may sign."""
        self.missing: set[str] = set()
        self.problems: list[Problem] = []
        self.more = 0
        """Problems that are only counted."""
        self.seen: set[What] = set()

    def report(self, segment: str, seq: int | None, what: str, detail: str) -> None:
        """Something is wrong with a segment, at a record of it where one can be named."""
        self.seen.add(What(what))
        problem = Problem(segment, seq, what, detail)
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)
        else:
            self.more += 1

    def lost(self, stem: str, source: str) -> None:
        """A segment is not there that `source` names; said once."""
        if stem not in self.missing:
            self.missing.add(stem)
            self.report(stem, None, What.SEGMENT_MISSING, f"The segment is gone, but {source} knows it.")
