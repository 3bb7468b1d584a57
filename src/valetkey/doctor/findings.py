"""The findings that there are, each with its severity and place, and what a report consists of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec

MOST_SUBJECTS = 20
"""Names that one finding lists; of more only the number is told."""


class Severity(StrEnum):
    """How bad it is. Only what is above `info` makes the command fail."""

    INFO = "info"
    """Good to know; nothing has to be done."""
    WEAK = "weak"
    """Works, but an accident or an attack is easier than it need be."""
    SERIOUS = "serious"
    """A promise does not hold, or the next start fails."""


class Area(StrEnum):
    """What was looked at; findings are grouped by it, in this order."""

    ROOT_KEY = "root key"
    FOLDER = "data folder"
    MACHINE = "clock and disk"
    PROCESS = "processes"
    SETTINGS = "settings"
    LISTENERS = "listeners"
    KEYS = "keys"
    SECRETS = "secrets"
    RECORD = "record"
    BACKUP = "backup"


class Kind(StrEnum):
    """Stable names of all findings. They are only ever added."""

    ROOT_KEY_MISSING = "root-key-missing"
    ROOT_KEY_INSIDE_HOME = "root-key-inside-home"
    ROOT_KEY_COPY_INSIDE_HOME = "root-key-copy-inside-home"
    ROOT_KEY_OPEN = "root-key-open"
    ROOT_KEY_OWNER = "root-key-owner"
    ROOT_KEY_FOLDER_OPEN = "root-key-folder-open"
    ROOT_KEY_REFUSED = "root-key-refused"
    ROOT_KEY_SAME_DISK = "root-key-same-disk"

    HOME_OPEN = "home-open"
    HOME_OWNER = "home-owner"
    PART_OPEN = "part-open"
    PART_OWNER = "part-owner"
    SOCKET_OPEN = "socket-open"
    SOCKET_ELSEWHERE = "socket-elsewhere"
    SOCKET_SESSIONS = "socket-sessions"
    DATABASE_REFUSED = "database-refused"

    CLOCK_BEHIND = "clock-behind"
    CLOCK_UNSYNCHRONISED = "clock-unsynchronised"
    DISK_NEARLY_FULL = "disk-nearly-full"
    DISK_LOW = "disk-low"

    RUNS_AS_ROOT = "runs-as-root"
    CORE_FILES = "core-files"
    MEMORY_OPEN = "memory-open"
    ATTACH_ALLOWED = "attach-allowed"

    SETTING_UNKNOWN = "setting-unknown"
    SETTING_REFUSED = "setting-refused"
    SETTING_UNUSED = "setting-unused"
    VARIABLE_UNKNOWN = "variable-unknown"
    FSYNC_RARE = "fsync-rare"
    DATABASE_PLAIN = "database-plain"

    PLAIN_LISTENER = "plain-listener"
    PLAIN_BEHIND_PROXY = "plain-behind-proxy"
    PROXY_WIDE = "proxy-wide"
    PUBLIC_NAME_MISSING = "public-name-missing"
    CERTIFICATE_UNREADABLE = "certificate-unreadable"
    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_ENDS_SOON = "certificate-ends-soon"
    CERTIFICATE_NAMES = "certificate-names"
    CERTIFICATE_KEY_OPEN = "certificate-key-open"
    CERTIFICATE_DEVELOPMENT = "certificate-development"

    KEY_WITHOUT_END = "key-without-end"
    KEY_REVIEW_DUE = "key-review-due"
    KEY_HOLDER_GONE = "key-holder-gone"
    KEY_UNUSED = "key-unused"
    PUBLIC_KEY_WIDE = "public-key-wide"
    BUDGET_WITHOUT_PRICE = "budget-without-price"

    SERVICE_WITHOUT_SECRET = "service-without-secret"  # noqa: S105 - the name of a finding
    SECRET_EXPIRED = "secret-expired"  # noqa: S105
    SECRET_ENDS_SOON = "secret-ends-soon"  # noqa: S105
    SECRET_NEVER_ROTATED = "secret-never-rotated"  # noqa: S105
    SECRET_OLD = "secret-old"  # noqa: S105

    RECORD_BROKEN = "record-broken"
    RECORD_UNSIGNED = "record-unsigned"
    CHECKPOINT_OLD = "checkpoint-old"
    WITNESS_UNDELIVERED = "witness-undelivered"

    BACKUP_INSIDE_HOME = "backup-inside-home"
    BACKUP_UNKNOWN = "backup-unknown"
    BACKUP_OLD = "backup-old"


class About(msgspec.Struct, frozen=True):
    """What is always true of one kind of finding."""

    area: Area
    severity: Severity
    meaning: str


_I, _W, _S = Severity.INFO, Severity.WEAK, Severity.SERIOUS

ABOUT: dict[Kind, About] = {
    Kind.ROOT_KEY_MISSING: About(Area.ROOT_KEY, _S, "There is no root key where it should be."),
    Kind.ROOT_KEY_INSIDE_HOME: About(Area.ROOT_KEY, _S, "The root key lies in the data folder."),
    Kind.ROOT_KEY_COPY_INSIDE_HOME: About(Area.ROOT_KEY, _S, "A copy of a root key lies in the data folder."),
    Kind.ROOT_KEY_OPEN: About(Area.ROOT_KEY, _S, "Others than its owner may use the root key's file."),
    Kind.ROOT_KEY_OWNER: About(Area.ROOT_KEY, _S, "The root key belongs to another user than the data."),
    Kind.ROOT_KEY_FOLDER_OPEN: About(Area.ROOT_KEY, _S, "Others may put another root key in its place."),
    Kind.ROOT_KEY_REFUSED: About(Area.ROOT_KEY, _S, "The root key does not open this data folder."),
    Kind.ROOT_KEY_SAME_DISK: About(Area.ROOT_KEY, _I, "Root key and data lie on the same disk."),
    Kind.HOME_OPEN: About(Area.FOLDER, _S, "Other users can enter the data folder."),
    Kind.HOME_OWNER: About(Area.FOLDER, _S, "The data folder belongs to another user than who looks."),
    Kind.PART_OPEN: About(
        Area.FOLDER, _W, "Files in the data folder are open to others, behind its own mode."
    ),
    Kind.PART_OWNER: About(Area.FOLDER, _S, "Files in the data folder belong to another user."),
    Kind.SOCKET_OPEN: About(Area.FOLDER, _S, "Others may reach the local owner's socket."),
    Kind.SOCKET_ELSEWHERE: About(Area.FOLDER, _I, "The sockets lie outside the data folder."),
    Kind.SOCKET_SESSIONS: About(Area.FOLDER, _I, "Other programs are connected as the local owner now."),
    Kind.DATABASE_REFUSED: About(Area.FOLDER, _S, "The database cannot be used: the next start fails."),
    Kind.CLOCK_BEHIND: About(Area.MACHINE, _S, "The clock is behind the newest record: calls are refused."),
    Kind.CLOCK_UNSYNCHRONISED: About(Area.MACHINE, _W, "The kernel says that nothing sets the clock right."),
    Kind.DISK_NEARLY_FULL: About(Area.MACHINE, _S, "The disk is so full that calls are refused."),
    Kind.DISK_LOW: About(Area.MACHINE, _W, "The disk is soon so full that calls are refused."),
    Kind.RUNS_AS_ROOT: About(Area.PROCESS, _W, "The server runs as root."),
    Kind.CORE_FILES: About(Area.PROCESS, _S, "The server may write its memory to a core file."),
    Kind.MEMORY_OPEN: About(Area.PROCESS, _S, "Programs of the same user may read the server's memory."),
    Kind.ATTACH_ALLOWED: About(Area.PROCESS, _I, "Programs of one user may read each other's memory."),
    Kind.SETTING_UNKNOWN: About(Area.SETTINGS, _S, "config.toml holds a setting that does not exist."),
    Kind.SETTING_REFUSED: About(Area.SETTINGS, _S, "The settings cannot be used: the next start fails."),
    Kind.SETTING_UNUSED: About(Area.SETTINGS, _I, "A setting has no effect beside the others."),
    Kind.VARIABLE_UNKNOWN: About(Area.SETTINGS, _W, "The environment holds a VALETKEY_ name nobody reads."),
    Kind.FSYNC_RARE: About(Area.SETTINGS, _W, "A loss of power costs more than a second of the record."),
    Kind.DATABASE_PLAIN: About(Area.SETTINGS, _W, "The way to the database may be unencrypted."),
    Kind.PLAIN_LISTENER: About(Area.LISTENERS, _S, "Keys cross the network in the clear."),
    Kind.PLAIN_BEHIND_PROXY: About(Area.LISTENERS, _W, "Keys cross the way from the proxy in the clear."),
    Kind.PROXY_WIDE: About(Area.LISTENERS, _W, "Forwarding headers are believed from a wide network."),
    Kind.PUBLIC_NAME_MISSING: About(Area.LISTENERS, _I, "Callers elsewhere have no host name to use."),
    Kind.CERTIFICATE_UNREADABLE: About(Area.LISTENERS, _S, "The certificate or its key cannot be read."),
    Kind.CERTIFICATE_EXPIRED: About(Area.LISTENERS, _S, "The certificate is not valid now."),
    Kind.CERTIFICATE_ENDS_SOON: About(Area.LISTENERS, _W, "The certificate ends within three weeks."),
    Kind.CERTIFICATE_NAMES: About(Area.LISTENERS, _W, "The certificate lacks a public name."),
    Kind.CERTIFICATE_KEY_OPEN: About(
        Area.LISTENERS, _S, "Others than its owner may read the certificate's key."
    ),
    Kind.CERTIFICATE_DEVELOPMENT: About(
        Area.LISTENERS, _W, "A certificate for development is served to others."
    ),
    Kind.KEY_WITHOUT_END: About(Area.KEYS, _I, "Keys live until somebody revokes them."),
    Kind.KEY_REVIEW_DUE: About(Area.KEYS, _W, "Keys are past their review date."),
    Kind.KEY_HOLDER_GONE: About(Area.KEYS, _W, "Keys live whose holder was removed."),
    Kind.KEY_UNUSED: About(Area.KEYS, _W, "Keys were not used for 90 days."),
    Kind.PUBLIC_KEY_WIDE: About(Area.KEYS, _W, "Public keys open more than a page needs."),
    Kind.BUDGET_WITHOUT_PRICE: About(
        Area.KEYS, _W, "Keys have a budget where no call has a price: every call is refused."
    ),
    Kind.SERVICE_WITHOUT_SECRET: About(Area.SECRETS, _W, "A service has no real key to put in."),
    Kind.SECRET_EXPIRED: About(Area.SECRETS, _S, "The newest real key of a service has expired."),
    Kind.SECRET_ENDS_SOON: About(Area.SECRETS, _W, "A real key expires within two weeks."),
    Kind.SECRET_NEVER_ROTATED: About(Area.SECRETS, _W, "A real key was never changed in half a year."),
    Kind.SECRET_OLD: About(Area.SECRETS, _W, "A real key is older than a year."),
    Kind.RECORD_BROKEN: About(Area.RECORD, _S, "The server has met records that do not fit."),
    Kind.RECORD_UNSIGNED: About(Area.RECORD, _S, "There are records and no signed checkpoint."),
    Kind.CHECKPOINT_OLD: About(Area.RECORD, _W, "The newest records are not signed."),
    Kind.WITNESS_UNDELIVERED: About(Area.RECORD, _W, "A witness outside gets no checkpoints."),
    Kind.BACKUP_INSIDE_HOME: About(Area.BACKUP, _W, "What looks like a backup lies in the data folder."),
    Kind.BACKUP_UNKNOWN: About(Area.BACKUP, _I, "No backup was noted."),
    Kind.BACKUP_OLD: About(Area.BACKUP, _W, "The last noted backup is more than a week old."),
}


class Finding(msgspec.Struct, frozen=True):
    """One thing that is weak here."""

    id: Kind
    severity: Severity
    area: Area
    sentence: str
    mend: str | None = None
    """A command that mends it, where there is one; otherwise null."""
    subjects: tuple[str, ...] = ()
    """What it is about, by id or name: at most `MOST_SUBJECTS`."""
    count: int = 0
    """How many there are of those, listed or not."""


class NotSeen(msgspec.Struct, frozen=True):
    """Something that could not be looked at, and why."""

    what: str
    why: str


class Report(msgspec.Struct, frozen=True):
    """All findings of one look, the worst first within each area."""

    items: tuple[Finding, ...]
    severity: str
    """The worst of all: ``ok``, ``info``, ``weak`` or ``serious``."""
    server: str
    """``running``, or ``not running`` when only the data folder was read."""
    looked_at: tuple[str, ...]
    not_seen: tuple[NotSeen, ...] = ()
    next: str | None = None


def found(kind: Kind, sentence: str, mend: str | None = None, subjects: Sequence[str] = ()) -> Finding:
    """A finding of that kind."""
    about = ABOUT[kind]
    return Finding(
        kind, about.severity, about.area, sentence, mend, tuple(subjects[:MOST_SUBJECTS]), len(subjects)
    )


def report(findings: Iterable[Finding], *, running: bool, not_seen: Sequence[NotSeen] = ()) -> Report:
    """Put a report together."""
    areas, severities, kinds = list(Area), list(Severity), list(Kind)
    items = sorted(
        findings,
        key=lambda one: (areas.index(one.area), -severities.index(one.severity), kinds.index(one.id)),
    )
    worst = max((severities.index(one.severity) for one in items), default=None)
    unseen = {one.what for one in not_seen}
    return Report(
        items=tuple(items),
        severity="ok" if worst is None else severities[worst].value,
        server="running" if running else "not running",
        looked_at=tuple(area.value for area in Area if area.value not in unseen),
        not_seen=tuple(not_seen),
    )
