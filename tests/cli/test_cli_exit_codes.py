"""One table of exit codes for all commands: 2 is the command line itself, 1 what it names or what was refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_fake_api import FakeApi
from cli_world import Run

from valetkey.cli.failure import ExitCode


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("audit proof --check {file} --key xyz", ExitCode.USAGE),
        ("audit verify --key xyz", ExitCode.USAGE),
        ("events --since never", ExitCode.USAGE),
        ("key issue openai --uses 0", ExitCode.USAGE),
        ("audit proof --check {file}", ExitCode.FAILED),
        ("audit proof --check {none}", ExitCode.FAILED),
        ("partner add acme --agreement {file}", ExitCode.FAILED),
        ("partner add acme --agreement {none}", ExitCode.FAILED),
        ("secret set openai --key-file {none}", ExitCode.FAILED),
        ("secret set openai", ExitCode.FAILED),
        ("key find", ExitCode.FAILED),
        ("key show key_1", ExitCode.FAILED),
    ],
)
def test_a_wrong_command_line_and_a_useless_file_end_apart(
    run: Run, api: FakeApi, tmp_path: Path, line: str, code: ExitCode
) -> None:
    file = tmp_path / "a file"
    file.write_bytes(b"this is nothing")
    words = [word.format(file=file, none=tmp_path / "none") for word in line.split()]
    done = run(*words)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("error: ")
