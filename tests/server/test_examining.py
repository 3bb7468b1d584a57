"""`valetkey doctor` on real data folders: what is wrong with one is seen where it lies."""

from __future__ import annotations

import datetime
import os
import socket
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from valetkey.access.actor import Actor, ActorKind
from valetkey.access.operation import Frame
from valetkey.doctor import look
from valetkey.doctor.findings import Kind, Report
from valetkey.errors import NotFound, ValetkeyError
from valetkey.keys.drafting import Terms
from valetkey.keys.kinds import KeyKind
from valetkey.keys.operations import IssueKey, issue_key
from valetkey.server.examining import BACKUP_MARKER, examine_home
from valetkey.server.home import Home
from valetkey.server.opening import open_home
from valetkey.server.settings import load_settings
from valetkey.services.operations import AddService, add_service
from valetkey.vault.operations import SetSecret, set_secret

OWNER = Actor(ActorKind.LOCAL_OWNER, "ana")
DAY = 86_400
OF_THE_MACHINE = {Kind.RUNS_AS_ROOT, Kind.CLOCK_UNSYNCHRONISED, Kind.ATTACH_ALLOWED, Kind.ROOT_KEY_SAME_DISK}
"""What the machine that runs this test is like."""


@dataclass
class House:
    """A data folder with its root key elsewhere."""

    folder: Path
    environment: dict[str, str]

    @property
    def home(self) -> Home:
        return Home(self.folder / "home")

    @property
    def root_key(self) -> Path:
        return Path(self.environment["VALETKEY_ROOT_KEY_FILE"])

    def perform(self, operation: Any, request: Any, wall: float | None = None) -> Any:
        opened = open_home(self.home, load_settings(self.home, self.environment))
        try:
            clock = (lambda: wall) if wall is not None else time.time
            frame = Frame(opened.store, opened.keyring, clock, os.urandom, opened.workspace)
            return frame.perform(operation, request, OWNER).answer
        finally:
            opened.store.close()

    def examine(self) -> Report:
        return examine_home(self.home, self.environment)

    def kinds(self) -> set[Kind]:
        return {finding.id for finding in self.examine().items} - OF_THE_MACHINE


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    (tmp_path / "keys").mkdir(mode=0o700)
    monkeypatch.setenv("VALETKEY_ROOT_KEY_FILE", str(tmp_path / "keys" / "root.key"))
    made = House(tmp_path, {"VALETKEY_ROOT_KEY_FILE": str(tmp_path / "keys" / "root.key")})
    old = os.umask(0o077)
    try:
        made.home.prepare()
        made.perform(add_service, AddService(name="openai", preset="openai"))
        made.perform(set_secret, SetSecret(service="openai", value="sk-test-" + "a1B2c3D4" * 5))
    finally:
        os.umask(old)
    return made


def test_a_new_home_has_nothing_weak(house: House) -> None:
    report = house.examine()
    assert house.kinds() == set()
    assert (report.server, report.not_seen) == ("not running", ())


def test_looking_changes_nothing(house: House) -> None:
    def state() -> dict[str, tuple[int, int, int]]:
        found = {str(p): p.stat() for p in house.home.folder.rglob("*") if p.name != "lock"}
        return {
            name: (s.st_mode, s.st_size, s.st_mtime_ns)
            for name, s in found.items()
            if not name.endswith(("-shm", "-wal", "home", "run"))
        }

    house.examine()
    before = state()
    house.examine()
    assert state() == before


def key_inside(house: House) -> None:
    inside = house.home.folder / "root.key"
    house.root_key.rename(inside)
    house.environment["VALETKEY_ROOT_KEY_FILE"] = str(inside)


def another_key(house: House) -> None:
    other = Home(house.folder / "other")
    other.prepare()
    house.root_key.rename(house.folder / "keys" / "kept")
    open_home(other, load_settings(other, house.environment)).store.close()


def open_socket(house: House) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(house.home.control_socket))
    house.home.control_socket.chmod(0o666)


def make_file(name: str, content: str = "x") -> Callable[[House], Any]:
    def make(house: House) -> None:
        path = house.home.folder / name
        path.write_text(content)
        path.chmod(0o600)

    return make


def write(text: str) -> Callable[[House], Any]:
    return make_file("config.toml", text)


def aged_home(house: House) -> None:
    os.utime(house.home.folder / "home-id", (0, 0))


