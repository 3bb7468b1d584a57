"""What the rules are told of an installation: plain facts, gathered elsewhere. None: it could not be looked at."""

from __future__ import annotations

import msgspec

from valetkey.settings import Settings


class Place(msgspec.Struct, frozen=True):
    """What stat(2) says of one path."""

    path: str
    mode: int
    """Permission bits only."""
    owner: int
    device: int = 0
    folder: bool = False
    socket: bool = False


class RootKeyFacts(msgspec.Struct, frozen=True):
    """Where the root key lies. `place` None: nowhere."""

    path: str
    place: Place | None
    folder: Place | None
    inside_home: bool = False
    credential: bool = False
    """Handed over by systemd, which guards it: its mode and owner say nothing."""
    refused: str | None = None
    """Why it does not open this home; None when it does, or when that was not tried."""


class FolderFacts(msgspec.Struct, frozen=True):
    """The data folder and what lies in it."""

    home: Place
    user: int
    """Who looks, or who serves."""
    parts: tuple[Place, ...] = ()
    socket: Place | None = None
    socket_folder: Place | None = None
    socket_outside: bool = False
    sessions: int | None = None
    """Connections to the local owner's socket, that of whoever asks included."""
    root_key_copies: tuple[str, ...] = ()
    backups: tuple[str, ...] = ()
    """Files in it that look like backups of it."""
    database_refused: str | None = None
    """Why the database cannot be used, and what to do: two sentences."""


class MachineFacts(msgspec.Struct, frozen=True):
    """Clock and disk. Times are seconds since the epoch, sizes bytes."""

    wall: float
    newest_record: float | None
    synchronised: bool | None
    disk_free: int | None
    disk_held_back: int = 0
    """Below so much calls are refused."""


class ProcessFacts(msgspec.Struct, frozen=True):
    """How the server runs, or would."""

    user: int
    core_limit: int | None = None
    """Bytes; None when no server runs."""
    dumpable: bool | None = None
    ptrace_scope: int | None = None
    """kernel.yama.ptrace_scope; None where the kernel has no such thing."""
    unit: bool = False
    """Whether systemd knows a unit of ours, which would run it with a user of its own."""


class CertificateFacts(msgspec.Struct, frozen=True):
    """What callers are shown for TLS."""

    path: str
    problem: str | None = None
    begins: float = 0.0
    ends: float = 0.0
    names: tuple[str, ...] = ()
    key: Place | None = None
    development: bool = False


class SettingsFacts(msgspec.Struct, frozen=True):
    """The settings in force, and what stands beside them."""

    settings: Settings
    config: str
    """Path of config.toml."""
    unknown: tuple[str, ...] = ()
    refused: str | None = None
    variables: tuple[str, ...] = ()
    """Names that begin with VALETKEY_ in the environment."""
    certificate: CertificateFacts | None = None
    database_plain: bool = False


class KeyFacts(msgspec.Struct, frozen=True):
    """One living key. Nothing secret."""

    id: str
    kind: str
    created: float
    expires: float | None
    review: float | None
    last_used: float | None
    holder_gone: bool = False
    wide: str | None = None
    """Of a public key: in what way it is wide."""
    unpriced: str | None = None
    """Of a key with a budget: its service, where that has no price."""


class SecretFacts(msgspec.Struct, frozen=True):
    """The newest version of one secret that is not retired. Nothing secret."""

    name: str
    """SERVICE, or SERVICE/NAME."""
    version: int
    created: float
    expires: float | None


class HoldingsFacts(msgspec.Struct, frozen=True):
    """What the database holds."""

    keys: tuple[KeyFacts, ...] = ()
    secrets: tuple[SecretFacts, ...] = ()
    services_without_secret: tuple[str, ...] = ()


class RecordFacts(msgspec.Struct, frozen=True):
    """The journal, as far as one sees without reading all of it. Times are seconds since the epoch."""

    begun: float | None
    """When its first segment was begun; None for an empty journal."""
    newest_record: float | None
    checkpoint: float | None
    problems: tuple[str, ...] = ()
    witnesses: tuple[str, ...] = ()
    """Why witnesses lack checkpoints, as far as a server runs: a sentence each."""


class BackupFacts(msgspec.Struct, frozen=True):
    """When a backup was noted: the time of the file `last-backup` in the data folder."""

    marker: str
    noted: float | None
    home_since: float


class Installation(msgspec.Struct, frozen=True):
    """All facts of one look."""

    running: bool
    root_key: RootKeyFacts
    folder: FolderFacts
    machine: MachineFacts
    process: ProcessFacts
    settings: SettingsFacts
    backup: BackupFacts
    holdings: HoldingsFacts | None = None
    record: RecordFacts | None = None
    unseen: tuple[tuple[str, str], ...] = ()
    """What could not be looked at, and why."""
