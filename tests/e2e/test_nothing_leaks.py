"""Marked secrets go every way that there is; afterwards none is anywhere but where it was meant to be shown.

Searched are the data folder with database, log of it and journal, standard output and error of the server at its
loudest, arguments and environment of every process, and every answer but those that hand a key out.
"""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import os
import pty
import re
import secrets
import signal
import string
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from attach import ways_in
from leaks import Leaks
from running_server import Refused, RunningServer, ValetKey, eventually
from standins.raw_upstream import RawUpstream, Reply, chunked, gzipped, with_length
from valetkey.server.home import Home
from valetkey.server.opening import open_home
from valetkey.server.settings import load_settings
from valetkey.vault.keyring import INDEX, SIGNING

pytestmark = pytest.mark.real

LOUDEST = {"log_format": "json", "log_level": "debug"}


def marked(prefix: str) -> str:
    return prefix + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(44))


def echoes(secret: str) -> tuple[Reply, ...]:
    """An upstream that says back what it was given, in ways that can be caught."""
    body = json.dumps(
        {"you sent": secret, "basic": base64.b64encode(f"u:{secret}".encode()).decode()}
    ).encode()
    cut = len(body) // 2
    return (
        with_length(body, f"X-Echo: {secret}", f"X-Hex: {secret.encode().hex()}"),
        chunked(body[:cut], body[cut:], trailers=(f"X-Late: {secret}",)),
        gzipped(body),
        with_length(body, status="401 Unauthorized"),
        with_length(body, f"Location: https://elsewhere.example/?key={secret}", status="302 Found"),
    )


