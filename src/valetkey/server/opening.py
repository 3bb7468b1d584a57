"""Opening a home: root key, database, workspace. Made on first use, refused when anything does not fit."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import insert, select

from valetkey.access.actor import SYSTEM
from valetkey.access.operation import Frame, Unit, operation
from valetkey.errors import Unavailable
from valetkey.identifiers import new_id
from valetkey.journal.actions import AuditAction
from valetkey.server.home import Home
from valetkey.settings import Settings
from valetkey.store import tables
from valetkey.store.engine import Store, StoreError, sqlite_url
from valetkey.vault.keyring import Keyring
from valetkey.vault.rewrapping import find_root_key, put_in_place
from valetkey.vault.root_key import CredentialRootKey, FileRootKey, default_path
from valetkey.vault.sealing import RootKey, WrongWrappingKey


@dataclass(frozen=True, slots=True)
class Opened:
    """A home that is open."""

    store: Store
    keyring: Keyring
    workspace: str


@operation(AuditAction.HOME_INIT)
def _init_home(unit: Unit, root: RootKey) -> None:
    unit.keyring.found(unit.connection, "default", root, unit.wall)
    unit.connection.execute(
        insert(tables.environments).values(
            id=unit.new_id("env"), workspace_id=unit.workspace, name=unit.environment
        )
    )
    unit.subject = "home"
    unit.details["root_key"] = root.id


def root_key_path(home: Home, settings: Settings, environment: Mapping[str, str] = os.environ) -> Path:
    """Where the root key of this home lies."""
    if settings.root_key_file is not None:
        return Path(settings.root_key_file)
    return default_path(home.id, environment)


def root_key_provider(
    home: Home, settings: Settings, environment: Mapping[str, str] = os.environ
) -> FileRootKey | CredentialRootKey:
    """What reads the root key: its file, or the credential of systemd where that is named. Raises `RootKeyRefused`."""
    path = root_key_path(home, settings, environment)
    if CredentialRootKey.holds(path, environment):
        return CredentialRootKey(environment, path.name)
    return FileRootKey(path, home.folder)


def open_home(home: Home, settings: Settings) -> Opened:
    """Open a home; an empty one is made. Raises `ValetkeyError` with a sentence for everything that is wrong."""
    provider = root_key_provider(home, settings)
    # A credential is there or its reading says that it is not: none is ever made.
    lacking = isinstance(provider, FileRootKey) and not provider.path.exists()
    store = Store.open(settings.database_url or sqlite_url(home.database))
    with store.read() as connection:
        row = connection.execute(select(tables.workspaces.c.id, tables.workspaces.c.root_key_id)).first()
    if row is None:
        refuse_lost(home)
        root = provider.create() if lacking and isinstance(provider, FileRootKey) else provider.load()
        return _create(store, root)
    if lacking:
        own = home.folder.stat().st_uid == os.geteuid()
        begin = "Put" if own else f"Run as {home.owner_name()}, who owns this home; or put"
        raise Unavailable(
            f"There is no root key at {root_key_path(home, settings)}; without it nothing sealed in this home can "
            "be opened.",
            f"{begin} the key back, or name its place in VALETKEY_ROOT_KEY_FILE.",
        )
    root = find_root_key(provider, row.root_key_id)
    if root.id != row.root_key_id:
        raise WrongWrappingKey(
            f"The root key in {root_key_path(home, settings)} is {root.id}, but this home is sealed under "
            f"{row.root_key_id}.",
            "Name the file that holds that one: VALETKEY_ROOT_KEY_FILE, or serve --root-key-file FILE.",
        )
    with store.read() as connection:
        keyring = Keyring.open(connection, row.id, root, os.urandom)
    return Opened(store, keyring, row.id)


def finish_rewrapping(home: Home, settings: Settings, opened: Opened) -> None:
    """Put a new root key in its place where a re-wrapping was interrupted before that. Raises `RootKeyRefused`."""
    provider = root_key_provider(home, settings)
    if isinstance(provider, FileRootKey):
        with opened.store.read() as connection:
            in_use = opened.keyring.root_key_id(connection)
        put_in_place(provider.path, in_use)


def refuse_lost(home: Home) -> None:
    """Raise `StoreError` where records tell of a database that is not there or empty."""
    if any(home.journal.glob("*.seg")):
        raise StoreError(
            "The database is empty, but the journal of this home is not: the database was lost.",
            "Restore it from a backup, or start with another folder in VALETKEY_HOME.",
        )


def _create(store: Store, root: RootKey) -> Opened:
    workspace = new_id("wsp", os.urandom)
    keyring = Keyring.draw(workspace, os.urandom)
    Frame(store, keyring, time.time, os.urandom, workspace).perform(_init_home, root, SYSTEM)
    return Opened(store, keyring, workspace)
