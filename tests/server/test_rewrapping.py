"""A new root key: at whatever write the process dies, the home opens, and the next attempt finishes the work."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from sqlalchemy.engine import Connection

from valetkey.access.actor import Actor, ActorKind
from valetkey.access.operation import Frame
from valetkey.errors import Invalid, NotPermitted, Unavailable
from valetkey.server.home import Home
from valetkey.server.opening import Opened, finish_rewrapping, open_home
from valetkey.server.rewrapping import NewRootKey, rewrap_home
from valetkey.settings import Settings
from valetkey.vault.keyring import INDEX, SIGNING
from valetkey.vault.rewrapping import Rewrap, Rewrapped, former_path, next_path, rewrap_vault
from valetkey.vault.root_key import FileRootKey, RootKeyRefused
from valetkey.vault.sealing import WrongWrappingKey

OWNER = Actor(ActorKind.LOCAL_OWNER, "ana")
MOST_WRITES = 60


class Installation:
    """A home with its root key."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "home")
        self.home.prepare()
        self.key = folder / "keys" / "root.key"
        self.settings = Settings(root_key_file=str(self.key))

    def open(self) -> Opened:
        """As a start does."""
        opened = open_home(self.home, self.settings)
        finish_rewrapping(self.home, self.settings, opened)
        return opened

    def rewrap(self, actor: Actor = OWNER, file: Path | None = None) -> NewRootKey:
        opened = self.open()
        frame = Frame(opened.store, opened.keyring, lambda: 1.0, os.urandom, opened.workspace)

        async def in_use() -> str:
            return self.id_in_use(opened)

        async def perform(request: Rewrap) -> Rewrapped:
            return frame.perform(rewrap_vault, request, actor).answer

        try:
            to = None if file is None else str(file)
            return asyncio.run(rewrap_home(self.home, self.settings, to, in_use, perform))
        finally:
            opened.store.close()

    def id_in_use(self, opened: Opened) -> str:
        with opened.store.read() as connection:
            return opened.keyring.root_key_id(connection)

    def sealed(self) -> tuple[bytes, bytes]:
        """Two keys that only the right root key opens."""
        opened = self.open()
        try:
            with opened.store.read() as connection:
                return opened.keyring.key(connection, INDEX), opened.keyring.key(connection, SIGNING)
        finally:
            opened.store.close()


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    os.umask(0o077)
    made = Installation(tmp_path)
    made.open().store.close()
    return made


def test_what_was_sealed_opens_with_the_new_root_key_and_no_more_with_the_former(
    installation: Installation,
) -> None:
    before, former = installation.sealed(), FileRootKey(installation.key).load()
    done = installation.rewrap()
    assert (done.former, done.file) == (former.id, str(installation.key))
    assert FileRootKey(installation.key).load().id == done.root_key != former.id
    assert installation.sealed() == before
    kept = former_path(installation.key, former.id)
    assert done.kept == str(kept) and FileRootKey(kept).load() == former
    assert sorted(os.listdir(kept.parent)) == sorted([installation.key.name, kept.name])
    os.replace(kept, installation.key)
    with pytest.raises(WrongWrappingKey, match=done.root_key):
        installation.open()


def test_a_backup_from_before_opens_with_the_former_one_that_is_kept(installation: Installation) -> None:
    database, before = installation.home.database.read_bytes(), installation.sealed()
    installation.rewrap()
    for beside in installation.home.folder.glob("valetkey.db-*"):
        beside.unlink()
    installation.home.database.write_bytes(database)
    assert installation.sealed() == before
    installation.rewrap()
    assert installation.sealed() == before


def test_a_root_key_in_another_file_is_made_there_and_replaces_nothing(
    installation: Installation, tmp_path: Path
) -> None:
    former, before = installation.key.read_bytes(), installation.sealed()
    other = tmp_path / "keys" / "other.key"
    done = installation.rewrap(file=other)
    assert (done.file, done.kept, installation.key.read_bytes()) == (
        str(other),
        str(installation.key),
        former,
    )
    with pytest.raises(WrongWrappingKey):
        installation.open()
    installation.settings = Settings(root_key_file=str(other))
    assert installation.sealed() == before
    with pytest.raises(Invalid, match="in use"):
        installation.rewrap(file=other)