class Told:
    """All that was answered and must hold no secret; and what processes looked like meanwhile."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, bytes]] = []

    def keep(self, what: str, *answers: bytes | str) -> None:
        for answer in answers:
            self.answers.append((what, answer.encode() if isinstance(answer, str) else answer))

    def keep_processes(self, pids: list[int]) -> None:
        """Arguments and environment, as anyone may read them who may read them at all."""
        for pid in pids:
            for name in ("cmdline", "environ"):
                with suppress(FileNotFoundError, ProcessLookupError):
                    self.keep(f"/proc/{pid}/{name}", Path(f"/proc/{pid}/{name}").read_bytes())


class CommandLine:
    """The product's commands, looked at while they run."""

    def __init__(self, server: RunningServer, told: Told) -> None:
        self._environment = {**os.environ, **server.environment}
        self._told = told

    def __call__(
        self,
        *arguments: str,
        given: str = "",
        shows: bool = False,
        code: int | None = 0,
        misused: bool = False,
    ) -> str:
        """Run one; what it says is kept unless it `shows` a key. Standard input comes after a look at it.

        `misused`: a key stands in its arguments, where the system shows it to everyone.
        """
        process = subprocess.Popen(
            [sys.executable, "-m", "valetkey", *arguments],
            env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        if not misused:
            self._told.keep_processes([process.pid])
        out, err = process.communicate(given.encode(), 60)
        assert code in (None, process.returncode), (arguments, err)
        self._told.keep(" ".join(arguments[:2]), err, *(() if shows else (out,)))
        return out.decode()

    def prompted(self, *arguments: str, typed: str) -> None:
        """Run one on a terminal, and type the secret where it asks."""
        child, terminal = pty.fork()
        if child == 0:
            os.execve(sys.executable, [sys.executable, "-m", "valetkey", *arguments], self._environment)
        shown = b""
        while b":" not in shown:
            shown += os.read(terminal, 4096)
        self._told.keep_processes([child])
        os.write(terminal, typed.encode() + b"\n")
        with suppress(OSError):  # EIO: the other side has ended
            while more := os.read(terminal, 4096):
                shown += more
        _, status = os.waitpid(child, 0)
        os.close(terminal)
        assert os.waitstatus_to_exitcode(status) == 0, shown
        self._told.keep("prompt", shown)


@pytest.fixture
def upstream_secret() -> str:
    return marked("rk-upstream-")


@pytest.fixture
def upstream(upstream_secret: str) -> Iterator[RawUpstream]:
    with RawUpstream(*echoes(upstream_secret)) as running:
        yield running


def own_keys(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The installation's own keys, read as the control process reads them."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    home = Home(server.home)
    opened = open_home(home, load_settings(home))
    with opened.store.read() as connection:
        found = {purpose: opened.keyring.key(connection, purpose) for purpose in (INDEX, SIGNING)}
    opened.store.close()
    found["workspace"] = opened.keyring._workspace_key.reveal()
    found["root"] = bytes.fromhex(server.root_key.read_text().strip().rpartition(":")[2])
    return found


@pytest.mark.timeout(300)
def test_a_secret_that_goes_every_way_is_nowhere_afterwards(
    upstream: RawUpstream, upstream_secret: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(Path.cwd().glob("core*"))
    told = Told()
    known: dict[str, str | bytes] = {"upstream": upstream_secret}
    with RunningServer(workers=2, settings=LOUDEST) as server:
        run = CommandLine(server, told)

        # Import: standard input, key file, prompt, HTTP; in a header, in the query, in two parts.
        add = ("service", "add")
        base = ("--base-url", upstream.url, "--allow-private", "--auth")
        run(*add, "echo", *base, "bearer")
        run(*add, "asked", *base, "query:key")
        run(*add, "basic", *base, "basic")
        run(*add, "mine", "--own")
        run("secret", "set", "echo", given=upstream_secret + "\n")
        run("secret", "set", "asked", given=upstream_secret)
        known["by file"] = marked("rk-file-")
        (tmp_path / "key").write_text(str(known["by file"]))
        run("secret", "set", "basic", "--key-file", str(tmp_path / "key"), code=None)
        known["by prompt"] = marked("rk-prompt-")
        run.prompted("secret", "set", "echo/second", typed=str(known["by prompt"]))
        known["refused"] = marked("rk-refused-")
        run("secret", "set", "nothing-of-that-name", given=str(known["refused"]), code=1)
        run("secret", "set", "echo", str(known["refused"]), code=2, misused=True)

        # Issue: each kind, credentials and tokens.
        issued = {}
        for kind, more in {
            "private": (),
            "temporary": ("--uses", "50"),
            "public": ("--origin", "https://app.example.com"),
        }.items():
            said = json.loads(
                run("key", "issue", "echo", "--kind", kind, "--holder", kind, *more, "--json", shows=True)
            )
            issued[kind] = ValetKey(said["id"], said["key"])
        agreement = {"ends": "30d", "services": [{"name": "echo", "endpoints": ["GET /**"]}]}
        server.manage("POST", "/partners", {"name": "acme", "agreement": agreement})
        said = server.manage("POST", "/keys", {"service": "echo", "kind": "partner", "holder": "acme"})
        issued["partner"] = ValetKey(said["id"], said["key"])
        issued["query"] = server.issue("asked")
        issued["own"] = server.issue("mine")
        # Derive: at the gateway by the key alone, and by management.
        answer = server.call("POST", "/v1/derive", issued["private"], body=b"{}")
        issued["derived"] = ValetKey(answer.json["id"], answer.json["key"])
        said = json.loads(
            run("key", "derive", issued["private"].id, "--holder", "agent", "--json", shows=True)
        )
        issued["derived here"] = ValetKey(said["id"], said["key"])
        known |= {f"{kind} key": key.value for kind, key in issued.items()}
        credential = json.loads(run("service", "credential", "mine", "--json", shows=True))["credential"]
        token = json.loads(run("token", "issue", "bot", "--json", shows=True))["token"]
        known |= {"credential": credential, "token": token}

        # Call: what the upstream echoes, refusals, mistakes, keys where none belongs.
        for number in range(len(upstream.script) + 1):
            answer = server.call("GET", f"/echo/{number}", issued["private"])
            told.keep(f"echo {number}", answer.body, repr(answer.headers))
        told.keep("query", server.call("GET", "/asked/x", issued["query"]).body)
        told.keep("partner", server.call("GET", "/echo/p", issued["partner"]).body)
        told.keep("derived", server.call("GET", "/echo/d", issued["derived"]).body)
        question = json.dumps({"key": issued["own"].value, "method": "GET", "path": "/x"})
        told.keep("verify", server.call("POST", "/v1/verify", credential, body=question).body)
        told.keep("verify", server.call("POST", "/v1/verify", credential, body=question[:-1]).body)
        for value in [*(key.value for key in issued.values()), credential, token]:
            wrong = value[:-1] + ("x" if value[-1] != "x" else "y")
            for path in ("/echo/a", f"/echo/{value}", f"/echo/a?{value}={value}&key={value}", f"/{value}/a"):
                for sent in (value, wrong):
                    headers = {"User-Agent": value, "Origin": f"https://{value}.example", "X-Other": value}
                    told.keep("call", server.call("GET", path, sent, headers=headers).body)
            told.keep(
                "raw",
                server.raw(f"GET /{value} HTTP/1.1\r\nHost: {value}\r\n{value}: {value}\r\n\r\n".encode()),
            )
            twice = f"Authorization: Bearer {value}\r\nAuthorization: {value}\r\n\r\n"
            twice = f"GET /echo/a HTTP/1.1\r\nHost: localhost\r\n{twice}"
            told.keep("raw", server.raw(twice.encode()))
            told.keep(
                "verify",
                server.call("POST", "/v1/verify", value, body=json.dumps({"key": value, "x": 1})).body,
            )
            for method, path, body in (
                ("GET", f"/keys/{value}", None),
                ("POST", f"/keys/{value}/revoke", {}),
                ("GET", f"/services?{value}={value}", None),
                ("POST", "/secrets", {"service": value, "value": value}),
                ("POST", "/services", {"name": value, "base_url": value, "auth": value}),
                ("POST", "/keys", {"service": "echo", "label": value, value: value}),
                ("POST", "/keys", {"service": "echo", "holder": value, "terms": {"networks": [value]}}),
            ):
                with pytest.raises(Refused) as refused:
                    server.manage(method, path, body)
                told.keep(f"{method} {path[:9]}", json.dumps(refused.value.problem))
        for value in (issued["private"].value, token):
            for arguments in (
                ("key", "show", value),
                ("key", value),
                ("secret", "set", "echo", "--key-file", value),
            ):
                run(*arguments, code=None, misused=True)

        # Change and take back.
        run("secret", "set", "echo", given=upstream_secret + "\n")
        run("key", "change", issued["temporary"].id, "--rate", "5/s")
        run("key", "revoke", issued["derived"].id)
        told.keep("revoked", server.call("GET", "/echo/late", issued["derived"]).body)

        # Crash: workers and the control process in the middle of it; later one that would leave a core file.
        told.keep_processes(server.tree())
        slain = server.worker_pids()[0]
        os.kill(slain, signal.SIGKILL)
        eventually(lambda: len(server.worker_pids()) == 2 and slain not in server.worker_pids(), 40)
        for number in (signal.SIGKILL, signal.SIGABRT):
            slain = server.control_pid
            os.kill(slain, number)
            eventually(lambda: back(server, slain), 40)  # noqa: B023
        slain = server.worker_pids()[0]
        os.kill(slain, signal.SIGSEGV)
        eventually(lambda: len(server.worker_pids()) == 2 and slain not in server.worker_pids(), 40)
        told.keep("after", eventually(lambda: reached(server, issued["private"]), 40))

        # Export, all that there is.
        for arguments in (
            ("events", "--limit", "2000"), ("audit", "list", "--limit", "2000"), ("audit", "verify"), ("usage",),
            ("usage", issued["private"].id), ("key", "list"), ("key", "show", issued["private"].id), ("secret", "list"),
            ("secret", "versions", "echo"), ("service", "show", "echo"), ("partner", "list"), ("party", "list"),
            ("token", "list"), ("status",), ("doctor",),
        ):  # fmt: skip
            run(*arguments, "--json", code=None)
        told.keep_processes(server.tree())

        live = Leaks(known).in_files(server.home.rglob("*"))
        assert live == {}
        server.stop()
        known |= own_keys(server, monkeypatch)
        leaks = Leaks(known)
        assert leaks.in_files(server.home.rglob("*")) == {}
        assert leaks.within(server.errors.encode()) == set()
        assert leaks.within(server.output.encode()) == set()
        found = {(what, leak) for what, answer in told.answers for leak in leaks.within(answer)}
        assert found == set()
        assert len(told.answers) > 300
        # What was looked at did hold what happened.
        lines = [json.loads(line) for line in server.errors.splitlines()]
        assert {line["process"] for line in lines} >= {"supervisor", "control", "worker-0", "worker-1"}
        assert "request" in {line["event"] for line in lines}
        # The search finds what is there: the same folder with one more file in it.
        (server.home / "planted").write_bytes(gzip.compress(upstream_secret.encode()))
        assert list(leaks.in_files(server.home.rglob("*"))) == [str(server.home / "planted")]
        (server.home / "planted").unlink()
        server.start()
    assert set(Path.cwd().glob("core*")) == before


def reached(server: RunningServer, key: ValetKey) -> bytes | None:
    """What a call is answered, as soon as one is decided again."""
    with suppress(OSError, http.client.HTTPException):
        answer = server.call("GET", "/echo/after", key)
        return answer.body if answer.code == "VALID" else None
    return None


def back(server: RunningServer, slain: int) -> Any:
    with suppress(OSError):
        return server.control_pid != slain and len(server.worker_pids()) == 2
    return False


def test_nobody_else_gets_at_the_memory_of_any_process() -> None:
    with RunningServer(workers=2) as server:
        tree = server.tree()
        assert len(tree) == 4
        for pid in tree:
            assert ways_in(pid) == set(), pid
            limits = Path(f"/proc/{pid}/limits").read_text()
            assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
