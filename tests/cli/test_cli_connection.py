"""Where the command line finds its server, what it says when there is none, and what it never does."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from cli_fake_api import FakeApi, Lines, Text, serving
from cli_world import Run

PAGE = {"items": [], "next": None}


def made_up_token() -> str:
    return "vk_api_" + "Ab3" * 10


@pytest.fixture
def token_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = home / "token"
    file.write_text(made_up_token() + "\n")
    file.chmod(0o600)
    monkeypatch.setenv("VALETKEY_TOKEN_FILE", str(file))
    return file


def test_without_a_server_the_exit_code_is_3_and_the_sentence_names_the_home(run: Run, home: Path) -> None:
    done = run("key", "list")
    assert (done.code, done.out) == (3, "")
    assert done.err == (f"error: No valetkey server is running for {home}.\nStart one: valetkey serve\n")


def test_a_home_that_was_never_made_is_no_server_either(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    home = "/nonexistent/" + "x" * 120
    monkeypatch.setenv("VALETKEY_HOME", home)
    for command in (["status"], ["doctor"], ["audit", "verify"]):
        done = run(*command)
        assert (done.code, done.out) == (3, "")
        assert done.err == (
            f"error: There is no data folder at {home}.\n"
            "Correct VALETKEY_HOME, or make a new one there: valetkey serve\n"
        )


def test_a_socket_nobody_listens_on_is_no_server(run: Run, home: Path) -> None:
    (home / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(home / "run" / "control.sock"))
    assert run("status").code == 3


def test_the_local_owner_sends_no_token(run: Run, api: FakeApi, token_file: Path) -> None:
    api.answer("GET", "/keys", PAGE)
    assert run("key", "list").code == 0
    assert "authorization" not in api.last.headers
    assert api.last.headers["host"] == "localhost"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a socket away")
def test_a_socket_of_another_user_gets_nothing(run: Run, api: FakeApi, home: Path) -> None:
    os.chown(home / "run" / "control.sock", 12345, 12345)
    done = run("secret", "set", "openai", stdin=b"anything")
    assert done.code == 4
    assert "nothing was sent" in done.err
    assert api.requests == []


def test_a_remote_server_gets_the_token_from_the_file(
    run: Run, remote_api: FakeApi, token_file: Path
) -> None:
    remote_api.answer("GET", "/keys", PAGE)
    done = run("key", "list", "--json")
    assert (done.code, done.err) == (0, "")
    assert remote_api.last.headers["authorization"] == f"Bearer {made_up_token()}"


def test_a_token_file_that_others_can_read_is_warned_about(
    run: Run, remote_api: FakeApi, token_file: Path
) -> None:
    token_file.chmod(0o644)
    remote_api.answer("GET", "/keys", PAGE)
    done = run("key", "list", "--json")
    assert done.code == 0
    assert "warning: Other users can read" in done.err
    assert made_up_token() not in done.err


@pytest.mark.parametrize("content", [b"", b"two words", b"a\nb", b"\xff\xfe"])
def test_a_token_file_that_holds_no_token_is_a_failure(
    run: Run, remote_api: FakeApi, token_file: Path, content: bytes
) -> None:
    token_file.write_bytes(content)
    done = run("key", "list")
    assert done.code == 1
    assert remote_api.requests == []


def test_without_a_token_the_answer_says_where_to_put_one(run: Run, remote_api: FakeApi) -> None:
    remote_api.refuse("GET", "/keys", 401, "NOT_AUTHENTICATED", "Nobody is known to be asking.", "Sign in.")
    done = run("key", "list")
    assert done.code == 4
    assert "VALETKEY_TOKEN_FILE" in done.err


@pytest.mark.parametrize(
    "url",
    ["http://10.0.0.1:8200", "http://keys.example.com", "ftp://localhost", "localhost:8200", "https://", "https://u:p@h",
     "https://h:99999", "https://h/path", "http://[::1", "http://127.0.0.1.evil.example:8200"],
)  # fmt: skip
def test_an_address_that_would_leak_the_token_or_is_none_is_wrong_usage(
    run: Run, token_file: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("VALETKEY_URL", url)
    done = run("key", "list")
    assert done.code == 2
    assert "VALETKEY_URL" in done.err
    assert "u:p" not in done.err


def test_a_remote_server_that_is_not_there_is_no_server(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:  # bound, not listening: nobody else gets the port
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("VALETKEY_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        done = run("audit", "verify")
    assert done.code == 3
    assert "No valetkey server answers at http://127.0.0.1:" in done.err


def test_a_server_that_does_not_speak_tls_is_told_apart(
    run: Run, remote_api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VALETKEY_URL", remote_api.url.replace("http:", "https:"))
    done = run("key", "list")
    assert done.code == 1
    assert "does not speak TLS" in done.err


def test_proxies_of_the_environment_see_nothing(
    run: Run, remote_api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(FakeApi()) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        remote_api.answer("GET", "/keys", PAGE)
        assert run("key", "list").code == 0
        assert proxy.requests == []


def test_a_redirect_is_not_followed(run: Run, remote_api: FakeApi) -> None:
    remote_api.answer("GET", "/keys", Text("<p>elsewhere"), status=302)
    done = run("key", "list")
    assert done.code == 1
    assert len(remote_api.requests) == 1


@pytest.mark.parametrize("body", [Text("<html>"), Text(""), Text("[1]"), Text('"x"'), Text("nul")])
@pytest.mark.parametrize("status", [200, 500])
def test_what_is_no_valetkey_server_is_called_so_and_gives_no_traceback(
    run: Run, api: FakeApi, body: Text, status: int
) -> None:
    api.answer("GET", "/keys", body, status=status)
    done = run("key", "list")
    assert done.code == 1
    assert "is not a valetkey server's API." in done.err


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [(400, "INVALID", 1), (404, "NOT_FOUND", 1), (409, "CONFLICT", 1), (503, "UNAVAILABLE", 1),
     (403, "NOT_PERMITTED", 4), (401, "NOT_AUTHENTICATED", 4)],
)  # fmt: skip
def test_a_refusal_is_one_sentence_what_and_one_what_to_do(
    run: Run, api: FakeApi, token_file: Path, status: int, code: str, exit_code: int
) -> None:
    api.refuse("POST", "/keys", status, code, "It cannot be.", "Do another thing.")
    done = run("key", "issue", "openai")
    assert (done.code, done.out) == (exit_code, "")
    if status != 401:
        assert done.err == "error: It cannot be.\nDo another thing.\n"


def test_verify_proves_the_folder_when_no_server_runs(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from valetkey.server import offline

    asked = []

    def verify(opened: object, witness: object) -> dict[str, object]:
        asked.append(witness)
        return {"integrity": "ok", "completeness": "unproven", "records": 7, "problems": []}

    monkeypatch.setattr(offline, "verify_home", verify)
    assert run("audit", "verify").code == 3
    (home / "home-id").write_text("abc\n")
    done = run("audit", "verify", "--json")
    assert done.code == 0
    assert '"records": 7' in done.out
    run("audit", "verify", "--witness", "/mnt/w")
    assert asked == [None, Path("/mnt/w")]


def test_a_stream_that_ends_is_no_server_any_more(run: Run, api: FakeApi) -> None:
    api.answer("GET", "/services/s", {"name": "s"})
    api.answer("GET", "/events/stream", Lines([{"call": "c1", "end": None, "time": 1.0, "code": "VALID"}]))
    done = run("events", "--follow", "--json", "--service", "s")
    assert done.code == 3
    assert done.out == '{"call": "c1", "end": null, "time": 1.0, "code": "VALID"}\n'
    assert api.last.query == {"service": "s"}


def test_following_since_shows_what_was_first_and_nothing_twice(run: Run, api: FakeApi) -> None:
    events = [{"call": f"c{n}", "end": "complete", "time": float(n), "code": "VALID"} for n in range(4)]
    api.answer("GET", "/events", {"items": [events[2], events[1], events[0]], "next": None})
    api.answer("GET", "/events/stream", Lines([events[2], events[3]]))
    done = run("events", "--follow", "--since", "1h", "--json")
    assert [line[10:12] for line in done.out.splitlines()] == ["c0", "c1", "c2", "c3"]
