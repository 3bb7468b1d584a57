"""Where the database is: its URL, read once, and a name for it that holds no password."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from valetkey.store.failures import StoreError

_SHAPES = "Write sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE, with special characters as %XX."
_LOOPBACK = {"", "localhost", "127.0.0.1", "::1"}


def sqlite_url(path: Path) -> str:
    """The URL of a database file."""
    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def read_url(text: str) -> URL:
    """Read a database URL. Raises `StoreError`, which repeats nothing of it: it may hold a password."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        # Not chained: the parser's message may hold the URL.
        raise StoreError("The database URL cannot be read.", _SHAPES) from None
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        if not url.database or url.database == ":memory:" or url.database.startswith("file:") or url.query:
            raise StoreError("The database URL names no file.", "Write sqlite:///FILE, nothing more.")
        return url
    if url.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise StoreError("The database URL is neither of SQLite nor of PostgreSQL.", _SHAPES)
    if "@" in (url.host or ""):
        # What stands before that @ is the rest of the password, which no message may show.
        raise StoreError("The database URL has more than one @.", "Write an @ inside the password as %40.")
    url = url.set(drivername="postgresql+psycopg")
    if "sslmode" not in url.query and not is_local(url):
        # libpq's own default falls back to plain text when whoever answers says that it has no TLS.
        url = url.update_query_dict({"sslmode": "require"})
    return url


def place_of(url: URL) -> str:
    """The database as messages name it: its file, or host and database; never user, password or options."""
    if url.get_backend_name() == "sqlite":
        return url.database or ""
    port = f":{url.port}" if url.port else ""
    return f"{url.host or 'this machine'}{port}/{url.database or ''}"


def is_local(url: URL) -> bool:
    """Whether the database is on this machine."""
    hosts: list[str] = [url.host] if url.host else []
    for name in ("host", "hostaddr"):
        given = url.query.get(name, ())
        for value in (given,) if isinstance(given, str) else given:
            hosts += value.split(",")
    return all(host in _LOOPBACK or host.startswith("/") for host in hosts)
