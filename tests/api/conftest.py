"""Fixtures of the control API's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from api_world import Caller, FakeDesk, FrameDesk, open_frame

from valetkey import log


@pytest.fixture
def desk() -> FakeDesk:
    """A desk that performs nothing and remembers what it was asked."""
    return FakeDesk()


@pytest.fixture
def remote(desk: FakeDesk) -> Caller:
    """Someone with a good token, by TCP."""
    return Caller.remote(desk)


@pytest.fixture
def local(desk: FakeDesk) -> Caller:
    """The local owner, by the Unix socket."""
    return Caller.local(desk)


@pytest.fixture
def real_desk(tmp_path: Path) -> Iterator[FrameDesk]:
    """A desk over the real frame on SQLite, without workers."""
    frame = open_frame(tmp_path)
    yield FrameDesk(frame)
    frame.store.close()


@pytest.fixture
def owner(real_desk: FrameDesk) -> Caller:
    """The local owner of a real home."""
    return Caller.local(real_desk)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every line that the API logs at the loudest level."""
    lines: list[str] = []
    monkeypatch.setattr(log, "_log", log.Log("control", level=log.Level.DEBUG, write=lines.append))
    return lines
