"""The machine under the figures: what it is, what runs on it, what a process costs it. Reads /proc only."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "benchmarks" / "out"
RESULTS = ROOT / "docs" / "results"

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PACKAGES = ("granian", "httptools", "aiohttp", "uvloop", "msgspec", "SQLAlchemy", "cryptography")


class Memory(NamedTuple):
    """Bytes of one process."""

    resident: int
    own: int | None
    """Not shared with any other process; None where the kernel does not tell us."""


def cpu_seconds(pid: int) -> float:
    """User and system time a process has used so far, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def memory(pid: int) -> Memory:
    """What a process holds now."""
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except PermissionError:
        return Memory(resident, None)
    own = sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
    return Memory(resident, own * 1024)


def children(pid: int) -> list[int]:
    """Processes that one started."""
    return [int(name) for name in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def pin(pid: int, cores: set[int]) -> None:
    """Keep a process, with every thread it has now, on these cores."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            os.sched_setaffinity(int(thread), cores)
        except ProcessLookupError:
            continue


def commit() -> str:
    """The checkout that runs, with a mark when it has changes of its own."""
    head = _said("git", "rev-parse", "--short=12", "HEAD") or "unknown"
    changed = _said("git", "status", "--porcelain", "--", "src", "pyproject.toml")
    return f"{head} with uncommitted changes" if changed else head


def describe() -> list[str]:
    """The machine and the versions, a line each."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory_kb = int(Path("/proc/meminfo").read_text().split()[1])
    packages = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    nginx = (_said("nginx", "-v", errors=True) or "").rpartition("/")[2]
    wrk = (_said("wrk", "-v") or "").splitlines()[:1]
    return [
        f"{os.cpu_count()} cores ({model}), {memory_kb / 2**20:.0f} GiB, Linux {platform.release()}",
        f"Python {platform.python_version()}; {packages}",
        f"nginx {nginx}, {' '.join(wrk).partition(' Copyright')[0]}",
        f"load of the machine before the run: {os.getloadavg()[0]:.2f}",
    ]


def stamp() -> str:
    """Date and time of the run, UTC."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _said(*command: str, errors: bool = False) -> str | None:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (done.stderr if errors else done.stdout).strip()
