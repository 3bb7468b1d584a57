"""The page of promises says what the threat model promises, and what a run that passed found."""

from __future__ import annotations

import pytest

import promises
from promises import NOT_YET, PAGE, THREAT_MODEL, Promise, kept, seen

WHOLE = promises.promises(THREAT_MODEL.read_text("utf-8"))
ONE = Promise("It holds.", (("tests/a.py", "test_b"), ("tests/c.py", "test_d")))


def test_every_promise_of_the_threat_model_stands_there_with_its_tests() -> None:
    text = PAGE.read_text("utf-8")
    assert list(kept(text)) == [promise.text for promise in WHOLE], "run: python tests/promises.py"
    for promise in WHOLE:
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {promise.text} |")]
        assert all(f"`{file}::{name}`" in row for file, name in promise.tests)


def test_the_ten_promises_and_those_beside_them_are_all_read() -> None:
    rows = [line for line in THREAT_MODEL.read_text("utf-8").splitlines() if "`tests/" in line]
    assert len(WHOLE) == len(rows) > 15


@pytest.mark.parametrize(
    ("passed", "said"),
    [
        ({"tests/a.py::test_b"}, None),
        (
            {"tests/a.py::test_b", "tests/c.py::test_d"},
            "2026-11-25, abc: 2 tests passed; 9 kills, 0 calls missing",
        ),
    ],
)
def test_a_promise_is_shown_when_all_its_tests_passed(passed: set[str], said: str | None) -> None:
    assert seen(ONE, "2026-11-25, abc", passed, {"test_d": ["9 kills, 0 calls missing"]}) == said


def test_what_a_run_found_is_kept_when_the_page_is_written_anew() -> None:
    row = f"| {ONE.text} | `tests/a.py::test_b` | found it |"
    assert kept(row) == {ONE.text: "found it"}
    assert kept(f"| {ONE.text} | `tests/a.py::test_b` | {NOT_YET} |")[ONE.text] == NOT_YET
