"""One answer to whether a host is this machine itself, for callers, for listeners and for what is called."""

from __future__ import annotations

import pytest

from valetkey.loopback import is_loopback


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.8.9.1", "::1", "::1%lo", "::ffff:127.0.0.1", "::ffff:7f00:1"]
)
def test_this_machine_is_known_by_all_its_names(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "0.0.0.0",
        "::",
        "192.0.2.1",
        "::ffff:192.0.2.1",
        "fe80::1%eth0",
        "localhost.example",
        "127.0.0.1.example",
    ],
)
def test_nothing_else_is_taken_for_it(host: str) -> None:
    assert not is_loopback(host)
