"""Checkpoints reach the witnesses: files get all, programs the newest; what fails is told, tried again, and holds up
nobody."""

from __future__ import annotations

import http.server
import itertools
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from running_server import eventually
from valetkey import log
from valetkey.errors import Invalid
from valetkey.journal.checkpoint import sign
from valetkey.journal.records import Checkpoint
from valetkey.journal.witness import WitnessFile, line_of, read_line
from valetkey.server import witness
from valetkey.server.home import Home
from valetkey.server.settings import load_settings
from valetkey.server.witness import Deliverer, FilePlace, Undelivered, Witnesses
from valetkey.settings import Settings

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def checkpoint(number: int, segment: str = "none") -> Checkpoint:
    return sign(KEY, number, 1764000000000 + number, None, {segment: (number, "a" * 64)})


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witness, "RETRY_SECONDS", (0.01, 0.02))
    monkeypatch.setattr(witness.UrlPlace, "pace", 0.05)


class Receiver(http.server.BaseHTTPRequestHandler):
    """A program that takes checkpoints, in the way the test says."""

    server: Program

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.status
        (self.server.got if status == 200 else self.server.refused).append(body)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.server.asked.append((self.path, self.headers["Content-Type"]))

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Program(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.status = 200
        self.got: list[bytes] = []
        self.refused: list[bytes] = []
        self.asked: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/checkpoints?from=here"


@pytest.fixture
def program() -> Iterator[Program]:
    served = Program()
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.shutdown()
    served.server_close()
    thread.join()


def test_a_file_gets_every_checkpoint_and_only_grows(tmp_path: Path) -> None:
    path = tmp_path / "witness"
    sent = [checkpoint(number) for number in range(1, 40)]
    witnesses = Witnesses([str(path)], tmp_path)
    for one in sent:
        witnesses.offer(one)
    witnesses.close()
    assert path.read_bytes() == b"".join(line_of(one) + b"\n" for one in sent)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = Witnesses([str(path)], tmp_path)
    again.offer(checkpoint(40))
    again.close()
    held = WitnessFile(path)
    assert (len(held), held.newest) == (40, 40)
    assert [one.number for _, one in held.between(38, 99)] == [38, 39, 40]
    held.close()


def test_a_line_that_a_full_disk_cut_off_spoils_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "witness"
    path.write_bytes(line_of(checkpoint(1)) + b"\n" + line_of(checkpoint(2))[:70])
    FilePlace(path).deliver([line_of(checkpoint(2))])
    lines = path.read_bytes().splitlines()
    assert [found.number for line in lines if (found := read_line(line)) is not None] == [1, 2]


def test_a_file_that_cannot_be_written_is_told_and_gets_all_when_it_can(tmp_path: Path) -> None:
    path = tmp_path / "away" / "witness"
    witnesses = Witnesses([str(path)], tmp_path)
    for number in range(1, 6):
        witnesses.offer(checkpoint(number))
    (said,) = eventually(lambda: witnesses.troubles)
    assert str(path) in said
    assert "no such file or directory" in said
    path.parent.mkdir()
    eventually(lambda: not witnesses.troubles)
    assert len(path.read_bytes().splitlines()) == 5
    witnesses.close()


def test_the_log_says_once_that_a_witness_fails_and_once_that_it_has_all_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(log, "_log", log.Log("control", write=lines.append))
    monkeypatch.setattr(log, "WINDOW_SECONDS", 0.0)  # else the log itself would hold back what is said again
    path = tmp_path / "away" / "witness"
    place = Counted(path)
    deliverer = Deliverer(place, lambda _: None)
    deliverer.offer(checkpoint(1))
    eventually(lambda: place.tries > 3)
    assert len(lines) == 1
    assert (
        "warning control witness_undelivered: It gets no checkpoints: no such file or directory." in lines[0]
    )
    assert f"witness={path}" in lines[0]
    path.parent.mkdir()
    eventually(lambda: len(lines) > 1)
    deliverer.offer(checkpoint(2))
    deliverer.close()
    deliverer.join(5)
    assert [line.split()[3] for line in lines] == ["witness_undelivered:", "witness_recovered"]


class Counted(FilePlace):
    """Knows how often it was tried."""

    tries = 0

    def deliver(self, lines: list[bytes]) -> None:
        self.tries += 1
        super().deliver(lines)


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_is_no_file_is_told(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "witness"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path = Path("/dev/full")
    with pytest.raises((OSError, Undelivered)):
        FilePlace(path).deliver([b"x"])


def test_what_waits_is_bounded_and_the_newest_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witness, "MOST_WAITING", 3)
    path = tmp_path / "away" / "witness"
    witnesses = Witnesses([str(path)], tmp_path)
    for number in range(1, 30):
        witnesses.offer(checkpoint(number))
        time.sleep(0.001)
    assert "were left out" in eventually(lambda: witnesses.troubles)[0]
    path.parent.mkdir()
    eventually(lambda: not witnesses.troubles)
    held = [found.number for line in path.read_bytes().splitlines() if (found := read_line(line))]
    assert held[-1] == 29
    assert len(held) <= 6
    assert held == sorted(held)
    witnesses.close()


def test_a_program_gets_the_newest_at_its_pace(program: Program, tmp_path: Path) -> None:
    witnesses = Witnesses([program.url], tmp_path)
    begun = time.monotonic()
    for number in range(1, 400):
        witnesses.offer(checkpoint(number))
        time.sleep(0.0005)
    eventually(lambda: program.got and program.got[-1] == line_of(checkpoint(399)))
    took = time.monotonic() - begun
    assert len(program.got) <= took / 0.05 + 2
    assert set(program.asked) == {("/checkpoints?from=here", "application/json")}
    witnesses.close()


@pytest.mark.parametrize("status", [500, 404, 302])
def test_a_program_that_refuses_is_told_and_asked_again(
    program: Program, tmp_path: Path, status: int
) -> None:
    program.status = status
    witnesses = Witnesses([program.url], tmp_path)
    witnesses.offer(checkpoint(1))
    (said,) = eventually(lambda: witnesses.troubles)
    assert f"http://127.0.0.1:{program.server_port} " in said
    assert f"it answered {status}" in said
    assert "from=here" not in said
    witnesses.offer(checkpoint(2))
    # Until the newer one has been refused, the older one may still be on its way, and would be taken.
    eventually(lambda: line_of(checkpoint(2)) in program.refused)
    program.status = 200
    eventually(lambda: not witnesses.troubles)
    eventually(lambda: program.got == [line_of(checkpoint(2))])
    assert {path for path, _ in program.asked} == {"/checkpoints?from=here"}
    witnesses.close()


def test_a_program_that_is_away_is_told(tmp_path: Path) -> None:
    program = Program()
    program.server_close()
    witnesses = Witnesses([program.url], tmp_path)
    witnesses.offer(checkpoint(1))
    assert "refused" in eventually(lambda: witnesses.troubles)[0]
    begun = time.monotonic()
    witnesses.close()
    assert time.monotonic() - begun < 1.5


def test_a_witness_that_hangs_holds_up_nobody(tmp_path: Path) -> None:
    class Hanging:
        pace = 0.0
        newest_only = False
        name = "hanging"
        go_on = threading.Event()
        got: list[bytes] = []  # noqa: RUF012

        def deliver(self, lines: list[bytes]) -> None:
            assert self.go_on.wait(20)
            self.got += lines

    place = Hanging()
    deliverer = Deliverer(place, lambda one: None)
    begun = time.monotonic()
    for number in range(1, 1001):
        deliverer.offer(checkpoint(1 + number % 3))
    assert time.monotonic() - begun < 2.0
    assert place.got == []
    place.go_on.set()
    deliverer.close()
    deliverer.join(10)
    assert len(place.got) == 1000


def test_what_is_signed_is_on_the_disk_before_the_witness_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    name = "00000001764000000100-w0-1"
    (tmp_path / f"{name}.seg").write_bytes(b"x")
    path = tmp_path / "outside"

    def synced(descriptor: int) -> None:
        order.append(os.readlink(f"/proc/self/fd/{descriptor}"))

    monkeypatch.setattr(os, "fdatasync", synced)
    witnesses = Witnesses([str(path)], tmp_path)
    witnesses.offer(checkpoint(1, name))
    witnesses.close()
    assert order == [str(tmp_path / f"{name}.seg"), str(path)]


@pytest.mark.parametrize(
    "place",
    [
        "/mnt/disk/witness",
        "https://witness.example/checkpoints",
        "https://witness.example:8443/a?b=c",
        "http://127.0.0.1:9000/x",
        "http://[::1]:9000/x",
        "http://localhost/x",
    ],
)
def test_these_are_witnesses(place: str) -> None:
    assert Settings(witness=(place,)).witness == (place,)


@pytest.mark.parametrize(
    "place",
    [
        "", "witness", "./witness", "/mnt/folder/", "http://witness.example/x", "http://10.0.0.1/x", "ftp://x/y",
        "https://", "https:///x", "https://user@x/y", "https://user:pass@x/y", "https://x:port/", "https://x/#part",
        "https://x/a b", "https://x:0/", "file:///etc/x",
    ],
)  # fmt: skip
def test_these_are_none(place: str) -> None:
    with pytest.raises(ValueError, match=r"witness|[Pp]ort"):
        Settings(witness=(place,))


def test_a_file_in_the_data_folder_is_no_witness(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.folder.mkdir()
    (tmp_path / "link").symlink_to(home.folder)
    for place in (home.folder / "witness", home.journal / "witness", tmp_path / "link" / "x"):
        with pytest.raises(Invalid, match="data folder"):
            load_settings(home, {}, {"witness": (str(place),)})
    assert load_settings(home, {}, {"witness": (str(tmp_path / "w"),)}).witness
    home.config.write_text('witness = ["/mnt/a", "https://b.example/"]\n')
    assert load_settings(home, {}).witness == ("/mnt/a", "https://b.example/")
    assert list(itertools.chain(load_settings(home, {}).witness))
