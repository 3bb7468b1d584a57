"""Killed at any write of journal, database or folder, a home goes on: what was acknowledged is there, nothing is half
done, and the record is proved.

A story (`crash_story`) is played by a child that is killed at one point, and gone on with by the next child. The
full tier tries a part of the points, `script/test --long` all, and then kills the second life, too.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from crash_points import TEARABLE, CrashPoints, cut
from crash_story import Story
from long_results import Results
from valetkey.server.home import Home

pytestmark = pytest.mark.real

LEAST_POINTS = 200
"""The story has more; fewer mean that the hooks do not see what they should."""


Kills = tuple[tuple[int, bool], ...]
"""Point of each kill, and whether it was half way through."""


class Life(NamedTuple):
    """What became of one child."""

    killed: bool
    said: list[dict[str, Any]]
    met: list[str]
    """The points that it passed; known only where it was not killed."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Removed after each story: there are hundreds."""
    made = Path(tempfile.mkdtemp(prefix="valetkey-crash-"))
    yield made
    shutil.rmtree(made)


def live(folder: Path, known: list[dict[str, Any]], kills: Kills, at: int = 0, torn: bool = False) -> Life:
    """Play the story, or go on with it after `kills`, in a child that is killed at point `at`."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _play(folder, known, len(kills), at, torn, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        lines = [json.loads(line) for line in pipe.read().splitlines()]
    _, status = os.waitpid(child, 0)
    said, met = [], []
    for line in lines:
        assert "failed" not in line, f"after {kills}, then {at}:\n{line.get('failed')}"
        if "cut" in line:
            cut(line["cut"])
        elif "met" in line:
            met = line["met"]
        else:
            said.append(line)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or os.waitstatus_to_exitcode(status) == 0
    return Life(killed, said, met)


def _play(folder: Path, known: list[dict[str, Any]], lives: int, at: int, torn: bool, writer: int) -> None:
    write = os.write

    def say(said: dict[str, Any]) -> None:
        write(writer, json.dumps(said).encode() + b"\n")

    try:
        os.environ["VALETKEY_ROOT_KEY_FILE"] = str(folder / "keys" / "root.key")
        points = CrashPoints(at, torn, lambda noted: say({"cut": noted}))
        with points.watched():
            Story(Home(folder / "home"), known, say, lives).go_on()
        say({"met": points.met})
    except BaseException:
        say({"failed": traceback.format_exc()[-30_000:]})
    finally:
        os._exit(0)


def tell(folder: Path, *kills: tuple[int, bool]) -> list[Life]:
    """The story with a kill in each of the first lives, and then to its end in a last one."""
    shutil.rmtree(folder / "home", ignore_errors=True)
    shutil.rmtree(folder / "keys", ignore_errors=True)
    (folder / "keys").mkdir(mode=0o700)
    lives: list[Life] = []
    for at, torn in (*kills, (0, False)):
        known = [said for life in lives for said in life.said]
        lives.append(live(folder, known, kills[: len(lives)], at, torn))
        if not lives[-1].killed:
            break
    assert lives[-1].said == [] or lives[-1].said[-1]["step"] == "end"
    assert not lives[-1].killed
    return lives


def places(met: list[str]) -> list[tuple[int, bool]]:
    """Every point, and every one a second time half way through where it can be torn."""
    found = []
    for number, what in enumerate(met, start=1):
        found.append((number, False))
        if what in TEARABLE:
            found.append((number, True))
    return found


def test_the_story_without_a_kill_passes_all_kinds_of_points(folder: Path) -> None:
    (life,) = tell(folder)
    assert len(life.met) > LEAST_POINTS
    assert set(life.met) >= {
        "write", "pwrite", "fsync", "fdatasync", "link", "unlink", "mkdir", "open", "ftruncate",
        "posix_fallocate", "statement", "commit", "committed",
    }  # fmt: skip


def test_half_a_checkpoint_behind_the_seal_does_not_stay(folder: Path) -> None:
    (whole,) = tell(folder)
    last = len(whole.met) - whole.met[::-1].index("write")
    assert tell(folder, (last, True))[0].killed


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(23, marks=pytest.mark.timeout(300)),
        pytest.param(1, marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
    ids=["some", "all"],
)
def test_whoever_is_killed_at_a_write_goes_on(folder: Path, results: Results, step: int) -> None:
    (whole,) = tell(folder)
    # The making of a home, where the first holes were, and of the rest each `step`th.
    found = places(whole.met)
    tried = found[:6] + found[6::step]
    twice = 0
    kinds: Counter[str] = Counter()
    for number, (at, torn) in enumerate(tried):
        # In the long run, the second life is killed as well, somewhere.
        second = [] if step > 1 else [(1 + number * 37 % len(whole.met), bool(number % 2))]
        lives = tell(folder, (at, torn), *second)
        assert lives[0].killed, (at, torn, whole.met[at - 1])
        kinds[whole.met[at - 1] + (" (half)" if torn else "")] += 1
        twice += len(lives) > 2
    results.note(
        f"killed at each of {len(tried)} places of {len(whole.met)} points ("
        + ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
        + f"), {twice} times a second time while going on: nothing acknowledged missing, nothing half done, "
        "record proved"
    )
