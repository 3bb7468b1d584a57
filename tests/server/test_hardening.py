"""What a process of the server does for itself before anything else."""

from __future__ import annotations

import os
from unittest import mock

import pytest

from valetkey.server.hardening import AHEAD_OF_WORKERS, go_first


@pytest.mark.parametrize("refused", [None, PermissionError])
def test_the_control_process_goes_first_where_it_may(refused: type[Exception] | None) -> None:
    with mock.patch("os.setpriority", side_effect=refused) as asked:
        go_first()
    asked.assert_called_once_with(os.PRIO_PROCESS, 0, AHEAD_OF_WORKERS)
