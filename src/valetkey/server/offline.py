"""Proving the journal of a home that no server uses."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection

from valetkey.errors import NotFound
from valetkey.journal.admission import read_admission
from valetkey.server.home import Home
from valetkey.server.opening import open_home
from valetkey.server.proving import proof_of, prove, read_public_key
from valetkey.server.settings import load_settings
from valetkey.server.usage import read_positions


@contextmanager
def _at_rest(home: Home) -> Iterator[tuple[Connection, Ed25519PublicKey]]:
    """A home that no server uses: its database, and the key that signs its journal. Raises `ValetkeyError`."""
    if not home.exists:
        raise NotFound(f"There is no valetkey home in {home.folder}.", "Name it with VALETKEY_HOME.")
    lock = home.lock()
    try:
        opened = open_home(home, load_settings(home))
        try:
            with opened.store.read() as connection:
                yield connection, opened.keyring.signing_key(connection).public_key()
        finally:
            opened.store.close()
    finally:
        os.close(lock)


def verify_home(home: Home, witness: Path | None = None) -> dict[str, Any]:
    """Prove the journal as it lies there, without writing to it. Raises `ValetkeyError`."""
    with _at_rest(home) as (connection, public_key):
        positions = read_positions(connection)
        stored = {name: (p.count, p.head) for name, p in positions.items() if p.count}
        report = prove(home.journal, public_key, stored, None, witness)
    return {**report, "time": time.time()}


def prove_at_rest(home: Home, which: str, *, personal: bool) -> dict[str, Any]:
    """The proof of one call or record, of a home that no server uses. Raises `ValetkeyError`."""
    with _at_rest(home) as (_, public_key):
        admit = read_admission(home.journal, [public_key])
        return proof_of(home.journal, public_key, which, admit, personal=personal)


def verify_copy(home: Home, public_key: str, witness: Path | None = None) -> dict[str, Any]:
    """Prove a copy of a journal with nothing but the public key: no root key, no database. Raises `ValetkeyError`."""
    if not home.journal.is_dir():
        raise NotFound(f"There is no journal in {home.folder}.", "Name the data folder with VALETKEY_HOME.")
    return {**prove(home.journal, read_public_key(public_key), {}, None, witness), "time": time.time()}
