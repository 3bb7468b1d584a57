"""Processes of this machine as others may wait for their end, from /proc and the kernel (Linux)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_OVER = frozenset((b"Z", b"X"))
"""States of a process that has ended and waits to be fetched by its parent (proc_pid_stat(5))."""


@dataclass(frozen=True, slots=True)
class RunningProcess:
    """One process, and no other one that gets the same id later."""

    pid: int
    started: int
    """Clock ticks from the start of the machine to its own."""
    boot: str
    """Which run of the machine."""

    @property
    def lives(self) -> bool:
        """Whether it still runs."""
        return running_process(self.pid) == self

    def open(self) -> int | None:
        """A descriptor that can be read when it has ended (pidfd_open(2)); None where the kernel gives none.

        It may have ended before: ask whether it lives afterwards.
        """
        try:
            return os.pidfd_open(self.pid)
        except OSError:
            return None


def running_process(pid: int) -> RunningProcess | None:
    """The process with that id, None where none runs, or none that this one can see."""
    try:
        # Its name stands in brackets and may hold anything, brackets and spaces too.
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b") ")[2].split()
        boot = (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()
        started = int(fields[19])
    except (OSError, IndexError, ValueError):
        return None
    return None if fields[0] in _OVER else RunningProcess(pid, started, boot)
