"""The record, provable and forgettable: on a real server, while calls come, and through kills."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from running_server import Refused, RunningServer, ValetKey, ask, eventually
from standins.raw_upstream import RawUpstream

pytestmark = pytest.mark.real


class Person(NamedTuple):
    """A holder whose calls tell things that are told by nobody else's."""

    name: str
    address: str

    @property
    def headers(self) -> dict[str, str]:
        site = f"https://{self.name}.example"
        return {"User-Agent": f"agent-of-{self.name}/7.7", "Origin": site, "Referer": f"{site}/page"}

    @property
    def told(self) -> list[str]:
        return [self.address, *self.headers.values()]


ADAM = Person("adam", "127.0.0.42")


@pytest.fixture(scope="module")
def house() -> Iterator[tuple[RunningServer, RawUpstream]]:
    with RawUpstream() as upstream, RunningServer(workers=2, settings={"personal_days": 1}) as server:
        yield server, upstream


def command(*arguments: str, home: str = "/nonexistent/valetkey", code: int = 0) -> str:
    """What a command says, without a server and a data folder."""
    done = subprocess.run(
        [sys.executable, "-m", "valetkey", *arguments],
        env={**os.environ, "VALETKEY_HOME": home},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done.stdout


def call(server: RunningServer, service: str, key: ValetKey, person: Person, number: int = 1) -> None:
    connection = server.connect(person.address)
    try:
        for _ in range(number):
            answer = ask(connection, "GET", f"/{service}/a", key, headers=person.headers)
            assert answer.code == "VALID"
    finally:
        connection.close()


def found_in(home: Path, person: Person) -> dict[str, list[str]]:
    """Which files hold what of a person, in any byte."""
    found: dict[str, list[str]] = {}
    for path in sorted(path for path in home.rglob("*") if path.is_file()):
        content = path.read_bytes()
        for told in person.told:
            forms = (told.encode(), told.encode("utf-16-le"), told.encode().hex().encode())
            if any(form in content for form in forms):
                found.setdefault(path.name, []).append(told)
    return found


def addresses(server: RunningServer, key: ValetKey) -> list[str]:
    return [one["value"] for one in server.manage("GET", f"/usage?key={key.id}")["addresses"]]


def proven(server: RunningServer) -> dict[str, Any]:
    report: dict[str, Any] = server.manage("POST", "/audit/verify")
    assert (report["integrity"], report["completeness"], report["problems"]) == ("ok", "ok", [])
    return report


House = tuple[RunningServer, RawUpstream]


def test_a_proof_is_checked_with_nothing_but_the_public_key(house: House, tmp_path: Path) -> None:
    server, upstream = house
    eve = Person("eve", "127.0.0.43")
    service = server.open_service("secret-of-proof", base_url=upstream.url)
    hers, his = server.issue(service, holder=eve.name), server.issue(service, holder=ADAM.name)
    call(server, service, hers, eve)
    call(server, service, his, ADAM)
    (event,), (other,) = server.closed_events(hers, 1), server.closed_events(his, 1)
    made = server.manage("POST", "/audit/proof", {"record": event["call"]})
    key = proven(server)["public_key"]
    assert made["public_key"] == key
    text = json.dumps(made)
    assert not [one for one in (*eve.told, "adam", other["call"], his.id) if one in text]
    file = tmp_path / "call.proof"
    file.write_text(text)
    checked = json.loads(command("audit", "proof", "--check", str(file), "--key", key, "--json"))
    assert (checked["verdict"], checked["records"][0]["record"]["holder"]) == ("ok", "eve")
    assert "unproven" in command("audit", "proof", "--check", str(file), code=1)
    file.write_text(text.replace("eve", "bob"))
    assert "it was changed" in command("audit", "proof", "--check", str(file), "--key", key, code=1)
    with_fields = server.manage("POST", "/audit/proof", {"record": event["call"], "personal": True})
    assert eve.address in json.dumps(with_fields)
    with pytest.raises(Refused, match="no such record"):
        server.manage("POST", "/audit/proof", {"record": "0" * 8 + event["call"][8:]})
    entry = server.manage("GET", "/audit")["items"][0]
    assert eventually(lambda: provable(server, entry["id"]))


def provable(server: RunningServer, which: str) -> Any:
    try:
        return server.manage("POST", "/audit/proof", {"record": which})
    except Refused:
        return None  # its entry goes into the chain within a fraction of a second


def test_what_calls_told_of_someone_is_gone_from_every_file_while_calls_come(house: House) -> None:
    server, upstream = house
    lea = Person("lea", "127.0.0.44")
    service = server.open_service("secret-of-erasure", base_url=upstream.url)
    hers, his = server.issue(service, holder=lea.name), server.issue(service, holder=ADAM.name)
    child = server.manage("POST", f"/keys/{hers.id}/derive", {})
    call(server, service, hers, lea, 30)
    call(server, service, ValetKey(child["id"], child["key"]), lea, 5)
    call(server, service, his, ADAM, 5)
    server.closed_events(hers, 30)
    assert addresses(server, hers) == [lea.address]
    kinds = {name.partition(".")[2] for name in found_in(server.home, lea)}
    assert "personal" in kinds and kinds & {"db", "db-wal"}, "beside the segments, and in the database"
    erased_before = proven(server)["erased"]
    stop = threading.Event()

    def go_on() -> None:
        while not stop.is_set():
            call(server, service, his, ADAM, 20)

    calling = threading.Thread(target=go_on)
    calling.start()
    try:
        erased = server.manage("POST", "/audit/erase", {"party": "lea"})
        assert (erased["party"], erased["erased"]) == ("lea", 35)
        assert found_in(server.home, lea) == {}
    finally:
        stop.set()
        calling.join()
    assert proven(server)["erased"] == erased_before + 35
    assert {event["address"] for event in server.events(hers)} == {None}
    assert {event["address"] for event in server.events(his)} == {ADAM.address}
    assert (addresses(server, hers), addresses(server, his)) == ([], [ADAM.address])
    entry = next(e for e in server.manage("GET", "/audit")["items"] if e["action"] == "audit:erase")
    assert (entry["subject"], entry["details"]["party"]) == ("party:lea", "lea")
    for wrong in ({}, {"party": "lea", "older_than": "1d"}, {"older_than": "soon"}, {"party": "nobody"}):
        with pytest.raises(Refused):
            server.manage("POST", "/audit/erase", wrong)
    call(server, service, hers, lea)
    assert server.manage("POST", "/audit/erase", {"older_than": "1d"})["erased"] == 0
    assert server.manage("POST", "/audit/erase", {"older_than": "0d"})["erased"] > 20
    assert found_in(server.home, lea) == found_in(server.home, ADAM) == {}
    proven(server)


@contextmanager
def reading(database: Path) -> Iterator[None]:
    """Somebody reads the database as it is now, for as long as this lasts: its log cannot be emptied."""
    program = (
        "import sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('BEGIN'); c.execute('SELECT count(*) FROM sightings').fetchall()\n"
        "print('reading', flush=True); sys.stdin.read()\n"
    )
    # In a process of its own: reading the files in the same one would drop its locks.
    command = [sys.executable, "-c", program, str(database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"reading\n"
        yield
        process.kill()


def test_an_erasure_that_was_killed_half_way_is_gone_on_with(house: House) -> None:
    server, upstream = house
    ida = Person("ida", "127.0.0.45")
    service = server.open_service("secret-of-kills", base_url=upstream.url)
    hers = server.issue(service, holder=ida.name)
    database = server.home / "valetkey.db"

    def erase() -> None:
        with suppress(OSError, AssertionError):  # it is killed
            server.manage("POST", "/audit/erase", {"party": "ida"})

    def pending() -> bool:
        program = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); print(len(c.execute('SELECT 1 FROM erasures WHERE done IS NULL').fetchall()))"  # noqa: E501
        return subprocess.check_output([sys.executable, "-c", program, str(database)]) != b"0\n"

    erased_before = proven(server)["erased"]
    for stage in ("at once", "at the end"):
        call(server, service, hers, ida, 60)
        assert addresses(server, hers) == [ida.address]
        asking = threading.Thread(target=erase)
        if stage == "at the end":
            with reading(database):
                asking.start()
                # Blank beside the segments, and held up where the log is to be emptied.
                eventually(lambda: list(found_in(server.home, ida)) == ["valetkey.db-wal"], 20)
                assert pending()
                os.kill(server.control_pid, signal.SIGKILL)
        else:
            asking.start()
            os.kill(server.control_pid, signal.SIGKILL)
        asking.join()
        eventually(lambda: works(server), 20)
        eventually(lambda: not pending(), 20)
        proven(server)
    assert found_in(server.home, ida) == {}
    server.manage("POST", "/audit/erase", {"party": "ida"})
    assert proven(server)["erased"] == erased_before + 120


def works(server: RunningServer) -> bool:
    try:
        return server.status()["ready"] is True
    except (OSError, AssertionError, http.client.HTTPException):
        return False


def test_fields_past_their_time_go_by_themselves_and_a_record_at_rest_is_proven(
    house: House, tmp_path: Path
) -> None:
    server, upstream = house
    eva = Person("eva", "127.0.0.46")
    service = server.open_service("secret-of-days", base_url=upstream.url)
    hers = server.issue(service, holder=eva.name)
    call(server, service, hers, eva)
    assert addresses(server, hers) == [eva.address]
    (event,) = server.closed_events(hers, 1)
    server.stop()
    out = tmp_path / "again.proof"
    asked = [sys.executable, "-m", "valetkey", "audit", "proof", event["call"], "--out", str(out)]
    for code in (0, 1):  # what is there already is not written over
        done = subprocess.run(
            asked, env={**os.environ, **server.environment}, capture_output=True, check=False
        )
        assert done.returncode == code, done.stderr
    assert event["call"] in json.loads(out.read_text())["records"][0]["payload"]
    assert out.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(server.home / "valetkey.db")) as database, database:
        database.execute("UPDATE sightings SET last = last - 200000, first = first - 200000")
    server.start()
    eventually(lambda: addresses(server, hers) == [], 20)
    entry = next(e for e in server.manage("GET", "/audit")["items"] if e["action"] == "audit:erase")
    assert (entry["actor"], entry["details"]["party"]) == ("system:valetkey", None)
