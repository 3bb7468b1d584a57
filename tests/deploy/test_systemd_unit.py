"""The unit file is one that systemd takes, scores well, and leaves the server all that it needs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from confined import settings_of, system_calls

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "deploy" / "valetkey.service"
HIGHEST_EXPOSURE = 2.0
INSTALL_LINE = "apt-get install -y --no-install-recommends systemd"


@pytest.fixture(autouse=True)
def systemd() -> None:
    """Skips where systemd's tools are not installed; fails on a build machine, where they have to be."""
    if shutil.which("systemd-analyze") is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"systemd-analyze is not installed. As root: {INSTALL_LINE}", pytrace=False)
        pytest.skip(f"systemd-analyze is not installed. As root: {INSTALL_LINE}")


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


def test_systemd_takes_the_unit_without_a_word(tmp_path: Path) -> None:
    program = Path(sys.executable).parent / "valetkey"
    placed = tmp_path / UNIT.name
    placed.write_text(UNIT.read_text().replace("/opt/valetkey/bin/valetkey", str(program)))
    done = analyze("verify", "--man=no", str(placed))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_unit_with_a_mistake_is_told_apart(tmp_path: Path) -> None:
    placed = tmp_path / UNIT.name
    placed.write_text(UNIT.read_text().replace("ProtectClock=yes", "ProtectClok=yes"))
    assert "ProtectClok" in analyze("verify", "--man=no", str(placed)).stderr


def test_systemd_finds_it_little_exposed() -> None:
    threshold = f"--threshold={HIGHEST_EXPOSURE * 10:.0f}"
    done = analyze("security", "--offline=true", "--no-pager", threshold, str(UNIT))
    assert done.returncode == 0, done.stdout


def test_the_filter_leaves_out_what_only_an_attacker_needs() -> None:
    allowed = system_calls(settings_of(UNIT)["SystemCallFilter"])
    assert not allowed & {"ptrace", "mount", "bpf", "kexec_load", "init_module", "keyctl", "chown", "reboot"}
    assert allowed >= {"read", "socket", "execve", "setpriority", "prlimit64"}


PROBE = """
import ctypes, json, mmap, os, socket, sys
def refused(work):
    try:
        work()
    except OSError as error:
        return error.errno in (1, 13, 30)
    return False
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    if libc.syscall(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "")
wx = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
print(json.dumps({
    "elsewhere": refused(lambda: open("/etc/written", "w")),
    "own": not refused(lambda: open(os.path.join(sys.argv[1], "written"), "w")),
    "packet": refused(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    "ptrace": refused(lambda: call(101, 0, 0, 0, 0)),
    "chown": refused(lambda: os.chown(sys.argv[1], 1, 1)),
    "wx": refused(lambda: mmap.mmap(-1, 4096, prot=wx)),
    "caps": all(int(line.split()[1], 16) == 0 for line in open("/proc/self/status") if line.startswith("Cap")),
}))
"""


def run_confined(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(Path(__file__).with_name("confined.py")), str(UNIT), str(folder), *command],
        env={**os.environ, "TMPDIR": str(folder), "HOME": str(folder)},
        capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that alone can be written, with a path short enough for sockets."""
    made = Path(tempfile.mkdtemp(prefix="vk-"))
    done = run_confined(made, "true")
    if done.returncode:
        pytest.skip(f"this machine does not let its processes be confined: {done.stderr[-200:]}")
    yield made
    shutil.rmtree(made)


@pytest.mark.real
@pytest.mark.skipif(sys.platform != "linux" or os.uname().machine != "x86_64", reason="numbers are of x86-64")
def test_the_restrictions_that_the_server_is_tried_under_do_restrict(folder: Path) -> None:
    done = run_confined(folder, sys.executable, "-c", PROBE, str(folder))
    assert json.loads(done.stdout or "{}") == dict.fromkeys(
        ("elsewhere", "own", "packet", "ptrace", "chown", "wx", "caps"), True
    ), done.stderr


@pytest.mark.real
def test_the_whole_job_works_under_the_restrictions_of_the_unit(folder: Path) -> None:
    done = run_confined(folder, sys.executable, "-m", "valetkey", "demo", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