def test_a_root_key_in_the_data_folder_or_nowhere_is_refused(installation: Installation) -> None:
    for file in (installation.home.folder / "root.key", Path("relative.key")):
        with pytest.raises(Unavailable if file.is_absolute() else Invalid):
            installation.rewrap(file=file)
        assert not file.exists()


def test_a_program_with_a_token_may_not_and_nothing_is_written(installation: Installation) -> None:
    with pytest.raises(NotPermitted):
        installation.rewrap(Actor(ActorKind.TOKEN, "bot"))
    assert os.listdir(installation.key.parent) == [installation.key.name]


def test_where_the_folder_cannot_be_written_nothing_changes_and_it_is_said(
    installation: Installation,
) -> None:
    before = FileRootKey(installation.key).load()
    with (
        mock.patch("valetkey.vault.root_key.os.link", side_effect=PermissionError(13, "Permission denied")),
        pytest.raises(RootKeyRefused, match="cannot be written"),
    ):
        installation.rewrap()
    assert FileRootKey(installation.key).load() == before
    installation.sealed()


def test_where_the_last_step_fails_it_is_said_and_the_next_start_takes_it(installation: Installation) -> None:
    before = installation.sealed()
    with (
        mock.patch(
            "valetkey.vault.rewrapping.os.replace", side_effect=OSError(28, "No space left on device")
        ),
        pytest.raises(RootKeyRefused, match="No space left") as refused,
    ):
        installation.rewrap()
    assert "Keep that file" in refused.value.next_step
    assert installation.sealed() == before
    assert not next_path(installation.key).exists()


def dies_at(number: int, work: Callable[[], Any]) -> bool:
    """Run `work` in a process that ends before its write of that number; whether it came that far."""
    child = os.fork()
    if child == 0:
        left = number

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def write(*given: Any, **named: Any) -> Any:
                nonlocal left
                if left == 0:
                    os._exit(9)
                left -= 1
                return real(*given, **named)

            return write

        try:
            for name in ("open", "write", "fsync", "link", "unlink", "replace", "close"):
                setattr(os, name, counted(getattr(os, name)))
            Connection.execute = counted(Connection.execute)  # type: ignore[method-assign]
            Connection.commit = counted(Connection.commit)  # type: ignore[method-assign]
            work()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 9), code
    return code == 9


def test_wherever_it_dies_the_home_opens_and_the_next_attempt_finishes(installation: Installation) -> None:
    before = installation.sealed()
    ids = {FileRootKey(installation.key).load().id}
    for number in range(MOST_WRITES):
        died = dies_at(number, installation.rewrap)
        assert installation.sealed() == before, number
        ids.add(FileRootKey(installation.key).load().id)
        if not died:
            break
    else:
        raise AssertionError(f"more than {MOST_WRITES} writes")
    assert number > 15, "the writes were counted"
    assert len(ids) > 2, "some died after the transaction stood"
    installation.rewrap()
    assert installation.sealed() == before
    beside = [path.name for path in installation.key.parent.iterdir() if ".former-" not in path.name]
    assert beside == [installation.key.name], "nothing is left over"


def test_after_a_move_the_error_names_the_file_that_was_read_and_how_to_name_another(
    installation: Installation, tmp_path: Path
) -> None:
    done = installation.rewrap(file=tmp_path / "moved.key")
    with pytest.raises(WrongWrappingKey) as raised:
        installation.open()
    said = f"{raised.value.sentence} {raised.value.next_step}"
    named = (str(installation.key), done.root_key, "VALETKEY_ROOT_KEY_FILE", "--root-key-file")
    assert [part in said for part in named] == [True] * 4


def test_no_folder_is_made_for_a_root_key(installation: Installation, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="There is no folder"):
        installation.rewrap(file=tmp_path / "misspelt" / "new.key")
    assert not (tmp_path / "misspelt").exists()
    installation.open().store.close()
