"""One server with one worker for all attacks that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from running_server import RunningServer


@pytest.fixture(scope="session")
def attacked() -> Iterator[RunningServer]:
    with RunningServer() as server:
        yield server
