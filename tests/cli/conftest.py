"""A fake control API for the command line, and ways to run a command against it."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = str(Path(__file__).resolve().parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)

from cli_fake_api import FakeApi, serving  # noqa: E402
from cli_world import Result, Run  # noqa: E402

from valetkey.cli.main import main  # noqa: E402


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder with a path short enough for a socket, and nothing else in the environment."""
    folder = Path(tempfile.mkdtemp(prefix="vk-"))
    for name in list(os.environ):
        if name.startswith("VALETKEY_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("VALETKEY_HOME", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def api(home: Path) -> Iterator[FakeApi]:
    """The API behind the data folder's socket."""
    (home / "run").mkdir(mode=0o700)
    with serving(FakeApi(), socket_path=home / "run" / "control.sock") as fake:
        yield fake


@pytest.fixture
def remote_api(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    """The API on a TCP port of loopback, named by VALETKEY_URL."""
    with serving(FakeApi()) as fake:
        monkeypatch.setenv("VALETKEY_URL", fake.url)
        yield fake


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs one command in this process, with what comes on its standard input."""

    def run_one(*arguments: str, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main(arguments)
        captured = capsys.readouterr()
        return Result(int(code), captured.out, captured.err)

    return run_one
