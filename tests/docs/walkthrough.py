"""Plays a page of the documentation: its commands in their order, against a real server.

Blocks marked ``console`` hold commands after ``$ `` and what they say: ``…`` stands for what differs each time.
Blocks marked ``sh`` and ``python`` are run as they stand. Only this is put in the place of something else:

- ports 8300 and 8200: the ports of this server;
- ``service add``: the stand-in of the API becomes its base URL, for no test calls a vendor;
- ``secret set`` without a file: the stand-in's real key is what a person would type; so are files NAME.key;
- ``key_…``, ``vk_prv_…`` and their kin in a command: the newest one that the page has shown;
- ``valetkey serve`` goes on in the background until a line ``^C``.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pages import ROOT

from valetkey.demo.stage import free_ports

START_SECONDS = 40.0
COMMAND_SECONDS = 90.0
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_VALUE = re.compile(r"\b(key|crd|tok|vk_prv|vk_pub|vk_tmp|vk_svc|vk_api)_([A-Za-z0-9]{12,})")
_PLACEHOLDER = re.compile(r"\b(key|crd|tok|vk_prv|vk_pub|vk_tmp|vk_svc|vk_api)_…")

# Stands in front of the real command on the page's PATH.
_WRAPPER = """\
#!{python}
import json, os, stat, sys
world_file = {world!r}
world = json.load(open(world_file))
arguments = sys.argv[1:]
def after(flag):
    return arguments[arguments.index(flag) + 1] if flag in arguments else None
if arguments[:2] == ["service", "add"] and "--own" not in arguments:
    way = (after("--auth") or "bearer").partition(":")[0]
    api = after("--preset") or {{"header": "anthropic", "query": "openweather", "basic": "stripe"}}.get(way, "openai")
    if "--base-url" in arguments:
        arguments[arguments.index("--base-url") + 1] = world["apis"][api]["url"]
    else:
        arguments += ["--base-url", world["apis"][api]["url"]]
    if "--allow-private" not in arguments:
        arguments.append("--allow-private")
    world["services"][arguments[2]] = api
    json.dump(world, open(world_file, "w"))
if arguments[:2] == ["secret", "set"] and stat.S_ISCHR(os.fstat(0).st_mode):
    typed, keyboard = os.pipe()
    os.write(keyboard, world["apis"][world["services"][arguments[2].partition("/")[0]]]["key"].encode() + b"\\n")
    os.close(keyboard)
    os.dup2(typed, 0)
