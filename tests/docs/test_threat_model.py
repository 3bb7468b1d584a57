"""Each promise of the threat model names tests that exist, and none of the ten is without one."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest
from pages import DOCS, ROOT

TEXT = (DOCS / "threat-model.md").read_text("utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)
ROWS = [line for line in TEXT.splitlines() if re.match(r"\| \d+ \|", line)]


@cache
def named_in(file: str) -> frozenset[str]:
    """Names of the test functions of a file, read and not run."""
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_is_named_exists(file: str, name: str) -> None:
    assert (ROOT / file).is_file()
    assert name in named_in(file)


def test_every_word_that_looks_like_a_test_is_one() -> None:
    assert TEXT.count("::") == len(NAMED)


def test_the_ten_promises_stand_there_in_order_each_with_a_test() -> None:
    assert [int(line.split("|")[1]) for line in ROWS] == list(range(1, 11))
    assert all("::test_" in line for line in ROWS)


def test_every_other_promise_is_shown_too() -> None:
    beside = TEXT.partition("Beside these:")[2].partition("## What is not promised")[0]
    rows = [line for line in beside.splitlines() if line.startswith("| ")][1:]
    assert rows and all("::test_" in line for line in rows)


def test_security_and_the_page_promise_the_same_number_of_things() -> None:
    security = (ROOT / "SECURITY.md").read_text("utf-8")
    assert re.findall(r"^(\d+)\. ", security, re.MULTILINE) == [str(number) for number in range(1, 11)]
    assert "docs/threat-model.md" in security
