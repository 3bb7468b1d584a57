"""What the control API needs of the server behind it, so that the door can be tested without one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from valetkey.access.actor import Actor
from valetkey.access.operation import Operation

Answer = TypeVar("Answer")


class DoorSettings(Protocol):
    """The part of the settings that the door looks at."""

    @property
    def host_names(self) -> frozenset[str]:
        """Every host name this server answers to, lower case."""

    @property
    def max_body_mb(self) -> int:
        """Largest body of a call to any service, in megabytes."""


class InForce(Protocol):
    """What a management action did, and who had taken note of it when it returned."""

    @property
    def answer(self) -> Any: ...
    @property
    def acknowledged(self) -> int:
        """Workers that have applied the change."""

    @property
    def fenced(self) -> int:
        """Workers that were shut out because they did not answer."""

    @property
    def cut(self) -> int:
        """Open exchanges that were ended."""


class Desk(Protocol):
    """The one that performs what doors ask for. Errors are `ValetkeyError`."""

    @property
    def workspace(self) -> str: ...
    @property
    def settings(self) -> DoorSettings: ...

    async def perform(
        self,
        operation: Operation[Any, Any],
        request: Any,
        actor: Actor,
        *,
        let_finish: bool = False,
        replay_token: str | None = None,
    ) -> InForce:
        """Permission, operation, audit entry, and every worker told."""

    async def accept_clock(self, actor: Actor) -> InForce:
        """Take the clock as right, in every worker before this returns."""

    async def rewrap_vault(self, actor: Actor, file: str | None) -> Any:
        """Seal everything under a new root key."""

    async def read(self, query: Callable[[Connection], Answer]) -> Answer:
        """Run a query in a read transaction, off the event loop."""

    async def check_key(self, request: Any) -> Any:
        """Decide a call without spending anything. The request has the fields of `CheckKey`."""

    async def find_key(self, value: bytes) -> Any:
        """The key with this value. Raises `NotFound` and `Invalid`."""

    async def authenticate(self, token: bytes) -> Actor | None:
        """Who the bearer of a token is, None when it opens nothing."""

    def local_owner(self) -> Actor:
        """Whoever reaches the Unix socket."""

    async def verify_journal(self, actor: Actor, witness: str | None = None) -> Any:
        """Checkpoint, then check the whole journal, also against the file of a witness."""

    async def prove_record(self, which: str, *, personal: bool) -> Any:
        """Checkpoint, then the proof of one call or record."""

    async def erase_personal(self, actor: Actor, request: Any) -> Any:
        """Erase personal fields everywhere, and say how many records had some."""

    async def examine(self) -> Any:
        """What is weak about this installation."""

    async def events(
        self,
        *,
        key: str | None = None,
        service: str | None = None,
        code: str | None = None,
        since: float | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Any:
        """A page of calls, newest first."""

    async def follow(
        self, *, key: str | None = None, service: str | None = None, code: str | None = None
    ) -> AsyncIterator[Any]:
        """Calls from now on, until the iterator is closed."""

    async def usage(self, key: str | None = None, hours: int = 24) -> Any:
        """Calls, bytes and cost by key."""

    async def audit_list(self, limit: int = 50, cursor: str | None = None) -> Any:
        """A page of management actions, newest first."""

    def status(self) -> Any:
        """What runs here and whether it is ready."""