os.execv({real!r}, [{real!r}, *arguments])
"""


@dataclass(frozen=True)
class Step:
    """One command, and what it shall say (None: anything)."""

    line: int
    kind: str
    command: str
    expected: tuple[str, ...] | None


def steps_of(text: str) -> list[Step]:
    """Every command of a page."""
    found = []
    for block in _BLOCK.finditer(text):
        kind, body = block[1], block[2]
        line = text.count("\n", 0, block.start(2)) + 1
        if kind in ("sh", "python"):
            found.append(Step(line, kind, body, None))
        elif kind == "console":
            found += _console(body, line)
    return found


def _console(body: str, line: int) -> list[Step]:
    found: list[Step] = []
    lines = body.splitlines()
    place = 0
    while place < len(lines):
        assert lines[place].startswith("$ "), f"line {line + place}: a console block begins with a command"
        first, command = place, [lines[place][2:]]
        while command[-1].endswith("\\"):
            place += 1
            command.append(lines[place].removeprefix("> "))
        place += 1
        said = []
        while place < len(lines) and not lines[place].startswith("$ "):
            said.append(lines[place])
            place += 1
        while said and not said[-1]:
            said.pop()
        found.append(Step(line + first, "console", "\n".join(command), tuple(said) or None))
    return found


def matches(expected: tuple[str, ...], said: str) -> bool:
    """Whether what was said is what the page shows; a line that is ``…`` alone stands for any lines."""
    pattern = "".join(
        "(?:.*\n)*?"
        if line.strip() == "…"
        else ".*".join(re.escape(part) for part in line.rstrip().split("…")) + "\n"
        for line in expected
    )
    lines = [line.rstrip() for line in said.strip("\n").splitlines()]
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in lines)) is not None


class Walkthrough:
    """A user's machine: a folder as HOME, a command ``valetkey``, stand-ins of the vendors."""

    def __init__(self, apis: dict[str, Any]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="valetkey-docs-"))
        self.control_port, self.gateway_port = free_ports()
        self._apis = apis
        self._newest: dict[str, str] = {}
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        programs = self.folder / "bin"
        programs.mkdir()
        world = self.folder / "world.json"
        named = {name: {"url": api.url, "key": api.real_key} for name, api in self._apis.items()}
        world.write_text(json.dumps({"apis": named, "services": {}}))
        real = str(Path(sys.executable).parent / "valetkey")
        wrapper = programs / "valetkey"
        wrapper.write_text(_WRAPPER.format(python=sys.executable, world=str(world), real=real))
        wrapper.chmod(0o755)
        self.desk = self.folder / "desk"
        self.desk.mkdir()
        for name, api in self._apis.items():
            (self.desk / f"{name}.key").write_text(api.real_key)
        self.environment = {
            "HOME": str(self.folder),
            "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            "VALETKEY_CONTROL_PORT": str(self.control_port),
            "VALETKEY_GATEWAY_PORT": str(self.gateway_port),
        }
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_server()
        shutil.rmtree(self.folder, ignore_errors=True)

    def play(self, text: str, page: str) -> None:
        """Run every command of a page. Fails where one fails or says something else."""
        steps = steps_of(text)
        if not steps[0].command.startswith("valetkey serve"):
            self.start_server("valetkey serve")
        for step in steps:
            self._play(step, f"{page}:{step.line}")

    def _play(self, step: Step, place: str) -> None:
        command = self._filled(step.command)
        if command.startswith("valetkey serve"):
            said = self.start_server(command)
            expected = step.expected or ()
            if "^C" in expected:
                self.stop_server()
        elif step.kind == "python":
            done = self._run([sys.executable, "-c", command])
            said = done.stdout
            assert done.returncode == 0, f"{place}: {said}"
        else:
            done = self._run(["bash", "-c", f"set -e -o pipefail\n{command}"])
            said = done.stdout
            refused = (
                bool(step.expected) and step.expected is not None and step.expected[0].startswith("error:")
            )
            assert (done.returncode != 0) == refused, (
                f"{place}: exit {done.returncode}\n{step.command}\n{said}"
            )
        for kind, rest in _VALUE.findall(said):
            self._newest[kind] = f"{kind}_{rest}"
        if step.kind == "console" and step.expected is not None:
            shown = self._as_shown(said)
            expected = tuple(line for line in step.expected if line != "^C")
            wanted = "\n".join(expected)
            assert matches(expected, shown), f"{place}\n--- the page shows\n{wanted}\n--- it says\n{shown}"

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            # the repository's own scripts are started where they lie
            cwd=ROOT if "script/" in command[-1] else self.desk,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
        )

    def _filled(self, command: str) -> str:
        def newest(found: re.Match[str]) -> str:
            assert found[1] in self._newest, f"the page has shown no {found[1]}_… yet"
            return self._newest[found[1]]

        command = command.replace("127.0.0.1:8300", f"127.0.0.1:{self.gateway_port}")
        command = command.replace("127.0.0.1:8200", f"127.0.0.1:{self.control_port}")
        return _PLACEHOLDER.sub(newest, command)

    def _as_shown(self, said: str) -> str:
        said = said.replace(f"127.0.0.1:{self.gateway_port}", "127.0.0.1:8300")
        said = said.replace(f"127.0.0.1:{self.control_port}", "127.0.0.1:8200")
        return said.replace(str(self.folder), "~")

    # -- the server that a page uses

    def start_server(self, command: str) -> str:
        """Start it in the background and wait until it takes calls; what it said."""
        self.stop_server()
        log = self.folder / "serve.log"
        with log.open("wb") as out:
            self._server = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.desk,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self._server.poll() is None, f"The server ended: {log.read_text()}"
            with suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", self.gateway_port, timeout=2)
                connection.request("GET", "/readyz")
                # A port that speaks TLS says so; that it serves, the status says.
                told = connection.getresponse().status == 200 or "--tls" in command
                if told and self._all_ready(command):
                    return log.read_text()
            time.sleep(0.05)
        raise AssertionError(f"The server was not ready: {log.read_text()}")

    def _all_ready(self, command: str) -> bool:
        asked = re.search(r"--workers (\d+)", command)
        done = self._run(["valetkey", "status", "--json"])
        workers = json.loads(done.stdout).get("workers", ()) if done.returncode == 0 else ()
        return len(workers) == int(asked[1] if asked else 1) and all(worker["ready"] for worker in workers)

    def stop_server(self) -> None:
        """What Ctrl-C does."""
        if self._server is None:
            return
        self._server.send_signal(signal.SIGINT)
        try:
            self._server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._server.pid, signal.SIGKILL)
            raise AssertionError("The server did not end at Ctrl-C.") from None
        finally:
            self._server = None
