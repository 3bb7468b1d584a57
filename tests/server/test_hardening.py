"""What a process of the server does for itself before anything else."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path
from unittest import mock

import pytest

from attach import NOBODY, PR_SET_DUMPABLE, become, ways_in
from valetkey.server.hardening import AHEAD_OF_WORKERS, go_first, harden


@pytest.mark.parametrize("refused", [None, PermissionError])
def test_the_control_process_goes_first_where_it_may(refused: type[Exception] | None) -> None:
    with mock.patch("os.setpriority", side_effect=refused) as asked:
        go_first()
    asked.assert_called_once_with(os.PRIO_PROCESS, 0, AHEAD_OF_WORKERS)


@pytest.mark.parametrize("hardened", [False, True])
def test_not_even_the_same_user_gets_at_a_hardened_process(hardened: bool) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        become(NOBODY)
        # Changing the user closed it already: begin as open as a process of that user's own is.
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
        if hardened:
            harden()
        os.write(writer, b".")
        signal.pause()
    try:
        os.read(reader, 1)
        found = ways_in(child, NOBODY)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
        os.close(writer)
    # Otherwise the test would see nothing: where Yama allows it (0), all ways are open.
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    open_ways = (
        {"environ", "maps", "fd"}
        if scope.exists() and scope.read_text().strip() != "0"
        else {"attach", "mem"}
    )
    assert (found == set()) if hardened else (found >= open_ways)
