"""A PostgreSQL server for the tests: started once, on a Unix socket in a temporary folder, gone at the end.

Nothing of an installed cluster is used or touched. Fixture `postgres_url` is the server;
`postgres_database_url` is a database on it that one test alone sees.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import psycopg
import pytest
from psycopg import sql

INSTALL_LINE = "apt-get install -y --no-install-recommends postgresql"
START_SECONDS = 30
STOP_SECONDS = 20

# A server that lives for one test run may lose its data, so it need not wait for the disk.
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "60",
    "shared_buffers": "32MB",
}


class PostgresError(RuntimeError):
    """PostgreSQL is installed but did not start; the message holds what it said."""


def find_binaries(debian: Path = Path("/usr/lib/postgresql"), search_path: str | None = None) -> Path | None:
    """The folder that holds initdb and postgres: Debian's newest, else the first on PATH, else None."""
    versions = [folder for folder in debian.glob("*/bin") if (folder / "initdb").exists()]
    if versions:
        return max(versions, key=lambda folder: int(folder.parent.name))
    initdb = shutil.which("initdb", path=search_path)
    if initdb is None:
        return None
    return Path(initdb).resolve().parent


def binaries_or_skip() -> Path:
    """As find_binaries; where there are none the test is skipped, on a build machine it fails."""
    found = find_binaries()
    if found is not None:
        return found
    return without_binaries(build_machine=os.environ.get("CI") == "true")


def without_binaries(*, build_machine: bool) -> NoReturn:
    """Skips with the reason; fails on a build machine, where a skipped test would pass for a passed one."""
    reason = f"PostgreSQL is not installed. As root: {INSTALL_LINE}"
    if build_machine:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _identity() -> dict[str, Any]:
    """Popen arguments that leave root behind: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise PostgresError("Neither user postgres nor user nobody exists, and PostgreSQL does not run as root.")


def _dying_with_us() -> list[str]:
    """Command prefix that ends the server when the test process is killed."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "INT"] if setpriv else []


def _make_cluster(binaries: Path, data: Path, identity: dict[str, Any]) -> None:
    command: list[str | Path] = [binaries / "initdb", "--pgdata", data, "--username=valetkey", "--auth=trust"]
    command += ["--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
    made = subprocess.run(
        command,
        cwd=data.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **identity,
    )
    if made.returncode != 0:
        raise PostgresError(f"initdb ended with {made.returncode}: {made.stdout.strip()}")


def _wait_until_ready(server: subprocess.Popen[bytes], binaries: Path, folder: Path, log: Path) -> None:
    # Waiting for the server's end is the pause between two looks, so that a failed start is seen at once.
    for _ in range(START_SECONDS * 20):
        if server.poll() is not None:
            break
        asked = subprocess.run(
            [binaries / "pg_isready", "--quiet", "--host", folder, "--timeout=1"], check=False
        )
        if asked.returncode == 0:
            return
        try:
            server.wait(timeout=0.05)
        except subprocess.TimeoutExpired:
            continue
    raise PostgresError(f"PostgreSQL did not start: {log.read_text(errors='replace').strip()}")


def _stop(server: subprocess.Popen[bytes]) -> None:
    # SIGINT is PostgreSQL's fast shutdown: connections are closed, not waited for.
    server.send_signal(signal.SIGINT)
    try:
        server.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


@contextmanager
def postgres_server(binaries: Path) -> Iterator[str]:
    """Runs a server of its own and yields its SQLAlchemy URL. Raises PostgresError if it does not start."""
    identity = _identity()
    # Not pytest's tmp_path: that one is closed to the server's user, and too long for the path of a socket.
    folder = Path(tempfile.mkdtemp(prefix="vk-pg-"))
    try:
        if identity:
            os.chown(folder, identity["user"], identity["group"])
        _make_cluster(binaries, folder / "data", identity)
        log = folder / "log"
        settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
        with log.open("wb") as output:
            server = subprocess.Popen(
                [*_dying_with_us(), binaries / "postgres", "-D", folder / "data", "-k", folder, *settings],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A group of its own: Ctrl-C is for pytest, which then stops the server in order.
                process_group=0,
                **identity,
            )
        try:
            _wait_until_ready(server, binaries, folder, log)
            yield f"postgresql+psycopg://valetkey@/postgres?host={folder}"
        finally:
            _stop(server)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def empty_database(server_url: str) -> Iterator[str]:
    """Makes a database on the server, yields its URL, and drops it whoever is still connected."""
    name = f"vk_{uuid.uuid4().hex}"
    address = server_url.replace("postgresql+psycopg", "postgresql", 1)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield server_url.replace("/postgres?", f"/{name}?", 1)
    finally:
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """SQLAlchemy URL of a running server; one for all tests. Write into `empty_database(postgres_url)`."""
    with postgres_server(binaries_or_skip()) as url:
        yield url


@pytest.fixture
def postgres_database_url(postgres_url: str) -> Iterator[str]:
    """SQLAlchemy URL of a database that this test alone sees."""
    with empty_database(postgres_url) as url:
        yield url