def old_backup(house: House) -> None:
    make_file(BACKUP_MARKER)(house)
    os.utime(house.home.folder / BACKUP_MARKER, (time.time() - 8 * DAY,) * 2)


def give_away(house: House) -> None:
    os.chown(house.home.folder / "home-id", 12345, 12345)


FAULTS: dict[Kind, Callable[[House], Any]] = {
    Kind.ROOT_KEY_MISSING: lambda house: house.root_key.unlink(),
    Kind.ROOT_KEY_INSIDE_HOME: key_inside,
    Kind.ROOT_KEY_COPY_INSIDE_HOME: lambda house: make_file("copy", house.root_key.read_text())(house),
    Kind.ROOT_KEY_OPEN: lambda house: house.root_key.chmod(0o644),
    Kind.ROOT_KEY_FOLDER_OPEN: lambda house: house.root_key.parent.chmod(0o777),
    Kind.ROOT_KEY_REFUSED: another_key,
    Kind.HOME_OPEN: lambda house: house.home.folder.chmod(0o755),
    Kind.PART_OPEN: lambda house: (house.home.folder / "home-id").chmod(0o644),
    Kind.SOCKET_OPEN: open_socket,
    Kind.SETTING_UNKNOWN: write("wokers = 2\n"),
    Kind.SETTING_REFUSED: write("workers = 99\n"),
    Kind.SETTING_UNUSED: write("allow_plain = true\n"),
    Kind.FSYNC_RARE: write("fsync_interval_ms = 5000\n"),
    Kind.PLAIN_LISTENER: write(
        'listen = "0.0.0.0"\nallow_plain = true\npublic_name = ["keys.example.com"]\n'
    ),
    Kind.PROXY_WIDE: write('trusted_proxy = ["0.0.0.0/0"]\n'),
    Kind.VARIABLE_UNKNOWN: lambda house: house.environment.update(VALETKEY_ROOTKEY="x"),
    Kind.BACKUP_INSIDE_HOME: make_file("valetkey.db.bak"),
    Kind.BACKUP_UNKNOWN: aged_home,
    Kind.BACKUP_OLD: old_backup,
    Kind.SERVICE_WITHOUT_SECRET: lambda house: house.perform(
        add_service, AddService(name="stripe", preset="stripe")
    ),
    Kind.SECRET_ENDS_SOON: lambda house: house.perform(
        set_secret, SetSecret(service="openai", value="sk-test-" + "e5F6g7H8" * 5, expires="3d")
    ),
    Kind.SECRET_EXPIRED: lambda house: house.perform(
        set_secret,
        SetSecret(service="openai", value="sk-test-" + "e5F6g7H8" * 5, expires="1d"),
        time.time() - 2 * DAY,
    ),
    Kind.KEY_WITHOUT_END: lambda house: issue(house),
    Kind.BUDGET_WITHOUT_PRICE: lambda house: issue(house, kind="temporary", budgets=("5/month",)),
}
"""Faults that can be made in a folder; those of the machine are judged from facts in test_doctor_rules.py."""


def issue(
    house: House, *, kind: str = "private", label: str = "", wall: float | None = None, **terms: Any
) -> str:
    request = IssueKey("openai", KeyKind(kind), "ana", label, terms=Terms(**terms))
    return str(house.perform(issue_key, request, wall).id)


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_in_a_real_folder_is_found_alone(house: House, kind: Kind) -> None:
    FAULTS[kind](house)
    assert house.kinds() == {kind}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_part_of_another_user_is_found(house: House) -> None:
    give_away(house)
    assert house.kinds() == {Kind.PART_OWNER}


def test_old_keys_and_secrets_are_found(house: House) -> None:
    long_ago = time.time() - 400 * DAY
    issue(house, wall=long_ago)
    wide = issue(house, kind="public", label="page", origins=("https://app.example.com",))
    with sqlite3.connect(house.home.database) as database:
        database.execute("UPDATE secret_versions SET created = ?", (long_ago,))
        database.execute("UPDATE parties SET removed = ?", (long_ago,))
    report = house.examine()
    by_kind = {finding.id: finding for finding in report.items}
    assert set(by_kind) - OF_THE_MACHINE == {
        Kind.KEY_WITHOUT_END, Kind.KEY_REVIEW_DUE, Kind.KEY_HOLDER_GONE, Kind.KEY_UNUSED,
        Kind.PUBLIC_KEY_WIDE, Kind.SECRET_OLD,
    }  # fmt: skip
    assert by_kind[Kind.PUBLIC_KEY_WIDE].subjects == (wide,)
    assert by_kind[Kind.SECRET_OLD].mend == "valetkey secret set openai"


