"""The tests' own PostgreSQL server keeps its promises: private, off the network, gone afterwards."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from postgres_server import binaries_or_skip, empty_database, find_binaries, postgres_server, without_binaries


@pytest.mark.real
def test_server_answers_on_its_socket_only_and_leaves_nothing_behind() -> None:
    with postgres_server(binaries_or_skip()) as url:
        engine = create_engine(url)
        with engine.connect() as connection:
            listening = connection.execute(text("SHOW listen_addresses")).scalar_one()
            pid = int(
                Path(connection.execute(text("SHOW data_directory")).scalar_one(), "postmaster.pid")
                .read_text()
                .split()[0]
            )
        engine.dispose()
        assert listening == ""
        folder = make_url(url).query["host"]
        assert isinstance(folder, str)
        assert Path(folder).is_dir()
    assert not Path(folder).exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.real
def test_each_database_is_empty_and_dropped_even_while_someone_is_connected() -> None:
    with postgres_server(binaries_or_skip()) as url:
        with empty_database(url) as first, empty_database(url) as second:
            engine = create_engine(first)
            with engine.begin() as connection:
                connection.execute(text("CREATE TABLE mine (id integer)"))
            with create_engine(second).connect() as connection:
                assert connection.execute(text("SELECT to_regclass('mine')")).scalar_one() is None
        with create_engine(url).connect() as connection:
            left = connection.execute(
                text("SELECT count(*) FROM pg_database WHERE datname LIKE 'vk!_%' ESCAPE '!'")
            )
            assert left.scalar_one() == 0


def test_missing_binaries_skip_with_the_line_that_installs_them() -> None:
    with pytest.raises(pytest.skip.Exception, match=r"apt-get install .* postgresql"):
        without_binaries(build_machine=False)


def test_missing_binaries_fail_on_a_build_machine() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"apt-get install .* postgresql"):
        without_binaries(build_machine=True)


def test_newest_of_several_versions_is_taken(tmp_path: Path) -> None:
    for version in ("9", "15", "17"):
        folder = tmp_path / version / "bin"
        folder.mkdir(parents=True)
        (folder / "initdb").touch()
    assert find_binaries(debian=tmp_path) == tmp_path / "17" / "bin"


def test_nothing_is_found_where_nothing_is_installed(tmp_path: Path) -> None:
    assert find_binaries(debian=tmp_path, search_path=str(tmp_path)) is None
