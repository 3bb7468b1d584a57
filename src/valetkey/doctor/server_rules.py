"""Rules about the server and its machine: clock, disk, processes, settings, listeners, record, backup."""

from __future__ import annotations

import ipaddress
import shlex
import time
from collections.abc import Iterator

from valetkey.doctor.facts import (
    BackupFacts,
    CertificateFacts,
    FolderFacts,
    MachineFacts,
    ProcessFacts,
    RecordFacts,
    SettingsFacts,
)
from valetkey.doctor.findings import Finding, Kind, found
from valetkey.loopback import is_loopback
from valetkey.settings import Settings
from valetkey.variables import about_unknown, unknown_variables

DAY = 86_400
CLOCK_LAG = 60.0
"""A clock so many seconds behind the newest record makes workers refuse all calls."""
DISK_TIMES = 3
"""Warned is at so many times what is held back."""
FSYNC_MS = 1_000
CHECKPOINT_LAG = 60.0
"""Checkpoints are made each second while records come; a minute behind is no hurry any more."""
CERTIFICATE_DAYS = 21
BACKUP_DAYS = 7
WIDE_PREFIX = {4: 16, 6: 32}
"""A proxy has an address, or a machine hall's worth of them; not more than these."""


def machine_findings(machine: MachineFacts) -> Iterator[Finding]:
    """The clock decides ends, windows and schedules; without room nothing can be recorded."""
    newest = machine.newest_record
    if newest is not None and machine.wall < newest - CLOCK_LAG:
        yield found(
            Kind.CLOCK_BEHIND,
            f"The clock is {newest - machine.wall:,.0f} seconds behind the newest record; calls are refused "
            "until it is right.",
            "timedatectl set-ntp true",
        )
    if machine.synchronised is False:
        yield found(
            Kind.CLOCK_UNSYNCHRONISED,
            "The kernel says that the clock is not synchronised: ends, windows and schedules drift with it.",
            "timedatectl set-ntp true",
        )
    free, held_back = machine.disk_free, machine.disk_held_back
    if free is None:
        return
    if free < held_back:
        yield found(
            Kind.DISK_NEARLY_FULL,
            f"{_size(free)} of the disk are free; calls are refused below {_size(held_back)}.",
        )
    elif free < DISK_TIMES * held_back:
        yield found(
            Kind.DISK_LOW, f"{_size(free)} of the disk are free; below {_size(held_back)} calls are refused."
        )


def process_findings(process: ProcessFacts, *, running: bool) -> Iterator[Finding]:
    """Plain keys live in memory, so memory stays closed."""
    if process.user == 0:
        said = (
            "The server runs as root" if running else "The data belongs to root, so the server runs as root"
        )
        yield found(
            Kind.RUNS_AS_ROOT,
            f"{said}: a fault in it would be a fault in everything. It needs no right of root."
            + ("" if process.unit else " A user of its own: docs/how-to/run-under-systemd.md."),
            "systemctl enable --now valetkey" if process.unit else None,
        )
    if process.core_limit:
        yield found(
            Kind.CORE_FILES, "The control process may write its memory, with keys in it, to a core file."
        )
    if process.dumpable:
        yield found(
            Kind.MEMORY_OPEN,
            "Programs of the same user may attach to the control process and read keys from its memory.",
        )
    if process.ptrace_scope == 0:
        yield found(
            Kind.ATTACH_ALLOWED,
            "Programs of one user may read each other's memory here; valetkey forbids it for itself, but the "
            "programs that use its keys do not.",
            "sysctl -w kernel.yama.ptrace_scope=1",
        )


def settings_findings(facts: SettingsFacts) -> Iterator[Finding]:
    """Settings that stop the next start, do nothing, or cost more than they say."""
    settings = facts.settings
    if facts.unknown:
        yield found(
            Kind.SETTING_UNKNOWN,
            f"{facts.config} has no known setting in {facts.unknown[0]!r}; the next start refuses it.",
            f"sed -i '/^{facts.unknown[0]} *=/d' {shlex.quote(facts.config)}"
            if facts.unknown[0].isidentifier()
            else None,
            facts.unknown,
        )
    if facts.refused is not None:
        yield found(Kind.SETTING_REFUSED, f"The settings cannot be used: {facts.refused}")
    if settings.allow_plain and is_loopback(settings.listen):
        yield found(
            Kind.SETTING_UNUSED,
            "allow_plain has no effect beside the other settings.",
            None,
            ["allow_plain"],
        )
    unknown = unknown_variables(facts.variables)
    if unknown:
        yield found(
            Kind.VARIABLE_UNKNOWN,
            about_unknown(unknown[0]),
            f"unset {unknown[0]}",
            unknown,
        )
    if settings.fsync_interval_ms > FSYNC_MS:
        yield found(
            Kind.FSYNC_RARE,
            f"A loss of power costs up to {settings.fsync_interval_ms / 1000:g} seconds of the record.",
            "valetkey serve --fsync-interval-ms 100",
        )
    if facts.database_plain:
        yield found(
            Kind.DATABASE_PLAIN,
            "The database URL allows an unencrypted connection to another machine. Write sslmode=verify-full in it.",
        )


