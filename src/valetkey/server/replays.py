"""Requests that are sent again with the same idempotency key: the same answer, nothing done twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Connection, insert, select

from valetkey.access.actor import Actor
from valetkey.access.operation import Operation
from valetkey.access.permissions import require_permission
from valetkey.errors import Conflict, NotPermitted
from valetkey.store import tables

REPLAY_SECONDS = 86_400
"""How long an idempotency key is remembered."""


class Replays:
    """What was answered, by who asked and their idempotency key. Plain keys are never kept."""

    def __init__(self, workspace: str, index_key: bytes, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._workspace = workspace
        self._index_key = index_key

    def find(
        self, connection: Connection, operation: Operation[Any, Any], request: Any, actor: Actor, token: str
    ) -> dict[str, Any] | None:
        """The answer that was given, None where there was none. Raises `Conflict` for another request.

        None also for who may not do it any more: the frame refuses that, and says so in the audit.
        """
        try:
            require_permission(actor, operation.action)
        except NotPermitted:
            return None
        table = tables.replays
        row = connection.execute(
            select(table.c.request, table.c.answer).where(
                table.c.workspace_id == self._workspace,
                table.c.actor == actor.label,
                table.c.token == token,
                table.c.created > self._wall() - REPLAY_SECONDS,
            )
        ).first()
        if row is None:
            return None
        if bytes(row.request) != self._digest(operation, request):
            raise Conflict(
                "That idempotency key was used for another request.",
                "Use a new one for a new request.",
                field="Idempotency-Key",
            )
        return {**msgspec.json.decode(row.answer), "replayed": True}

    def remember(
        self,
        connection: Connection,
        operation: Operation[Any, Any],
        request: Any,
        actor: Actor,
        token: str,
        answer: Any,
    ) -> None:
        """In the action's own transaction: a crash leaves both or neither."""
        kept = msgspec.to_builtins(answer)
        if isinstance(kept, dict):
            kept = {
                name: None if name in ("key", "credential", "token") else value
                for name, value in kept.items()
            }
        table = tables.replays
        connection.execute(table.delete().where(table.c.created <= self._wall() - REPLAY_SECONDS))
        connection.execute(
            insert(table).values(
                workspace_id=self._workspace,
                actor=actor.label,
                token=token,
                request=self._digest(operation, request),
                answer=msgspec.json.encode(kept).decode(),
                created=self._wall(),
            )
        )

    def _digest(self, operation: Operation[Any, Any], request: Any) -> bytes:
        # Keyed by being hashed with the index key: a request may carry a secret's value.
        body = operation.action.encode() + b"\0" + msgspec.json.encode(request, order="deterministic")
        return hashlib.blake2b(body, key=self._index_key, digest_size=32).digest()
