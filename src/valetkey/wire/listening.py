"""What connections and the listener that has them need of each other, so that neither has to know the other's kind."""

from __future__ import annotations

from typing import Protocol

from valetkey.wire.crowd import Guest
from valetkey.wire.request import Request


class Connected(Guest, Protocol):
    """A caller's connection, whatever it speaks."""

    def let_go(self) -> None:
        """Answer what is open, and close."""

    def abort(self) -> None:
        """Reset it."""


class Listening(Protocol):
    """Whoever listens at a port."""

    date: bytes
    """The Date header of now."""
    closing: bool
    """Whether no connection goes on after its answer."""

    def handle(self, request: Request, /) -> None:
        """Answer at once, or later."""

    def note(self, error: BaseException, /) -> None:
        """`handle` let this through."""

    def enter(self, connection: Connected) -> None:
        """A connection has been made."""

    def leave(self, connection: Connected) -> None:
        """It has ended."""
