"""Every finding is found from the facts that it is about, and from nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from valetkey.doctor.facts import (
    BackupFacts,
    CertificateFacts,
    FolderFacts,
    HoldingsFacts,
    Installation,
    KeyFacts,
    MachineFacts,
    Place,
    ProcessFacts,
    RecordFacts,
    RootKeyFacts,
    SecretFacts,
    SettingsFacts,
)
from valetkey.doctor.findings import ABOUT, MOST_SUBJECTS, Area, Kind, Severity, found
from valetkey.doctor.rules import examine
from valetkey.settings import Settings

WALL = 1_790_000_000.0
DAY = 86_400
USER = 1000
HOME = Place("/srv/keys", 0o700, USER, 1, folder=True)
SOCKET = Place("/srv/keys/run/control.sock", 0o600, USER, 1, socket=True)
CERTIFICATE = CertificateFacts(
    "/etc/tls/keys.pem",
    begins=WALL - 9 * DAY,
    ends=WALL + 80 * DAY,
    names=("keys.example.com", "*.example.org"),
    key=Place("/etc/tls/keys.key", 0o600, USER),
)
KEY = KeyFacts("key_a", "private", WALL - DAY, WALL + 30 * DAY, WALL + 60 * DAY, WALL - 3600)
SECRET = SecretFacts("openai", 2, WALL - 10 * DAY, None)

GOOD = Installation(
    running=True,
    root_key=RootKeyFacts(
        "/etc/valetkey/root.key",
        Place("/etc/valetkey/root.key", 0o600, USER, 2),
        Place("/etc/valetkey", 0o755, 0, 2),
    ),
    folder=FolderFacts(HOME, USER, (Place("/srv/keys/valetkey.db", 0o600, USER, 1),), SOCKET, sessions=1),
    machine=MachineFacts(WALL, WALL - 5, True, 90 << 30, 2 << 30),
    process=ProcessFacts(USER, 0, False, 1),
    settings=SettingsFacts(Settings(), "/srv/keys/config.toml", variables=("VALETKEY_HOME",)),
    backup=BackupFacts("/srv/keys/last-backup", WALL - DAY, WALL - 99 * DAY),
    holdings=HoldingsFacts((KEY,), (SECRET,)),
    record=RecordFacts(WALL - 99 * DAY, WALL - 5, WALL - 6),
)


def root_key(**changes: Any) -> Installation:
    return replace(GOOD, root_key=replace(GOOD.root_key, **changes))


def folder(**changes: Any) -> Installation:
    return replace(GOOD, folder=replace(GOOD.folder, **changes))


def machine(**changes: Any) -> Installation:
    return replace(GOOD, machine=replace(GOOD.machine, **changes))


def process(**changes: Any) -> Installation:
    return replace(GOOD, process=replace(GOOD.process, **changes))


def settings(certificate: CertificateFacts | None = None, **chosen: Any) -> Installation:
    return replace(
        GOOD, settings=replace(GOOD.settings, settings=Settings(**chosen), certificate=certificate)
    )


def beside(**changes: Any) -> Installation:
    return replace(GOOD, settings=replace(GOOD.settings, **changes))


def key(**changes: Any) -> Installation:
    return replace(GOOD, holdings=HoldingsFacts((replace(KEY, **changes),), (SECRET,)))


def secret(**changes: Any) -> Installation:
    return replace(GOOD, holdings=HoldingsFacts((KEY,), (replace(SECRET, **changes),)))


def record(**changes: Any) -> Installation:
    assert GOOD.record is not None
    return replace(GOOD, record=replace(GOOD.record, **changes))


def backup(**changes: Any) -> Installation:
    return replace(GOOD, backup=replace(GOOD.backup, **changes))


def key_file(**changes: Any) -> Installation:
    assert GOOD.root_key.place is not None
    return root_key(place=replace(GOOD.root_key.place, **changes))


ELSEWHERE = {"listen": "192.0.2.7", "public_name": ("keys.example.com",)}
CASES: dict[Kind, Installation] = {
    Kind.ROOT_KEY_MISSING: root_key(place=None),
    Kind.ROOT_KEY_INSIDE_HOME: root_key(inside_home=True),
    Kind.ROOT_KEY_COPY_INSIDE_HOME: folder(root_key_copies=("/srv/keys/copy",)),
    Kind.ROOT_KEY_OPEN: key_file(mode=0o640),
    Kind.ROOT_KEY_OWNER: key_file(owner=1001),
    Kind.ROOT_KEY_FOLDER_OPEN: root_key(folder=Place("/etc/valetkey", 0o775, 0, 2)),
    Kind.ROOT_KEY_REFUSED: root_key(refused="it is another one."),
    Kind.ROOT_KEY_SAME_DISK: key_file(device=1),
    Kind.HOME_OPEN: folder(home=replace(HOME, mode=0o750)),
    Kind.HOME_OWNER: folder(user=1001),
    Kind.PART_OPEN: folder(parts=(Place("/srv/keys/config.toml", 0o644, USER),)),
    Kind.PART_OWNER: folder(parts=(Place("/srv/keys/config.toml", 0o600, 0),)),
    Kind.SOCKET_OPEN: folder(socket=replace(SOCKET, mode=0o666)),
    Kind.SOCKET_ELSEWHERE: folder(socket_outside=True),
    Kind.SOCKET_SESSIONS: folder(sessions=3),
    Kind.DATABASE_REFUSED: folder(database_refused="The database is damaged. Restore a backup."),
    Kind.CLOCK_BEHIND: machine(newest_record=WALL + 61),
    Kind.CLOCK_UNSYNCHRONISED: machine(synchronised=False),
    Kind.DISK_NEARLY_FULL: machine(disk_free=(2 << 30) - 1),
    Kind.DISK_LOW: machine(disk_free=(6 << 30) - 1),
    Kind.RUNS_AS_ROOT: process(user=0),
    Kind.CORE_FILES: process(core_limit=-1),
    Kind.MEMORY_OPEN: process(dumpable=True),
    Kind.ATTACH_ALLOWED: process(ptrace_scope=0),
    Kind.SETTING_UNKNOWN: beside(unknown=("wokers",)),
    Kind.SETTING_REFUSED: beside(refused="A setting cannot be used."),
    Kind.SETTING_UNUSED: settings(allow_plain=True),
    Kind.VARIABLE_UNKNOWN: beside(variables=("VALETKEY_ROOTKEY_FILE",)),
    Kind.FSYNC_RARE: settings(fsync_interval_ms=5000),
    Kind.DATABASE_PLAIN: beside(database_plain=True),
    Kind.PLAIN_LISTENER: settings(allow_plain=True, **ELSEWHERE),
    Kind.PLAIN_BEHIND_PROXY: settings(allow_plain=True, trusted_proxy=("192.0.2.1/32",), **ELSEWHERE),
    Kind.PROXY_WIDE: settings(trusted_proxy=("10.0.0.0/8",)),
    Kind.PUBLIC_NAME_MISSING: settings(CERTIFICATE, listen="192.0.2.7"),
    Kind.CERTIFICATE_UNREADABLE: settings(replace(CERTIFICATE, problem="No such file")),
    Kind.CERTIFICATE_EXPIRED: settings(replace(CERTIFICATE, ends=WALL)),
    Kind.CERTIFICATE_ENDS_SOON: settings(replace(CERTIFICATE, ends=WALL + 20 * DAY)),
    Kind.CERTIFICATE_NAMES: settings(CERTIFICATE, public_name=("keys.example.net",)),
    Kind.CERTIFICATE_KEY_OPEN: settings(replace(CERTIFICATE, key=Place("/etc/tls/keys.key", 0o644, USER))),
    Kind.CERTIFICATE_DEVELOPMENT: settings(CertificateFacts("tls_dev", development=True), **ELSEWHERE),
    Kind.KEY_WITHOUT_END: key(expires=None),
    Kind.KEY_REVIEW_DUE: key(review=WALL),
    Kind.KEY_HOLDER_GONE: key(holder_gone=True),
    Kind.KEY_UNUSED: key(created=WALL - 200 * DAY, last_used=WALL - 91 * DAY),
    Kind.PUBLIC_KEY_WIDE: key(kind="public", wide="every endpoint"),
    Kind.BUDGET_WITHOUT_PRICE: key(unpriced="openai"),
    Kind.SERVICE_WITHOUT_SECRET: replace(
        GOOD, holdings=HoldingsFacts((KEY,), (SECRET,), services_without_secret=("stripe",))
    ),
    Kind.SECRET_EXPIRED: secret(expires=WALL),
    Kind.SECRET_ENDS_SOON: secret(expires=WALL + 13 * DAY),
    Kind.SECRET_NEVER_ROTATED: secret(version=1, created=WALL - 181 * DAY),
    Kind.SECRET_OLD: secret(created=WALL - 366 * DAY),
    Kind.RECORD_BROKEN: record(problems=("w0 record 7: changed",)),
    Kind.RECORD_UNSIGNED: record(checkpoint=None),
    Kind.CHECKPOINT_OLD: record(checkpoint=WALL - 66),
    Kind.WITNESS_UNDELIVERED: record(witnesses=("The witness /mnt/w gets no checkpoints since today.",)),
    Kind.BACKUP_INSIDE_HOME: folder(backups=("/srv/keys/old.tar.gz",)),
    Kind.BACKUP_UNKNOWN: backup(noted=None),
    Kind.BACKUP_OLD: backup(noted=WALL - 8 * DAY),
}


def kinds(seen: Installation) -> list[Kind]:
    return [finding.id for finding in examine(seen).items]


def test_where_all_is_well_nothing_is_found_and_the_report_says_what_was_looked_at() -> None:
    report = examine(GOOD)
    assert (report.items, report.severity) == ((), "ok")
    assert report.looked_at == tuple(area.value for area in Area)


@pytest.mark.parametrize("kind", Kind)
def test_each_finding_is_found_alone_with_its_severity_and_a_sentence(kind: Kind) -> None:
    report = examine(CASES[kind])
    assert [finding.id for finding in report.items] == [kind]
    finding = report.items[0]
    assert (finding.severity, finding.area) == (ABOUT[kind].severity, ABOUT[kind].area)
    assert report.severity == finding.severity
    assert finding.sentence[0].isalnum() or finding.sentence[0] == "/"
    assert finding.sentence.endswith(".") and "\n" not in finding.sentence


def test_every_kind_is_described() -> None:
    assert set(ABOUT) == set(Kind) == set(CASES)


@pytest.mark.parametrize(
    "good",
    [
        machine(newest_record=WALL + 60),
        machine(disk_free=None),
        machine(synchronised=None),
        key(created=WALL - 200 * DAY, last_used=WALL - 89 * DAY),
        secret(version=2, created=WALL - 200 * DAY),
        secret(expires=WALL + 15 * DAY),
        record(checkpoint=None, newest_record=None, begun=None),
        record(checkpoint=None, begun=WALL - 1),
        backup(noted=None, home_since=WALL - DAY),
        settings(CERTIFICATE, listen="192.0.2.7", public_name=("KEYS.example.com", "a.example.org")),
        settings(CertificateFacts("tls_dev", development=True)),
        settings(trusted_proxy=("127.0.0.1/32", "10.1.0.0/16", "fd00::/48")),
        root_key(credential=True, place=Place("/run/credentials/x/y", 0o440, 0, 1)),
        process(ptrace_scope=None, core_limit=None, dumpable=None),
    ],
)
def test_what_is_good_is_not_found_fault_with(good: Installation) -> None:
    assert kinds(good) == []


def test_what_is_wrong_with_the_key_file_is_said_once() -> None:
    place = Place("/etc/valetkey/root.key", 0o644, USER, 2)
    assert kinds(root_key(place=place, refused="Others may use it.")) == [Kind.ROOT_KEY_OPEN]


def test_what_another_user_may_not_read_is_not_called_wrong() -> None:
    seen = replace(folder(user=1001), root_key=replace(GOOD.root_key, refused="It belongs to another user."))
    assert kinds(seen) == [Kind.HOME_OWNER]


def test_an_expired_secret_is_not_also_near_its_end() -> None:
    assert kinds(secret(expires=WALL - DAY)) == [Kind.SECRET_EXPIRED]


def test_the_worst_decides_and_comes_first_in_its_area() -> None:
    seen = replace(
        folder(socket_outside=True, home=replace(HOME, mode=0o777)), process=ProcessFacts(0, 0, False, None)
    )
    report = examine(seen)
    assert [finding.id for finding in report.items] == [
        Kind.HOME_OPEN,
        Kind.SOCKET_ELSEWHERE,
        Kind.RUNS_AS_ROOT,
    ]
    assert report.severity == Severity.SERIOUS


def test_what_could_not_be_looked_at_is_not_said_to_have_been() -> None:
    report = examine(replace(GOOD, holdings=None, unseen=(("keys", "There is no database yet."),)))
    assert "keys" not in report.looked_at
    assert report.not_seen[0].why == "There is no database yet."


@given(st.integers(0, 60))
def test_a_finding_lists_a_few_names_and_counts_them_all(number: int) -> None:
    one = found(Kind.KEY_UNUSED, "Keys.", None, [f"key_{n}" for n in range(number)])
    assert (len(one.subjects), one.count) == (min(number, MOST_SUBJECTS), number)


def test_commands_that_mend_quote_what_a_shell_would_read() -> None:
    report = examine(folder(backups=("/srv/keys/a b; rm -rf.tar",)))
    assert report.items[0].mend == "mv '/srv/keys/a b; rm -rf.tar' ELSEWHERE"


@pytest.mark.parametrize("name", ["wokers", "a b", "x; rm"])
def test_an_unknown_setting_gets_a_command_only_where_its_name_is_plain(name: str) -> None:
    mend = examine(beside(unknown=(name,))).items[0].mend
    assert (mend is not None) == name.isidentifier()


def test_a_root_key_that_opens_nothing_is_named_with_what_mends_it() -> None:
    (finding,) = examine(CASES[Kind.ROOT_KEY_REFUSED]).items
    assert "--root-key-file" in finding.sentence
    assert finding.mend is not None
    assert "VALETKEY_ROOT_KEY_FILE" in finding.mend


def test_a_root_key_on_the_same_disk_is_moved_by_a_command_that_exists() -> None:
    (finding,) = examine(CASES[Kind.ROOT_KEY_SAME_DISK]).items
    assert finding.mend == "valetkey vault rewrap --to FILE-ON-ANOTHER-DISK"


def test_systemd_is_asked_only_for_a_unit_that_is_installed() -> None:
    (without,) = examine(process(user=0)).items
    assert without.mend is None
    assert "docs/how-to/run-under-systemd.md" in without.sentence
    (installed,) = examine(process(user=0, unit=True)).items
    assert installed.mend == "systemctl enable --now valetkey"