def test_a_key_that_was_used_lately_is_not_unused(house: House) -> None:
    key = issue(house, wall=time.time() - 400 * DAY, rate="5/s")
    with sqlite3.connect(house.home.database) as database:
        workspace = database.execute("SELECT id FROM workspaces").fetchone()[0]
        hour = int(time.time()) // 3600 * 3600
        database.execute("INSERT INTO rollups VALUES (?, ?, ?, 1, 1, 0, 0, 0, 0, 0)", (workspace, key, hour))
    assert Kind.KEY_UNUSED not in house.kinds()


def test_a_credential_of_systemd_is_taken_as_it_is_handed_over(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = house.folder / "credentials"
    house.root_key.rename(credentials.mkdir() or credentials / "valetkey-root-key")
    named = {
        "VALETKEY_ROOT_KEY_FILE": str(credentials / "valetkey-root-key"),
        "CREDENTIALS_DIRECTORY": str(credentials),
    }
    (credentials / "valetkey-root-key").chmod(0o440)  # its access list stands in the group's bits
    house.environment.update(named)
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    assert house.kinds() == set()
    issue(house)
    (credentials / "valetkey-root-key").unlink()
    with pytest.raises(ValetkeyError, match="credential valetkey-root-key cannot be read"):
        issue(house)
    assert not (credentials / "valetkey-root-key").exists()


def test_without_its_root_key_a_folder_is_judged_as_far_as_it_can_be(house: House) -> None:
    issue(house)
    house.root_key.unlink()
    assert house.kinds() == {Kind.ROOT_KEY_MISSING, Kind.KEY_WITHOUT_END}
    assert "record" not in house.examine().looked_at


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look into another user's folder")
def test_who_looks_into_anothers_folder_is_told_to_be_its_owner(house: House) -> None:
    for path in (house.root_key, house.home.folder, *house.home.folder.rglob("*")):
        os.chown(path, 12345, 12345)
    report = house.examine()
    assert house.kinds() == {Kind.HOME_OWNER}
    mend = next(finding.mend for finding in report.items if finding.id is Kind.HOME_OWNER)
    assert mend == "sudo -u '#12345' valetkey doctor"


def test_a_folder_without_a_database_says_what_was_not_looked_at(house: House) -> None:
    for path in house.home.folder.glob("valetkey.db*"):
        path.unlink()
    report = house.examine()
    assert [unseen.what for unseen in report.not_seen] == ["keys", "secrets", "record"]
    assert not house.home.database.exists()


def test_where_there_is_no_home_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="There is no valetkey home"):
        examine_home(Home(tmp_path / "nothing"), {})


def make_certificate(folder: Path, days: int, *names: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate, key_file = folder / "tls.pem", folder / "tls.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    key_file.chmod(0o600)
    return certificate, key_file


def test_a_certificate_is_read_with_its_end_its_names_and_the_mode_of_its_key(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, 5, "keys.example.com")
    seen = look.certificate(certificate, key)
    assert (seen.problem, seen.names) == (None, ("keys.example.com",))
    assert abs(seen.ends - time.time() - 5 * DAY) < 60
    assert seen.key is not None and seen.key.mode == 0o600
    key.unlink()
    assert "cannot be found" in (look.certificate(certificate, key).problem or "")
    certificate.write_text("nothing")
    assert look.certificate(certificate, None).problem == "it holds no certificate in PEM form"
    assert look.certificate(tmp_path / "none", None).problem == "No such file or directory"


def test_sessions_of_a_unix_socket_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as one:
        listening.bind(str(path))
        listening.listen()
        assert look.sessions(path) == 0
        one.connect(str(path))
        accepted, _ = listening.accept()
        with accepted:
            assert look.sessions(path) == 1


def test_a_process_that_is_hardened_is_seen_to_be(tmp_path: Path) -> None:
    import subprocess
    import sys

    program = (
        "from valetkey.doctor.look import own_process\n"
        "from valetkey.server.hardening import harden\n"
        "harden()\n"
        "seen = own_process()\n"
        "print(seen.core_limit, seen.dumpable)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "0 False\n"
    # Not in this process, which the other tests need as it is.
    assert look.own_process().dumpable is True
