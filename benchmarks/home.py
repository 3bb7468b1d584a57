"""A data folder with as many keys as asked: the first of each policy issued as any key, the rest in one insert."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import insert, select

from valetkey.access.actor import SYSTEM
from valetkey.access.operation import Frame
from valetkey.identifiers import new_id
from valetkey.keys.credentials import make_credential
from valetkey.keys.drafting import Terms
from valetkey.keys.format import generate
from valetkey.keys.kinds import KeyKind
from valetkey.keys.operations import IssueKey, issue_key
from valetkey.parties.operations import AddParty, PartyKind, add_party
from valetkey.server.home import Home
from valetkey.server.opening import open_home
from valetkey.services.operations import AddService, ServiceName, add_service
from valetkey.settings import Settings
from valetkey.store import tables
from valetkey.store.blocks import next_block
from valetkey.vault.fingerprint import fingerprint
from valetkey.vault.keyring import INDEX, service_index
from valetkey.vault.operations import SetSecret, set_secret

API = "acme"
"""The upstream service."""
OWN = "shop"
"""The own service, which asks by verify."""
POLICIES = 10
"""Different policies a service: the keys share them, as keys of one installation do."""
HOLDERS = 1000
AT_ONCE = 50_000
"""Rows a statement: a million at once would take gigabytes."""
KEPT = 4000
"""Plain keys a service that are kept for the load generator."""


@dataclass(frozen=True)
class Loaded:
    """A data folder ready to be served. `keys` are plain, by service; `ids` stand at the same places."""

    folder: Path
    root_key: Path
    count: int
    credential: str
    real_key: str
    keys: dict[str, list[str]]
    ids: dict[str, list[str]]
    seconds: float
    """What loading took."""

    @property
    def environment(self) -> dict[str, str]:
        """What a server for this folder is started with."""
        return {"VALETKEY_HOME": str(self.folder), "VALETKEY_ROOT_KEY_FILE": str(self.root_key)}


def load(place: Path, count: int, upstream: int, hosts: Mapping[str, int] | None = None) -> Loaded:
    """Make a data folder with `count` keys; the upstream, and its further `hosts` by name, are ports of loopback."""
    began = time.monotonic()
    place.mkdir(mode=0o700, parents=True)
    home = Home(place / "home")
    home.prepare()
    root_key = place / "root.key"
    opened = open_home(home, Settings(root_key_file=str(root_key)))
    frame = Frame(opened.store, opened.keyring, time.time, os.urandom, opened.workspace)
    real_key = "sk-" + os.urandom(24).hex()
    frame.perform(
        add_service,
        AddService(
            name=API,
            base_url=f"http://127.0.0.1:{upstream}",
            hosts={name: f"http://127.0.0.1:{port}" for name, port in (hosts or {}).items()},
            max_body_mb=2000,
            auth="bearer",
            allow_private=True,
            price="0.0001",
        ),
        SYSTEM,
    )
    frame.perform(add_service, AddService(name=OWN, own=True), SYSTEM)
    frame.perform(set_secret, SetSecret(service=API, value=real_key), SYSTEM)
    credential = frame.perform(make_credential, ServiceName(OWN), SYSTEM).answer.credential
    frame.perform(add_party, AddParty("template", PartyKind.MACHINE), SYSTEM)
    keys: dict[str, list[str]] = {API: [], OWN: []}
    ids: dict[str, list[str]] = {API: [], OWN: []}
    holders = _add_holders(frame, min(HOLDERS, max(1, count // 10)))
    for service in (API, OWN):
        templates = [_issue_template(frame, service, number) for number in range(POLICIES)]
        _copy(frame, service, templates, holders, count // 2 - POLICIES, keys[service], ids[service])
    opened.store.close()
    return Loaded(home.folder, root_key, count, credential, real_key, keys, ids, time.monotonic() - began)


def terms_of(number: int) -> Terms:
    """Network, endpoint, rate and quota: each is judged and each admits all that a benchmark sends."""
    return Terms(
        networks=("127.0.0.0/8", f"10.{number}.0.0/16"),
        endpoints=("GET /v1/**", "POST /v1/chat/completions", "POST /v1/files", f"GET /reports/{number}/*"),
        rate="100000/s",
        concurrency=1000,
        quotas=("1000000000/day",),
    )


def _issue_template(frame: Frame, service: str, number: int) -> str:
    request = IssueKey(service, KeyKind.PRIVATE, "template", f"policy {number}", terms=terms_of(number))
    issued = frame.perform(issue_key, request, SYSTEM).answer
    return str(issued.id)


def _add_holders(frame: Frame, count: int) -> list[str]:
    with frame.store.write() as connection:
        block = next_block(connection, count)
        rows = [
            {
                "id": new_id("pty", os.urandom),
                "workspace_id": frame.workspace,
                "name": f"holder {number}",
                "folded": f"holder {number}",
                "kind": PartyKind.APPLICATION.value,
                "block": block + number,
                "created": time.time(),
            }
            for number in range(count)
        ]
        connection.execute(insert(tables.parties), rows)
    return [str(row["id"]) for row in rows]


def _copy(
    frame: Frame, service: str, templates: list[str], holders: list[str], count: int, keys: list[str], ids: list[str]
) -> None:  # fmt: skip
    """Insert copies of the templates, each with a key, a block of counters and a holder of its own."""
    table = tables.keys
    with frame.store.write() as connection:
        originals = [
            dict(row._mapping) for row in connection.execute(select(table).where(table.c.id.in_(templates)))
        ]
        index_key = frame.keyring.key(connection, INDEX)
        own_key = (
            frame.keyring.key(connection, service_index(originals[0]["service_id"]))
            if service == OWN
            else None
        )
        block = next_block(connection, count)
        rows: list[dict[str, object]] = []
        for number in range(count):
            plain = generate("vk", KeyKind.PRIVATE, os.urandom)
            value = plain.reveal()
            row = originals[number % len(originals)] | {
                "id": new_id("key", os.urandom),
                "fingerprint": fingerprint(value, index_key),
                "service_fingerprint": None if own_key is None else fingerprint(value, own_key),
                "last4": plain.last4,
                "label": f"copy {number}",
                "holder_id": holders[number % len(holders)],
                "block": block + number,
            }
            rows.append(row)
            if len(keys) < KEPT:
                keys.append(plain.reveal_text())
                ids.append(row["id"])
            if len(rows) == AT_ONCE:
                connection.execute(insert(table), rows)
                rows.clear()
        if rows:
            connection.execute(insert(table), rows)
