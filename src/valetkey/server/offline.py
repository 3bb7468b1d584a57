"""Proving the journal of a home that no server uses."""

from __future__ import annotations

import os
import time
from typing import Any

import msgspec

from valetkey.errors import NotFound
from valetkey.journal.verify import verify_journal
from valetkey.server.home import Home
from valetkey.server.opening import open_home
from valetkey.server.settings import load_settings
from valetkey.server.usage import read_positions


def verify_home(home: Home) -> dict[str, Any]:
    """Prove the journal as it lies there, without writing to it. Raises `ValetkeyError`."""
    if not home.exists:
        raise NotFound(f"There is no valetkey home in {home.folder}.", "Name it with VALETKEY_HOME.")
    lock = home.lock()
    try:
        opened = open_home(home, load_settings(home))
        with opened.store.read() as connection:
            positions, _ = read_positions(connection)
            public_key = opened.keyring.signing_key(connection).public_key()
        stored = {name: (p.count, p.head) for name, p in positions.items() if p.count}
        report = verify_journal(home.journal, [public_key], stored)
        opened.store.close()
    finally:
        os.close(lock)
    answer: dict[str, Any] = msgspec.to_builtins(report)
    return {**answer, "time": time.time()}
