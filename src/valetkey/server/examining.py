"""`valetkey doctor`: gather what the rules need, of the server that runs or of a data folder that none uses."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import select

from valetkey.access.clock import Newest, read_newest
from valetkey.doctor import look
from valetkey.doctor.facts import (
    BackupFacts,
    CertificateFacts,
    FolderFacts,
    HoldingsFacts,
    Installation,
    ProcessFacts,
    RecordFacts,
    RootKeyFacts,
    SettingsFacts,
)
from valetkey.doctor.findings import Area, Report
from valetkey.doctor.holdings import holdings
from valetkey.doctor.rules import examine
from valetkey.errors import Invalid, NotFound, Unavailable, ValetkeyError
from valetkey.journal.admission import Admission, read_admission
from valetkey.journal.chain import segments_in
from valetkey.journal.checkpoint import last_checkpoint
from valetkey.server.home import Home
from valetkey.server.opening import refuse_lost, root_key_path, root_key_provider
from valetkey.server.settings import load_settings
from valetkey.settings import Settings
from valetkey.store import tables
from valetkey.store.engine import Store, StoreError, sqlite_url
from valetkey.store.place import is_local, read_url
from valetkey.store.revision import NEWEST, current_revision
from valetkey.vault.keyring import Keyring
from valetkey.vault.rewrapping import find_root_key
from valetkey.vault.root_key import CredentialRootKey
from valetkey.vault.sealing import RootKey

BACKUP_MARKER = "last-backup"
"""File in the data folder whose time says when a backup was made last."""
_PLAIN_MODES = ("disable", "allow", "prefer")
_DATABASE = (Area.KEYS, Area.SECRETS, Area.RECORD)
"""What cannot be looked at without the database and its keys."""


def examine_serving(
    home: Home,
    settings: Settings,
    store: Store,
    workspace: str,
    signed_by: Ed25519PublicKey,
    admission: Admission,
    problems: tuple[str, ...],
    witnesses: tuple[str, ...],
    wall: float,
) -> Report:
    """Look at the installation whose control process this is."""
    key = _root_key(home, settings, os.environ)
    load = _loader(home, settings, os.environ)
    with store.read() as connection:
        key = _opens(key, load, str(connection.execute(select(tables.workspaces.c.root_key_id)).scalar_one()))
        held = holdings(connection, workspace, wall)
        newest = read_newest(connection)
    record = _record(home, signed_by, admission, newest, problems)
    record = msgspec.structs.replace(record, witnesses=witnesses)
    return examine(
        _installation(home, settings, key, wall, look.own_process(), held=held, record=record, running=True)
    )


def examine_home(home: Home, environment: Mapping[str, str] = os.environ) -> Report:
    """Look at a data folder that no server uses, without writing to it. Raises `ValetkeyError`."""
    if not home.exists:
        raise NotFound(
            f"There is no valetkey home in {home.folder}.", "Name it with VALETKEY_HOME, or: valetkey serve"
        )
    lock = home.lock()
    try:
        wall = time.time()
        try:
            settings = load_settings(home, environment)
        except Invalid:
            settings = Settings()  # why is told as a finding
        key = _root_key(home, settings, environment)
        held, record, refused = None, None, None
        unseen: tuple[tuple[str, str], ...] = ()
        try:
            key, held, record = _read(home, settings, key, _loader(home, settings, environment), wall)
            if record is None:
                unseen = ((Area.RECORD.value, "Without its root key nothing says who signed it."),)
        except ValetkeyError as error:
            unseen = tuple((area.value, error.sentence) for area in _DATABASE)
            if isinstance(error, StoreError):
                refused = f"{error.sentence} {error.next_step}"
        owner = home.folder.stat().st_uid
        process = ProcessFacts(owner, ptrace_scope=look.ptrace_scope(), unit=look.unit())
        return examine(
            _installation(
                home, settings, key, wall, process,
                held=held, record=record, running=False, unseen=unseen, environment=environment,
                database_refused=refused,
            )
        )  # fmt: skip
    finally:
        os.close(lock)


def _installation(
    home: Home,
    settings: Settings,
    key: RootKeyFacts,
    wall: float,
    process: ProcessFacts,
    *,
    held: HoldingsFacts | None,
    record: RecordFacts | None,
    running: bool,
    unseen: tuple[tuple[str, str], ...] = (),
    environment: Mapping[str, str] = os.environ,
    database_refused: str | None = None,
) -> Installation:
    newest = None if record is None else record.newest_record
    machine = look.machine(home.folder, wall, newest)
    if machine.synchronised is None:
        unseen = (*unseen, ("clock synchronisation", "The kernel does not tell."))
    return Installation(
        running=running,
        root_key=key,
        folder=_folder(home, key, os.geteuid(), database_refused),
        machine=machine,
        process=process,
        settings=_settings(home, settings, environment),
        backup=_backup(home),
        holdings=held,
        record=record,
        unseen=unseen,
    )


def _root_key(home: Home, settings: Settings, environment: Mapping[str, str]) -> RootKeyFacts:
    path = root_key_path(home, settings, environment).absolute()
    return RootKeyFacts(
        str(path),
        look.place(path),
        look.place(path.parent),
        credential=CredentialRootKey.holds(path, environment),
        inside_home=path.resolve().is_relative_to(home.folder.resolve()),
    )


def _loader(home: Home, settings: Settings, environment: Mapping[str, str]) -> Callable[[str], RootKey]:
    return lambda wanted: find_root_key(root_key_provider(home, settings, environment), wanted)


def _opens(key: RootKeyFacts, load: Callable[[str], RootKey], wanted: str) -> RootKeyFacts:
    """The same with the reason why it would not open this home at the next start."""
    refused = None
    try:
        if key.place is not None and load(wanted).id != wanted:
            refused = "it is another one."
    except ValetkeyError as error:
        refused = error.sentence
    return msgspec.structs.replace(key, refused=refused)


def _read(
    home: Home, settings: Settings, key: RootKeyFacts, load: Callable[[str], RootKey], wall: float
) -> tuple[RootKeyFacts, HoldingsFacts, RecordFacts | None]:
    """What a home at rest holds. Raises `ValetkeyError` where its database cannot be read as it is."""
    if settings.database_url is None and not home.database.exists():
        refuse_lost(home)
        raise Unavailable("There is no database yet.")
    store = Store(settings.database_url or sqlite_url(home.database))
    try:
        with store.read() as connection:
            revision = current_revision(connection)
            if revision is None:
                refuse_lost(home)
            if revision != NEWEST:
                raise Unavailable("The database has the form of another version; the next start changes it.")
            row = connection.execute(select(tables.workspaces.c.id, tables.workspaces.c.root_key_id)).first()
            if row is None:
                refuse_lost(home)
                raise Unavailable("The database holds nothing yet.")
            key = _opens(key, load, row.root_key_id)
            held = holdings(connection, row.id, wall)
            if key.place is None or key.refused is not None:
                return key, held, None
            keyring = Keyring.open(connection, row.id, load(row.root_key_id), os.urandom)
            signed_by = keyring.signing_key(connection).public_key()
            newest = read_newest(connection)
    finally:
        store.close()
    return key, held, _record(home, signed_by, read_admission(home.journal, [signed_by]), newest, ())


def _record(
    home: Home,
    signed_by: Ed25519PublicKey,
    admission: Admission,
    newest: Newest | None,
    problems: tuple[str, ...],
) -> RecordFacts:
    checkpoint = last_checkpoint(home.journal, signed_by, admit=admission)
    segments = [name for name in segments_in(home.journal) if admission(name)]
    return RecordFacts(
        segments[0].start_ms / 1000 if segments else None,
        None if newest is None else newest.time,
        None if checkpoint is None else checkpoint.time_ms / 1000,
        problems,
    )


def _folder(home: Home, key: RootKeyFacts, user: int, database_refused: str | None) -> FolderFacts:
    seen = look.parts(home.folder)
    here = look.place(home.folder)
    assert here is not None
    outside = home.run.parent != home.folder
    return FolderFacts(
        home=here,
        user=user,
        parts=tuple(one for one in seen if not one.socket),
        socket=look.place(home.control_socket),
        socket_folder=look.place(home.run),
        socket_outside=outside,
        sessions=look.sessions(home.control_socket),
        root_key_copies=look.root_key_copies(seen, Path(key.path)),
        backups=look.backups(seen),
        database_refused=database_refused,
    )


def _settings(home: Home, settings: Settings, environment: Mapping[str, str]) -> SettingsFacts:
    unknown: tuple[str, ...] = ()
    refused = None
    try:
        given = msgspec.toml.decode(home.config.read_bytes()) if home.config.exists() else {}
        unknown = tuple(sorted(set(given) - set(Settings.__struct_fields__)))
    except (OSError, ValueError, msgspec.DecodeError):
        given = {}
    if not unknown:
        try:
            load_settings(home, environment)
        except Invalid as error:
            refused = error.sentence
    return SettingsFacts(
        settings=settings,
        config=str(home.config),
        unknown=unknown,
        refused=refused,
        variables=tuple(sorted(name for name in environment if name.startswith("VALETKEY_"))),
        certificate=_certificate(settings),
        database_plain=_database_plain(settings),
    )


def _certificate(settings: Settings) -> CertificateFacts | None:
    if settings.tls_dev:
        return CertificateFacts("tls_dev", development=True)
    path, key = settings.tls_cert, settings.tls_key
    return None if path is None else look.certificate(Path(path), None if key is None else Path(key))


def _database_plain(settings: Settings) -> bool:
    if settings.database_url is None:
        return False
    try:
        url = read_url(settings.database_url)
    except ValetkeyError:
        return False  # refused elsewhere
    if url.get_backend_name() == "sqlite" or is_local(url):
        return False
    return url.query.get("sslmode") in _PLAIN_MODES


def _backup(home: Home) -> BackupFacts:
    marker = home.folder / BACKUP_MARKER
    noted = marker.stat().st_mtime if marker.exists() else None
    return BackupFacts(str(marker), noted, (home.folder / "home-id").stat().st_mtime)
