"""The frame of every management action: who asks, may they, one transaction with its audit entry.

An operation is a function ``(unit, request) -> answer`` in the ``operations.py`` of its room, marked with the
audit action it performs. Doors never write: they hand a request to `perform`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec
from sqlalchemy import Connection, insert

from valetkey.access.actor import Actor
from valetkey.access.permissions import require_permission
from valetkey.decision.limits import Limits
from valetkey.decision.reservation import counted_cells
from valetkey.errors import NotPermitted, ValetkeyError
from valetkey.identifiers import RandomBytes, new_id
from valetkey.journal.actions import AuditAction
from valetkey.store import tables
from valetkey.store.engine import Store

if TYPE_CHECKING:
    from valetkey.vault.keyring import Keyring

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class Begun(msgspec.Struct, frozen=True):
    """Counters of a row's limits that counted nothing before this action."""

    kind: str
    id: str
    block: int
    cells: frozenset[int]


@dataclass(slots=True)
class Unit:
    """One management action in the making: everything an operation may use, and what it leaves behind."""

    connection: Connection
    actor: Actor
    workspace: str
    environment: str
    """Name of the environment the action works in."""
    wall: float
    random: RandomBytes
    keyring: Keyring
    subject: str = ""
    """What it is done to, as the audit names it: ``key:key_…``."""
    details: dict[str, Any] = field(default_factory=dict)
    """Facts for the audit. Never a secret."""
    changed: list[tuple[str, str]] = field(default_factory=list)
    """Rows whose change every key index must learn of: (kind, id)."""
    begun: list[Begun] = field(default_factory=list)
    """Limits that begin to count: what was used before them stands in the journal."""

    unpinned: list[int] = field(default_factory=list)
    """Blocks of keys that are pinned to no address any more."""

    def new_id(self, prefix: str) -> str:
        return new_id(prefix, self.random)

    def unpin(self, block: int | None) -> None:
        """Note that a key is pinned to no address any more; one that was dropped has no block, and no pin."""
        if block is not None:
            self.unpinned.append(block)

    def touch(self, kind: str, identifier: str) -> None:
        """Note that a row changed, for the change feed."""
        if (kind, identifier) not in self.changed:
            self.changed.append((kind, identifier))

    def count(self, kind: str, identifier: str, block: int, before: Limits, after: Limits) -> None:
        """Note that the limits of a row changed: what only the new ones count has to be counted first."""
        cells = counted_cells(after) - counted_cells(before)
        if cells:
            self.begun.append(Begun(kind, identifier, block, cells))


@dataclass(frozen=True, slots=True)
class Operation(Generic[Request, Answer]):
    """An entry of the one list of things that can be done."""

    action: AuditAction
    run: Callable[[Unit, Request], Answer]


OPERATIONS: dict[AuditAction, Operation[Any, Any]] = {}


def operation(
    action: AuditAction,
) -> Callable[[Callable[[Unit, Request], Answer]], Operation[Request, Answer]]:
    """Mark a function as the operation that performs `action`, and enter it in the list."""

    def enter(run: Callable[[Unit, Request], Answer]) -> Operation[Request, Answer]:
        if action in OPERATIONS:
            raise RuntimeError(f"two operations perform {action}")
        made = Operation(action, run)
        OPERATIONS[action] = made
        return made

    return enter


class AuditEntry(msgspec.Struct, frozen=True):
    """One management action as recorded."""

    id: str
    time: float
    actor: str
    action: str
    subject: str
    outcome: str
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Performed(Generic[Answer]):
    """What an operation did."""

    answer: Answer
    changed: tuple[tuple[str, str], ...]
    begun: tuple[Begun, ...]
    unpinned: tuple[int, ...]
    entry: AuditEntry


@dataclass(slots=True)
class Frame:
    """Runs operations against one store and one vault."""

    store: Store
    keyring: Keyring
    wall: Callable[[], float]
    random: RandomBytes
    workspace: str

    def perform(
        self,
        made: Operation[Request, Answer],
        request: Request,
        actor: Actor,
        environment: str = "production",
        in_the_end: Callable[[Unit, Answer], None] | None = None,
    ) -> Performed[Answer]:
        """Permission check, the operation, its audit entry and its changes, in one transaction.

        `in_the_end` may write what belongs to the same transaction.

        Raises `ValetkeyError` when refused; a refusal for want of permission is audited too.
        """
        return self.perform_all(made, (request,), actor, environment, in_the_end)[0]

    def perform_all(
        self,
        made: Operation[Request, Answer],
        requests: Iterable[Request],
        actor: Actor,
        environment: str = "production",
        in_the_end: Callable[[Unit, Answer], None] | None = None,
    ) -> list[Performed[Answer]]:
        """The same for many requests in one transaction, an audit entry each: all are done, or none is."""
        try:
            require_permission(actor, made.action)
            with self.store.write() as connection:
                return [
                    self._do(connection, made, request, actor, environment, in_the_end)
                    for request in requests
                ]
        except NotPermitted:
            with self.store.write() as connection:
                unit = self._unit(connection, actor, environment)
                _enter(unit, made.action, "refused")
            raise

    def _do(
        self,
        connection: Connection,
        made: Operation[Request, Answer],
        request: Request,
        actor: Actor,
        environment: str,
        in_the_end: Callable[[Unit, Answer], None] | None,
    ) -> Performed[Answer]:
        unit = self._unit(connection, actor, environment)
        answer = made.run(unit, request)
        if unit.changed:
            connection.execute(
                insert(tables.changes),
                [
                    {"workspace_id": self.workspace, "kind": kind, "subject": subject, "time": unit.wall}
                    for kind, subject in unit.changed
                ],
            )
        entry = _enter(unit, made.action, "done")
        if in_the_end is not None:
            in_the_end(unit, answer)
        return Performed(answer, tuple(unit.changed), tuple(unit.begun), tuple(unit.unpinned), entry)

    def _unit(self, connection: Connection, actor: Actor, environment: str) -> Unit:
        return Unit(connection, actor, self.workspace, environment, self.wall(), self.random, self.keyring)


def _enter(unit: Unit, action: AuditAction, outcome: str) -> AuditEntry:
    entry = AuditEntry(
        id=unit.new_id("aud"),
        time=unit.wall,
        actor=unit.actor.label,
        action=action,
        subject=unit.subject,
        outcome=outcome,
        details=unit.details,
    )
    unit.connection.execute(
        insert(tables.audit).values(
            id=entry.id,
            workspace_id=unit.workspace,
            time=entry.time,
            actor=entry.actor,
            action=entry.action,
            subject=entry.subject,
            outcome=entry.outcome,
            details=msgspec.json.encode(entry.details).decode(),
            journaled=0,
        )
    )
    return entry


__all__ = [
    "OPERATIONS",
    "AuditEntry",
    "Frame",
    "Operation",
    "Performed",
    "Unit",
    "ValetkeyError",
    "operation",
]
