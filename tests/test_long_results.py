"""The page of long results keeps of each test what it found when it last passed."""

from __future__ import annotations

from long_results import rows

BEFORE = """| test | when, and the commit | what it found |
|---|---|---|
| `test_a` | 2026-11-24 04:27 UTC, abc | 5 kills |
| `test_a` | 2026-11-24 04:27 UTC, abc | 7 kills |
| `test_c` | 2026-11-24 04:27 UTC, abc | 9 stories |
"""


def test_what_was_found_now_takes_the_place_of_what_the_same_test_found_and_of_nothing_else() -> None:
    assert rows(BEFORE, [("test_b", "1 | 2"), ("test_a", "6 kills")], "2026-11-26 03:20 UTC, def") == (
        "| `test_a` | 2026-11-26 03:20 UTC, def | 6 kills |\n"
        "| `test_b` | 2026-11-26 03:20 UTC, def | 1 \\| 2 |\n"
        "| `test_c` | 2026-11-24 04:27 UTC, abc | 9 stories |\n"
    )
