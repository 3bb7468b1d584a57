"""What can go wrong with a database, said in one sentence each. Drivers' own words never reach a person.

Only failures of the database's surroundings are translated: a broken rule (`IntegrityError`) or wrong SQL
passes through, for the operation that caused it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from valetkey.errors import Unavailable


class StoreError(Unavailable):
    """The database cannot be used as it is. The sentence says why, the next step what to do."""


_LEAST_ROOM = 65_536
"""Bytes that SQLite needs for the file that its connections share in memory, and a page or two."""
_ROOM = "Make room on that disk, then try again."
_BACKUP = "Restore it from a backup, or start with another folder in VALETKEY_HOME."

# By primary result code, sqlite.org/rescode.html. {place} is the file.
_SQLITE = {
    sqlite3.SQLITE_NOTADB: ("{place} is not a Valetkey database.", _BACKUP),
    sqlite3.SQLITE_CORRUPT: ("The database {place} is damaged.", _BACKUP),
    sqlite3.SQLITE_FULL: ("The disk that holds {place} is full.", _ROOM),
    sqlite3.SQLITE_READONLY: (
        "The database {place} cannot be written to.",
        "Give the user who runs Valetkey the right to write the file and its folder.",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "The database {place} cannot be opened.",
        "Give the user who runs Valetkey the right to write the file and its folder.",
    ),
    sqlite3.SQLITE_PERM: (
        "The database {place} cannot be opened.",
        "Give the user who runs Valetkey the right to write the file and its folder.",
    ),
    sqlite3.SQLITE_IOERR: ("The disk that holds {place} fails.", "Look at the disk and the system's log."),
    sqlite3.SQLITE_BUSY: (
        "The database {place} is held by another process.",
        "Try again; if it lasts, end the other process.",
    ),
    sqlite3.SQLITE_PROTOCOL: (
        "The database {place} is held by another process.",
        "Try again; if it lasts, end the other process.",
    ),
}

# By SQLSTATE or its first characters, longest first: postgresql.org/docs/current/errcodes-appendix.html.
_POSTGRES = {
    "28": ("PostgreSQL at {place} refuses the sign-in.", "Check user and password in the database URL."),
    "3D000": ("{place} does not exist on that PostgreSQL server.", "Create the database, then start again."),
    "42501": (
        "The PostgreSQL user may not do this at {place}.",
        "Make that user the owner of the database.",
    ),
    "53100": ("The disk of PostgreSQL at {place} is full.", _ROOM),
    "53": ("PostgreSQL at {place} has no room for more.", "Raise its limits, or try again later."),
    "55P03": ("PostgreSQL at {place} is held by another writer.", "Try again."),
    "40": ("PostgreSQL at {place} is held by another writer.", "Try again."),
    "25006": ("PostgreSQL at {place} is read-only.", "Name the primary server in the database URL."),
    "57": ("PostgreSQL at {place} is stopping or starting.", "Try again."),
    "08": ("PostgreSQL at {place} cannot be reached.", "Check that the server runs and the database URL."),
}
# A connection that was refused brings no SQLSTATE, only the server's words, first match. Where the server
# speaks another language than English the last one stands for all.
_POSTGRES_WORDS = (
    ("password", _POSTGRES["28"]),
    ("authentication", _POSTGRES["28"]),
    ("role ", _POSTGRES["28"]),
    ("pg_hba.conf", _POSTGRES["28"]),
    ("database ", _POSTGRES["3D000"]),
    ("too many", _POSTGRES["53"]),
    ("starting up", _POSTGRES["57"]),
    ("shutting down", _POSTGRES["57"]),
    (
        "certificate",
        (
            "The certificate of PostgreSQL at {place} is not trusted.",
            "Name the file of its authority by sslrootcert=FILE in the database URL.",
        ),
    ),
    (
        "does not support SSL",
        (
            "PostgreSQL at {place} does not speak TLS.",
            "Switch TLS on there, or accept plain text by sslmode=disable in the database URL.",
        ),
    ),
    ("", _POSTGRES["08"]),
)


@contextmanager
def explained(place: str) -> Iterator[None]:
    """Turn failures of the database's surroundings into `StoreError`; all else passes through."""
    try:
        yield
    except PoolTimeout as error:
        raise StoreError(f"All connections to {place} are in use.", "Try again.") from error
    except DBAPIError as error:
        found = _explanation(error, place)
        if found is None:
            raise
        raise StoreError(found[0].format(place=place), found[1]) from error


def _explanation(error: DBAPIError, place: str) -> tuple[str, str] | None:
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        # The low byte is the primary code, the rest details (READONLY_DIRECTORY, IOERR_FSYNC, …).
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_IOERR and _is_full(Path(place).parent):
            code = sqlite3.SQLITE_FULL  # its memory file could not grow: SQLite has no better word for that
        return _SQLITE.get(code)
    state = getattr(cause, "sqlstate", None)
    if state is not None:
        return next((_POSTGRES[state[:size]] for size in (5, 2) if state[:size] in _POSTGRES), None)
    if not isinstance(error, OperationalError):
        return None
    # Before FATAL libpq names host, port and user, which may contain anything.
    words = str(cause).rpartition("FATAL:")[2]
    return next(explanation for fragment, explanation in _POSTGRES_WORDS if fragment in words)


def _is_full(folder: Path) -> bool:
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _LEAST_ROOM
