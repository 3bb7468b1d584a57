"""The faults that `script/mutations` makes fit the code as it is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mutations import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parent.parent
PARTS = {"decide", "seal", "chain", "scrub", "revoke", "reserve", "recover"}


def test_there_are_twenty_and_every_part_has_some() -> None:
    assert len(MUTATIONS) >= 20
    assert {mutation.part for mutation in MUTATIONS} == PARTS
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_fits_its_file_once_and_leaves_it_readable(mutation: Mutation) -> None:
    text = (ROOT / "src" / "valetkey" / mutation.file).read_text()
    ast.parse(mutation.applied_to(text))
    assert all((ROOT / test).exists() for test in mutation.tests)
