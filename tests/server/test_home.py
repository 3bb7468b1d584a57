"""A home is made whole or not at all, and once."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from valetkey.errors import Conflict, Invalid
from valetkey.server.home import Home


def test_of_two_that_make_a_home_at_once_both_have_the_same(tmp_path: Path) -> None:
    for number in range(20):
        ids: list[str] = []
        together = threading.Barrier(4)

        def make(folder: Path, ids: list[str] = ids, together: threading.Barrier = together) -> None:
            home = Home(folder)
            together.wait()
            home.prepare()
            ids.append(home.id)

        threads = [threading.Thread(target=make, args=(tmp_path / str(number),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(ids) == 4 and len(set(ids)) == 1 and len(ids[0]) == 16


@pytest.mark.parametrize(
    ("number", "step"),
    [
        (errno.ENOSPC, "Make room on that disk, then try again."),
        (errno.EROFS, "Mount that disk so that it can be written, then try again."),
        (errno.EIO, "Look at the disk and the system's log."),
        (errno.EACCES, "Correct the rights of the data folder, or choose another with VALETKEY_HOME."),
    ],
)
def test_a_home_that_cannot_be_written_says_what_to_do_and_leaves_no_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, step: str
) -> None:
    def fail(descriptor: int, content: bytes) -> int:
        raise OSError(number, os.strerror(number))

    home = Home(tmp_path / "home")
    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(Invalid, match=r"home-id cannot be written \(.*\)\.$") as refused:
        home.prepare()
    assert refused.value.next_step == step
    monkeypatch.undo()
    assert not home.exists
    assert [path.name for path in home.folder.iterdir()] == ["journal"]
    home.prepare()
    assert len(home.id) == 16


def test_who_holds_a_home_is_told_without_touching_it(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    assert home.holder() is None
    home.prepare()
    lock = home.lock()
    assert Home(home.folder).holder() == str(os.getpid())
    with pytest.raises(Conflict, match=rf"\(process {os.getpid()}\) already uses"):
        Home(home.folder).lock()
    os.close(lock)
    assert Home(home.folder).holder() is None
