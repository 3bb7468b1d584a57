"""Proving the journal of a home that no server uses."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from valetkey.errors import NotFound
from valetkey.server.home import Home
from valetkey.server.opening import open_home
from valetkey.server.proving import prove, read_public_key
from valetkey.server.settings import load_settings
from valetkey.server.usage import read_positions


def verify_home(home: Home, witness: Path | None = None) -> dict[str, Any]:
    """Prove the journal as it lies there, without writing to it. Raises `ValetkeyError`."""
    if not home.exists:
        raise NotFound(f"There is no valetkey home in {home.folder}.", "Name it with VALETKEY_HOME.")
    lock = home.lock()
    try:
        opened = open_home(home, load_settings(home))
        with opened.store.read() as connection:
            positions = read_positions(connection)
            public_key = opened.keyring.signing_key(connection).public_key()
        stored = {name: (p.count, p.head) for name, p in positions.items() if p.count}
        report = prove(home.journal, public_key, stored, None, witness)
        opened.store.close()
    finally:
        os.close(lock)
    return {**report, "time": time.time()}


def verify_copy(home: Home, public_key: str, witness: Path | None = None) -> dict[str, Any]:
    """Prove a copy of a journal with nothing but the public key: no root key, no database. Raises `ValetkeyError`."""
    if not home.journal.is_dir():
        raise NotFound(f"There is no journal in {home.folder}.", "Name the data folder with VALETKEY_HOME.")
    return {**prove(home.journal, read_public_key(public_key), {}, None, witness), "time": time.time()}
