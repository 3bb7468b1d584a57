"""Plain secrets: how they come in, and that they come out nowhere."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_fake_api import FakeApi
from cli_world import Run

SEALED = {
    "service": "openai",
    "name": "default",
    "environment": "production",
    "version": 3,
    "risk": "medium",
    "warnings": [],
}
PLAIN = "sk-test-" + "Q7w" * 9


@pytest.fixture
def sealing(api: FakeApi) -> FakeApi:
    api.answer("POST", "/secrets", SEALED)
    return api


def test_a_secret_comes_in_by_standard_input_unchanged(run: Run, sealing: FakeApi) -> None:
    done = run("secret", "set", "openai", stdin=f"{PLAIN}\n".encode())
    assert (done.code, done.out, done.err) == (0, "Sealed as version 3 of openai/default.\n", "")
    assert sealing.last.body == {"service": "openai", "value": f"{PLAIN}\n"}


def test_a_secret_comes_in_by_file(run: Run, sealing: FakeApi, home: Path) -> None:
    (home / "key").write_text(PLAIN)
    done = run(
        "secret", "set", "openai/batch", "--key-file", str(home / "key"), "--environment", "test", "--expires", "90d",
        "--risk", "high", "--strict", "--json",
    )  # fmt: skip
    assert done.code == 0
    assert sealing.last.body == {
        "service": "openai", "name": "batch", "environment": "test", "expires": "90d", "risk": "high", "strict": True,
        "value": PLAIN,
    }  # fmt: skip
    run("secret", "set", "openai", "--name", "other", "--key-file", "-", stdin=b"by-standard-input")
    assert sealing.last.body == {"service": "openai", "name": "other", "value": "by-standard-input"}


def test_a_byte_order_mark_is_no_part_of_the_key(run: Run, sealing: FakeApi) -> None:
    run("secret", "set", "openai", stdin=b"\xef\xbb\xbf" + PLAIN.encode())
    assert sealing.last.body["value"] == PLAIN


def test_warnings_go_to_standard_error_and_the_exit_code_stays_0(run: Run, api: FakeApi) -> None:
    api.answer("POST", "/secrets", {**SEALED, "warnings": ["It is short.", "It was used before."]})
    for flags in ((), ("--json",)):
        done = run("secret", "set", "openai", *flags, stdin=PLAIN.encode())
        assert done.code == 0
        assert done.err == "warning: It is short.\nwarning: It was used before.\n"
        assert "warning:" not in done.out


ON_THE_LINE = [
    ("secret", "set", "openai", PLAIN),
    ("secret", "set", "openai", "--key-file", PLAIN),
    ("secret", "set", "openai", f"--value={PLAIN}"),
    ("secret", "set", PLAIN + "/" + PLAIN + "/x"),
    ("key", "list", PLAIN),
    ("key", PLAIN),
    (PLAIN,),
    ("service", "add", "openai", PLAIN),
    ("network", "add", "office", "--interface", PLAIN),
]


@pytest.mark.parametrize("arguments", ON_THE_LINE, ids=range(len(ON_THE_LINE)))
def test_a_key_given_by_mistake_as_an_argument_is_not_repeated(
    run: Run, sealing: FakeApi, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("VALETKEY_DEBUG", "1")
    done = run(*arguments, stdin=b"something")
    assert done.code in (1, 2)
    assert PLAIN not in done.out + done.err
    assert sealing.requests == []


def test_a_stray_key_is_told_where_keys_belong(run: Run, sealing: FakeApi) -> None:
    done = run("secret", "set", "openai", PLAIN)
    assert "standard input or with --key-file" in done.err
    assert "treat it as exposed" in done.err


@pytest.mark.parametrize("content", [b"", b"  \n", b"\xff\xfe\x00secret", b"x" * 600_000])
def test_what_cannot_be_a_key_is_refused_without_repeating_it(
    run: Run, sealing: FakeApi, content: bytes
) -> None:
    done = run("secret", "set", "openai", stdin=content)
    assert done.code == 1
    assert sealing.requests == []
    assert "secret\n" not in done.err
    assert len(done.err) < 300


def test_an_error_in_the_middle_shows_type_and_place_but_no_value(
    run: Run, sealing: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    from valetkey.cli import client

    def fail(body: object) -> str:
        raise RuntimeError(f"cannot encode {body}")

    monkeypatch.setattr(client.json, "dumps", fail)
    done = run("secret", "set", "openai", stdin=PLAIN.encode())
    assert done.code == 1
    assert "(RuntimeError)" in done.err
    assert "client.py" not in done.err
    monkeypatch.setenv("VALETKEY_DEBUG", "1")
    debugged = run("secret", "set", "openai", stdin=PLAIN.encode())
    assert "client.py:" in debugged.err
    assert PLAIN not in done.err + debugged.err


def test_a_server_that_breaks_off_leaves_no_value_in_the_error(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket
    import threading

    (home / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home / "run" / "control.sock"))
        listener.listen()

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.recv(100)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        monkeypatch.setenv("VALETKEY_DEBUG", "1")
        done = run("secret", "set", "openai", stdin=PLAIN.encode())
        thread.join(10)
    assert done.code == 1
    assert "broke off" in done.err
    assert PLAIN not in done.err


@pytest.mark.real
def test_at_a_terminal_the_key_is_asked_for_and_never_shown(sealing: FakeApi, home: Path) -> None:
    """On a pseudo-terminal of its own: what is typed is sent, and nothing of it is echoed."""
    child, terminal = pty.fork()
    if child == 0:
        os.execve(
            sys.executable,
            [sys.executable, "-m", "valetkey", "secret", "set", "openai"],
            {"VALETKEY_HOME": str(home), "TERM": "xterm", "PATH": os.defpath},
        )
    seen = read_until(terminal, b"not shown)")
    os.write(terminal, PLAIN.encode() + b"\n")
    seen += read_until(terminal, b"--holder NAME")
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert sealing.last.body["value"] == PLAIN
    assert PLAIN.encode() not in seen
    assert b"Next: valetkey key issue openai" in seen


@pytest.mark.real
def test_the_key_stands_in_no_process_list(sealing: FakeApi, home: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "valetkey", "secret", "set", "openai"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={"VALETKEY_HOME": str(home)},
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(PLAIN.encode())
    process.stdin.flush()
    listed = (
        Path(f"/proc/{process.pid}/cmdline").read_bytes() + Path(f"/proc/{process.pid}/environ").read_bytes()
    )
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert PLAIN.encode() not in listed + out + err


def read_until(terminal: int, wanted: bytes) -> bytes:
    seen = b""
    deadline = time.monotonic() + 20
    while wanted not in seen:
        ready, _, _ = select.select([terminal], [], [], deadline - time.monotonic())
        assert ready, f"waited in vain for {wanted!r}"
        seen += os.read(terminal, 4096)
    return seen