def listener_findings(facts: SettingsFacts, wall: float) -> Iterator[Finding]:
    """What the network sees."""
    settings = facts.settings
    elsewhere = not is_loopback(settings.listen)
    if elsewhere and facts.certificate is None:
        if settings.trusted_proxy:
            yield found(
                Kind.PLAIN_BEHIND_PROXY,
                f"Plain HTTP is served on {settings.listen}: keys cross the way from the proxy in the clear.",
                "valetkey serve --listen 127.0.0.1",
            )
        else:
            yield found(
                Kind.PLAIN_LISTENER,
                f"Plain HTTP is served on {settings.listen}: whoever is on the way reads the keys.",
                "valetkey serve --listen 127.0.0.1",
            )
    wide = [text for text in settings.trusted_proxy if _is_wide(text)]
    if wide:
        yield found(
            Kind.PROXY_WIDE,
            f"Forwarding headers are believed from {wide[0]}: anyone there can claim any address.",
            "valetkey serve --trusted-proxy ADDRESS-OF-THE-PROXY",
            wide,
        )
    if elsewhere and not settings.public_name:
        yield found(
            Kind.PUBLIC_NAME_MISSING,
            f"There is no public name: callers elsewhere can only use {settings.listen}.",
            "valetkey serve --public-name keys.example.com",
        )
    if facts.certificate is not None:
        yield from _certificate_findings(facts.certificate, settings, wall)


def _certificate_findings(
    certificate: CertificateFacts, settings: Settings, wall: float
) -> Iterator[Finding]:
    path = certificate.path
    if certificate.problem is not None:
        yield found(Kind.CERTIFICATE_UNREADABLE, f"{path} cannot be used: {certificate.problem}.")
        return
    if certificate.key is not None and certificate.key.mode & 0o077:
        yield found(
            Kind.CERTIFICATE_KEY_OPEN,
            f"Others than its owner may read {certificate.key.path} (mode {certificate.key.mode:04o}).",
            f"chmod 600 {shlex.quote(certificate.key.path)}",
        )
    if certificate.development:
        if not is_loopback(settings.listen):
            yield found(
                Kind.CERTIFICATE_DEVELOPMENT,
                f"A certificate for development is served on {settings.listen}; no caller elsewhere trusts it.",
                "valetkey serve --tls-cert FILE --tls-key FILE",
            )
        return
    if wall >= certificate.ends:
        yield found(Kind.CERTIFICATE_EXPIRED, f"The certificate {path} ended on {_day(certificate.ends)}.")
    elif wall < certificate.begins:
        yield found(
            Kind.CERTIFICATE_EXPIRED, f"The certificate {path} begins only on {_day(certificate.begins)}."
        )
    elif wall >= certificate.ends - CERTIFICATE_DAYS * DAY:
        yield found(Kind.CERTIFICATE_ENDS_SOON, f"The certificate {path} ends on {_day(certificate.ends)}.")
    missing = [name for name in settings.public_name if not _covered(name, certificate.names)]
    if missing:
        yield found(
            Kind.CERTIFICATE_NAMES,
            f"The certificate {path} does not name {missing[0]}: callers refuse it.",
            None,
            missing,
        )


def record_findings(record: RecordFacts, wall: float) -> Iterator[Finding]:
    """Whether the newest of the record is proved."""
    if record.problems:
        yield found(
            Kind.RECORD_BROKEN,
            f"The server met records that do not fit: {record.problems[0]}.",
            "valetkey audit verify",
            record.problems,
        )
    for trouble in record.witnesses:
        yield found(Kind.WITNESS_UNDELIVERED, trouble)
    if record.newest_record is None:
        return
    if record.checkpoint is None:
        if record.begun is None or wall - record.begun <= CHECKPOINT_LAG:
            return  # the first one is on its way
        yield found(
            Kind.RECORD_UNSIGNED,
            "There are records, but no checkpoint that this server has signed.",
            "valetkey audit verify",
        )
    elif record.newest_record - record.checkpoint > CHECKPOINT_LAG:
        yield found(
            Kind.CHECKPOINT_OLD,
            f"The newest {record.newest_record - record.checkpoint:,.0f} seconds of the record are not signed.",
            "valetkey audit verify",
        )


def backup_findings(backup: BackupFacts, folder: FolderFacts, wall: float) -> Iterator[Finding]:
    """A backup lies elsewhere, and is young."""
    if folder.backups:
        yield found(
            Kind.BACKUP_INSIDE_HOME,
            f"{folder.backups[0]} looks like a backup: it is lost together with what it is a backup of.",
            f"mv {shlex.quote(folder.backups[0])} ELSEWHERE",
            folder.backups,
        )
    marker = shlex.quote(backup.marker)
    note = f"touch {marker} && chmod 600 {marker}"
    if backup.noted is None:
        if wall - backup.home_since > BACKUP_DAYS * DAY:
            yield found(
                Kind.BACKUP_UNKNOWN,
                "No backup was noted. Have whatever makes them note each one.",
                note,
            )
    elif wall - backup.noted > BACKUP_DAYS * DAY:
        yield found(Kind.BACKUP_OLD, f"The last backup was noted on {_day(backup.noted)}.", note)


def _is_wide(network: str) -> bool:
    parsed = ipaddress.ip_network(network)
    return parsed.prefixlen < WIDE_PREFIX[parsed.version]


def _covered(name: str, names: tuple[str, ...]) -> bool:
    wanted = name.lower()
    below = "*." + wanted.partition(".")[2]
    return any(one.lower() in (wanted, below) for one in names)


def _day(wall: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(wall))


def _size(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"
