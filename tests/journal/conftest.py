"""Lets these tests import ``models`` and ``standins`` of ``tests``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = str(Path(__file__).resolve().parents[1])
if TESTS not in sys.path:
    sys.path.insert(0, TESTS)


@pytest.fixture(scope="module", autouse=True)
def the_power_stays_on() -> Iterator[None]:
    """Thousands of tiny journals: nothing here cuts the power, so no test waits for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        patch.setattr("os.fdatasync", lambda descriptor: None)
        yield
