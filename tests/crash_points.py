"""Kills this process at its n-th write: of a file, of a folder, of the database; before it, or half way through it.

Whatever changes a disk is a point: each write, sync, cut, link, rename, removal and new file that the product asks
the system for, each statement that changes the database and each commit. For use in a child only.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

from sqlalchemy import event
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine import Engine

from valetkey import syscalls

CALLS = (
    "fsync", "fdatasync", "ftruncate", "truncate", "link", "rename", "replace", "unlink", "mkdir", "posix_fallocate",
)  # fmt: skip
"""Of the module `os`, beside those that write and open."""
_READS = ("SELECT", "PRAGMA", "BEGIN", "WITH")


class CrashPoints:
    """Counts the points of this process; dies at number `at`, which is never reached when it is 0."""

    def __init__(self, at: int, torn: bool, note: Callable[[str], None]) -> None:
        """`torn`: half of what is to be written gets there. `note` is told what whoever looks afterwards must do."""
        self.met: list[str] = []
        self._at = at
        self._torn = torn
        self._note = note

    def pass_by(self, what: str) -> bool:
        """Count one point. Dies here, or says that the caller shall die half way through."""
        self.met.append(what)
        if len(self.met) != self._at:
            return False
        if self._torn and what in TEARABLE:
            return True
        die()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch everything while the body runs."""
        with mock.patch.multiple(os, **self._of_the_system()):
            self._rebind()
            event.listen(Engine, "before_cursor_execute", self._before_statement)
            with mock.patch.object(SQLiteDialect_pysqlite, "do_commit", self._commit()):
                yield
            event.remove(Engine, "before_cursor_execute", self._before_statement)

    def _of_the_system(self) -> dict[str, Any]:
        self._originals = {name: getattr(os, name) for name in (*CALLS, "write", "pwrite", "open")}
        self._c_write = syscalls._c_write
        watched: dict[str, Any] = {name: self._watched(name) for name in CALLS}
        watched["write"] = self._writing("write")
        watched["pwrite"] = self._writing("pwrite")
        watched["open"] = self._opening
        return watched

    def _rebind(self) -> None:
        """Modules of ours that took such a function by name get the watched one, too."""
        swapped = {id(original): getattr(os, name) for name, original in self._originals.items()}

        def c_write(descriptor: int, data: bytes, size: int) -> int:
            if self.pass_by("write"):
                self._c_write(descriptor, data, size // 2)
                die()
            return int(self._c_write(descriptor, data, size))

        syscalls._c_write = c_write  # type: ignore[assignment]
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] == "valetkey":
                for attribute, value in list(vars(module).items()):
                    if id(value) in swapped:
                        setattr(module, attribute, swapped[id(value)])

    def _watched(self, name: str) -> Callable[..., Any]:
        original = self._originals[name]

        def call(*arguments: Any, **named: Any) -> Any:
            self.pass_by(name)
            return original(*arguments, **named)

        return call

    def _writing(self, name: str) -> Callable[..., int]:
        original = self._originals[name]

        def write(descriptor: int, data: bytes, *place: int) -> int:
            if self.pass_by(name):
                original(descriptor, data[: len(data) // 2], *place)
                die()
            return int(original(descriptor, data, *place))

        return write

    def _opening(self, path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & (os.O_CREAT | os.O_TRUNC):
            self.pass_by("open")
        return int(self._originals["open"](path, flags, *more, **named))

    def _before_statement(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if not statement.lstrip().upper().startswith(_READS):
            self.pass_by("statement")

    def _commit(self) -> Callable[..., None]:
        original = SQLiteDialect_pysqlite.do_commit

        def commit(dialect: Any, connection: Any) -> None:
            if not connection.in_transaction:
                original(dialect, connection)
                return
            log = _log_of(connection)
            before = log.stat().st_size if log is not None and log.exists() else 0
            torn = self.pass_by("commit")
            original(dialect, connection)
            if torn:
                if log is not None and (size := log.stat().st_size) > before:
                    # As a kill within the commit leaves it: frames without their end, and nobody told of them.
                    self._note(f"cut {(before + size) // 2} {log}")
                die()
            self.pass_by("committed")

        return commit


TEARABLE = ("write", "pwrite", "commit")


def cut(noted: str) -> None:
    """Do what was noted: whoever died half way through a commit has written no more than half."""
    _, size, path = noted.split(" ", 2)
    os.truncate(path, int(size))


def die() -> NoReturn:
    """As `kill -9` does it."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def _log_of(connection: Any) -> Path | None:
    cursor = connection.execute("PRAGMA database_list")
    (row,) = [row for row in cursor.fetchall() if row[1] == "main"]
    return Path(f"{row[2]}-wal") if row[2] else None
