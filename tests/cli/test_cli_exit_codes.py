"""One table of exit codes: 2 is the command line or a variable itself, 1 what they name or what was refused."""

from __future__ import annotations

import os
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


@pytest.mark.parametrize(
    ("variables", "file", "line", "code"),
    [
        ({"CONTROL_PORT": "abc"}, "", "serve", ExitCode.USAGE),
        ({"CONTROL_PORT": "abc"}, "", "init", ExitCode.USAGE),
        ({"GATEWAY_PORT": "99999"}, "", "serve", ExitCode.USAGE),
        ({"DATABASE_URL": "nonsense"}, "", "serve", ExitCode.USAGE),
        ({"DATABASE_URL": "nonsense"}, "", "init", ExitCode.USAGE),
        ({"CONTROL_PORT": "8300"}, "", "serve", ExitCode.USAGE),
        ({}, "", "serve --trusted-proxy nope", ExitCode.USAGE),
        ({}, "", "serve --tls-cert x", ExitCode.USAGE),
        ({}, "", "serve --control-port 8200 --gateway-port 8200", ExitCode.USAGE),
        ({}, "", "serve --control-port abc", ExitCode.USAGE),
        ({}, "", "serve --log-format json --trusted-proxy nope", ExitCode.USAGE),
        ({}, "control_port = 8300", "serve --gateway-port 8300", ExitCode.FAILED),
        ({}, "control_port = 8201", "serve --gateway-port 8201", ExitCode.USAGE),
        ({}, 'trusted_proxy = ["nope"]', "serve", ExitCode.FAILED),
        ({}, 'database_url = "nonsense"', "serve", ExitCode.FAILED),
        ({}, "this is no setting", "serve", ExitCode.FAILED),
    ],
)
def test_a_server_that_cannot_be_meant_so_and_one_that_cannot_start_end_apart(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], file: str, line: str,
    code: ExitCode,
) -> None:  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(f"VALETKEY_{name}", value)
    if file:
        (home / "config.toml").write_text(f"{file}\n")
    monkeypatch.setattr(os, "umask", lambda _: 0)
    done = run(*line.split())
    assert (done.code, done.out) == (code, ""), done.err
    assert "error" in done.err and "Traceback" not in done.err
    assert [path.name for path in home.iterdir()] == (["config.toml"] if file else []), "nothing was made"
