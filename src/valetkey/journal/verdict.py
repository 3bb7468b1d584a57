"""What a proof says: problems by their kinds, what each means, and the report with its two verdicts."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

from valetkey.journal.chain import Problem

Verdict = Literal["ok", "broken", "unproven"]

MOST_PROBLEMS = 200
"""Problems listed; more are only counted, so that a shredded journal still gives a report one can read."""


class What(StrEnum):
    """What a problem is."""

    CHANGED = "changed"
    REMOVED = "removed"
    REORDERED = "reordered"
    TRUNCATED = "truncated"
    PERSONAL_CHANGED = "personal changed"
    PERSONAL_REMOVED = "personal removed"
    SEGMENT_MISSING = "segment missing"
    STRANGER = "stranger"
    SIGNATURE_BAD = "checkpoint signature bad"
    CHECKPOINT_MISSING = "checkpoint missing"
    REWRITTEN = "rewritten"
    WITNESS_BAD = "witness bad"
    UNPROVEN = "unproven"


VERDICTS: dict[What, tuple[Verdict, Verdict]] = {
    What.CHANGED: ("broken", "ok"),
    What.REMOVED: ("broken", "broken"),
    What.REORDERED: ("broken", "ok"),
    What.TRUNCATED: ("ok", "broken"),
    What.PERSONAL_CHANGED: ("broken", "ok"),
    What.PERSONAL_REMOVED: ("broken", "broken"),
    What.SEGMENT_MISSING: ("ok", "broken"),
    What.STRANGER: ("broken", "ok"),
    What.SIGNATURE_BAD: ("broken", "ok"),
    What.CHECKPOINT_MISSING: ("broken", "broken"),
    What.REWRITTEN: ("broken", "broken"),
    What.WITNESS_BAD: ("ok", "unproven"),
    What.UNPROVEN: ("ok", "unproven"),
}
"""What a problem says about integrity and about completeness."""


class Report(msgspec.Struct, frozen=True):
    """What verification found."""

    integrity: Verdict
    completeness: Verdict
    records: int
    segments: int
    checkpoints: int
    """Checkpoints with a good signature."""
    erased: int
    """Records whose personal fields were erased, with a signed note of it."""
    problems: list[Problem]
    more_problems: int = 0
    witnessed: int = 0
    """Checkpoints that a witness outside holds just as they stand here."""
