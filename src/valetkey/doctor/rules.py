"""From facts to findings. Pure: one function an area, which yields what it finds."""

from __future__ import annotations

from collections.abc import Iterator

from valetkey.doctor.facts import Installation
from valetkey.doctor.findings import Finding, NotSeen, Report, report
from valetkey.doctor.holding_rules import key_findings, secret_findings
from valetkey.doctor.place_rules import folder_findings, root_key_findings
from valetkey.doctor.server_rules import (
    backup_findings,
    listener_findings,
    machine_findings,
    process_findings,
    record_findings,
    settings_findings,
)


def examine(seen: Installation) -> Report:
    """Judge one installation."""
    unseen = tuple(NotSeen(what, why) for what, why in seen.unseen)
    return report(_findings(seen), running=seen.running, not_seen=unseen)


def _findings(seen: Installation) -> Iterator[Finding]:
    wall = seen.machine.wall
    yield from root_key_findings(seen.root_key, seen.folder.home, seen.folder.user)
    yield from folder_findings(seen.folder, running=seen.running)
    yield from machine_findings(seen.machine)
    yield from process_findings(seen.process, running=seen.running)
    yield from settings_findings(seen.settings)
    yield from listener_findings(seen.settings, wall)
    if seen.holdings is not None:
        yield from key_findings(seen.holdings, wall)
        yield from secret_findings(seen.holdings, wall)
    if seen.record is not None:
        yield from record_findings(seen.record, wall)
    yield from backup_findings(seen.backup, seen.folder, wall)
