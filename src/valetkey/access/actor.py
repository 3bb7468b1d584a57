"""Who asks. The local owner is one kind of identity among those to come."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class ActorKind(StrEnum):
    """How the one who asks was recognised."""

    LOCAL_OWNER = "local-owner"
    """The operating-system user who owns the data folder, through the Unix socket."""
    TOKEN = "token"  # noqa: S105 - a kind, not a token
    """The holder of an API token."""
    KEY = "key"
    """Whoever holds a key, by a call with it. The name is the key's id."""
    SYSTEM = "system"
    """Valetkey itself, for what it does on its own."""


class Actor(msgspec.Struct, frozen=True):
    """One who asks, as the audit names them."""

    kind: ActorKind
    name: str
    """The party it stands for: operating-system user, token's party, or ``valetkey``."""
    session: str | None = None
    """What ends when the one who asks signs out, as keys are tied to it: of a token, the token."""

    @property
    def label(self) -> str:
        return f"{self.kind}:{self.name}"


SYSTEM = Actor(ActorKind.SYSTEM, "valetkey")
