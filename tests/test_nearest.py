"""What may be meant by a name that does not exist."""

from __future__ import annotations

import subprocess
import sys

import pytest

from valetkey.nearest import did_you_mean, nearest

NAMES = ("johanna", "Marlene", "ci-runner", "--with-session", "straße", "MARLA")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("johana", "johanna"),
        ("JOHANNA", "johanna"),
        ("marlene", "Marlene"),
        ("marl", "MARLA"),
        ("STRASSE", "straße"),
        ("--w", "--with-session"),
        ("ci-", "ci-runner"),
        ("ci", None),
        ("", None),
        ("zebra", None),
    ],
)
def test_the_nearest_is_like_it_in_spelling_or_begins_so(text: str, meant: str | None) -> None:
    assert nearest(text, NAMES) == nearest(text, reversed(NAMES)) == meant
    assert did_you_mean(text, NAMES) == ("" if meant is None else f"Did you mean {meant!r}?")


def test_nothing_is_near_where_there_is_nothing() -> None:
    assert nearest("ana", ()) is None


def test_of_names_that_differ_in_case_the_first_is_told() -> None:
    assert nearest("get", ("get", "GET")) == nearest("get", ("GET", "get")) == "GET"


def test_long_texts_are_not_compared_since_the_work_grows_with_their_square() -> None:
    name = "ab" * 20
    assert nearest(f"{name[:-1]}c", [name]) == name
    assert nearest(f"{name}c", [name]) is nearest(name, [f"{name}c"]) is None


def test_what_stands_before_it_is_told_with_it() -> None:
    assert did_you_mean("kye", ("key",), "valetkey ") == "Did you mean 'valetkey key'?"


def test_no_start_pays_for_comparing() -> None:
    program = "import sys, valetkey.nearest; print('difflib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
