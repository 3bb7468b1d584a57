"""Fixtures for all tests: a store on each database that Valetkey runs on, and PostgreSQL itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from long_results import LongRun, Results
from postgres_server import postgres_database_url, postgres_url  # noqa: F401
from valetkey.store.engine import Store, sqlite_url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database that this test alone sees, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "valetkey.db")
    url = request.getfixturevalue("postgres_database_url")
    assert isinstance(url, str)
    return url


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """An opened store with all tables and no rows, once on SQLite and once on PostgreSQL."""
    opened = Store.open(store_url)
    yield opened
    opened.close()


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("KEEP_LONG_RESULTS") == "1":
        config.pluginmanager.register(LongRun(), "long-run")


@pytest.fixture
def results(request: pytest.FixtureRequest) -> Results:
    """Where a long test says what it found; of short versions nothing is kept."""
    run = request.config.pluginmanager.get_plugin("long-run")
    is_long = request.node.get_closest_marker("long") is not None
    name = request.node.name.partition("[")[0]
    return Results(name, run.kept if isinstance(run, LongRun) and is_long else None)
