"""From rows to facts: what the control process tells workers of the database."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import msgspec
from sqlalchemy import Connection, select

from valetkey.decision.limits import Limits
from valetkey.decision.policy import State
from valetkey.gateway.facts import (
    AgreementFact,
    ClockFact,
    CredentialFact,
    DroppedFact,
    Fact,
    KeyFact,
    LimitsFact,
    NetworkFact,
    PartyFact,
    PolicyFact,
    SecretFact,
    SecretVersion,
    ServiceFact,
)
from valetkey.server.link import SNAPSHOT_CHUNK
from valetkey.services.placement import KEY
from valetkey.services.service import Service
from valetkey.store import tables
from valetkey.store.engine import Store
from valetkey.vault.keyring import Keyring
from valetkey.vault.sealing import SecretContext

_ORDER = (
    "clock",
    "network",
    "service",
    "party",
    "limits",
    "agreement",
    "policy",
    "secret",
    "credential",
    "key",
)
"""What others refer to comes first."""

RETIRED_SECONDS = 86_400
"""So long after a version was retired answers are still scrubbed of it: upstreams echo what they cached."""
ROWS_AT_ONCE = 5_000
LATCHED = 0.0
"""Expiry of a key or an agreement whose end has been reached: before every clock."""


class FactLoader:
    """Reads facts of one workspace."""

    def __init__(
        self,
        workspace: str,
        keyring: Keyring,
        wall: Callable[[], float] = time.time,
        newest: Callable[[Connection], float] = lambda connection: 0.0,
    ) -> None:
        """`newest`: what no clock may be far behind."""
        self._workspace = workspace
        self._keyring = keyring
        self._wall = wall
        self._newest = newest

    def all(self, connection: Connection) -> Iterator[Fact]:
        """The whole snapshot. Revoked keys stay: their holders are told REVOKED, not UNKNOWN_KEY. Derived ones that
        were dropped do not."""
        for kind in _ORDER:
            yield from self._load(connection, kind, None)

    def changed(self, connection: Connection, changes: Iterable[tuple[str, str]]) -> list[Fact]:
        """The facts of some rows."""
        wanted: dict[str, list[str]] = defaultdict(list)
        for kind, identifier in changes:
            wanted[kind].append(identifier)
        # A worker forgets policies that nobody has any more: it may be told one for a second time.
        wanted["policy"] += self._policies_of(connection, wanted)
        facts: list[Fact] = []
        for kind in _ORDER:
            if wanted.get(kind):
                facts.extend(self._load(connection, kind, wanted[kind]))
        return facts

    def _load(self, connection: Connection, kind: str, ids: list[str] | None) -> Iterable[Fact]:
        loaders = {
            "clock": self._clock,
            "limits": self._limits,
            "agreement": self._agreements,
            "network": self._networks,
            "service": self._services,
            "party": self._parties,
            "policy": self._policies,
            "secret": self._secrets,
            "credential": self._credentials,
            "key": self._keys,
        }
        return loaders[kind](connection, ids)

    def _rows(self, connection: Connection, table, columns, ids):  # type: ignore[no-untyped-def]
        query = select(*columns).where(table.c.workspace_id == self._workspace)
        if ids is not None:
            return connection.execute(query.where(table.c.id.in_(ids))).all()
        return connection.execute(query.execution_options(yield_per=ROWS_AT_ONCE))

    def _clock(self, connection: Connection, ids: list[str] | None) -> Iterable[Fact]:
        yield ClockFact(self._newest(connection))

    def _limits(self, connection: Connection, ids: list[str] | None) -> Iterable[Fact]:
        table = tables.limits
        columns = (table.c.level, table.c.subject, table.c.document, table.c.block)
        for level, subject, document, block in self._rows(connection, table, columns, ids):
            shared_by = "" if level == "workspace" else subject
            yield LimitsFact(level, shared_by, msgspec.json.decode(document, type=Limits), block)

    def _agreements(self, connection: Connection, ids: list[str] | None) -> Iterable[Fact]:
        table = tables.agreements
        columns = (
            table.c.id, table.c.party_id, table.c.policies, table.c.limits, table.c.block, table.c.begins, table.c.ends,
            table.c.ended, table.c.latched,
        )  # fmt: skip
        for row in self._rows(connection, table, columns, ids):
            yield AgreementFact(
                row.id,
                row.party_id,
                msgspec.json.decode(row.policies, type=dict[str, str]),
                msgspec.json.decode(row.limits, type=Limits),
                row.block,
                row.begins,
                row.ends if row.latched is None else LATCHED,
                row.ended is not None,
            )

    def _networks(self, connection: Connection, ids: list[str] | None) -> Iterable[Fact]:
        table = tables.networks
        columns = (table.c.name, table.c.blocks, table.c.listener)
        for name, blocks, listener in self._rows(connection, table, columns, ids):
            yield NetworkFact(name, tuple(msgspec.json.decode(blocks, type=list[str])), listener)

    def _services(self, connection: Connection, ids: list[str] | None) -> Iterable[Fact]:
        table = tables.services
        columns = (table.c.id, table.c.definition, table.c.locked, table.c.removed)
        for identifier, definition, locked, removed in self._rows(connection, table, columns, ids):
            service = None if removed is not None else msgspec.json.decode(definition, type=Service)
            if service is not None or ids is not None:
                yield ServiceFact(identifier, service, bool(locked))

    def _parties(self, connection: Connection, ids: list[str] | None) -> Iterable[Fact]:
        table = tables.parties
        columns = (table.c.id, table.c.name, table.c.removed)
        for identifier, name, removed in self._rows(connection, table, columns, ids):
            yield PartyFact(identifier, name, removed is not None)

    def _policies(self, connection: Connection, ids: list[str] | None) -> Iterable[Fact]:
        table = tables.policies
        had = None
        if ids is None:
            # Of those that come and go with derived keys, only what somebody has.
            keys = tables.keys
            query = select(keys.c.policy_id).where(keys.c.dropped.is_(None)).distinct()
            had = {*connection.execute(query).scalars(), *self._agreed_policies(connection, None)}
        for identifier, document in self._rows(connection, table, (table.c.id, table.c.document), ids):
            if had is None or identifier in had:
                yield PolicyFact(identifier, document)

    def _policies_of(self, connection: Connection, wanted: dict[str, list[str]]) -> set[str]:
        """Policies of the keys and agreements among what changed."""
        found: set[str] = set()
        if keys := wanted.get("key"):
            found.update(
                connection.execute(
                    select(tables.keys.c.policy_id).where(tables.keys.c.id.in_(keys))
                ).scalars()
            )
        if agreements := wanted.get("agreement"):
            found.update(self._agreed_policies(connection, agreements))
        return found - set(wanted["policy"])

    def _agreed_policies(self, connection: Connection, ids: list[str] | None) -> set[str]:
        rows = self._rows(connection, tables.agreements, (tables.agreements.c.policies,), ids)
        return {
            policy for (named,) in rows for policy in msgspec.json.decode(named, type=dict[str, str]).values()
        }

    def _credentials(self, connection: Connection, ids: list[str] | None) -> Iterable[Fact]:
        table = tables.credentials
        columns = (table.c.id, table.c.fingerprint, table.c.service_id, table.c.revoked, table.c.kind)
        for identifier, print_, service_id, revoked, kind in self._rows(connection, table, columns, ids):
            if kind == "service":
                yield CredentialFact(identifier, bytes(print_), service_id, revoked is None)

    def _keys(self, connection: Connection, ids: list[str] | None) -> Iterable[Fact]:
        table = tables.keys
        columns = (
            table.c.id, table.c.fingerprint, table.c.kind, table.c.service_id, table.c.environment_id,
            table.c.holder_id, table.c.policy_id, table.c.secret_name, table.c.state, table.c.expires,
            table.c.block, table.c.parent_id, table.c.ended, table.c.dropped,
        )  # fmt: skip
        for row in self._rows(connection, table, columns, ids):
            if row.dropped is not None:
                if ids is not None:
                    yield DroppedFact(row.id)
                continue
            fact = KeyFact(*row[:-2])
            # An end that was reached once is reached for ever, whatever the clock says later. A revoked key
            # needs no such end: it would cut the exchanges that --let-finish spares.
            lasting = row.ended is None or fact.state == State.REVOKED
            yield fact if lasting else msgspec.structs.replace(fact, expires=LATCHED)

    def _secrets(self, connection: Connection, ids: list[str] | None) -> Iterable[Fact]:
        secrets, versions = tables.secrets, tables.secret_versions
        columns = (secrets.c.id, secrets.c.service_id, secrets.c.environment_id, secrets.c.name)
        for identifier, service_id, environment_id, name in self._rows(connection, secrets, columns, ids):
            rows = connection.execute(
                select(
                    versions.c.id,
                    versions.c.number,
                    versions.c.sealed,
                    versions.c.expires,
                    versions.c.retired,
                )
                .where(
                    versions.c.secret_id == identifier,
                    versions.c.retired.is_(None) | (versions.c.retired > self._wall() - RETIRED_SECONDS),
                )
                .order_by(versions.c.number.desc())
            ).all()
            living: list[SecretVersion] = []
            gone: list[SecretVersion] = []
            for version_id, number, sealed, expires, retired in rows:
                context = SecretContext(self._workspace, service_id, environment_id, name, number)
                plain = self._keyring.open_sealed(sealed, context)
                version = SecretVersion(version_id, {KEY: plain.reveal_text()}, expires)
                (living if retired is None else gone).append(version)
            yield SecretFact(service_id, environment_id, name, tuple(living), tuple(gone))


async def pieces_of(
    store: Store, loader: FactLoader, reader: ThreadPoolExecutor
) -> AsyncGenerator[list[Fact]]:
    """The whole snapshot, piece by piece, so that the other side works on one while the next is read.

    `reader`: the one thread that reads.
    """
    loop = asyncio.get_running_loop()
    view = store.read()
    try:
        connection = await loop.run_in_executor(reader, view.__enter__)
        facts = loader.all(connection)

        def piece() -> list[Fact]:
            return list(islice(facts, SNAPSHOT_CHUNK))

        ahead = loop.run_in_executor(reader, piece)
        while read := await ahead:
            ahead = loop.run_in_executor(reader, piece)
            yield read
    finally:
        await loop.run_in_executor(reader, view.__exit__, None, None, None)
