"""Errors that people see: each says what is wrong in one sentence and what to do in another."""

from __future__ import annotations

from collections.abc import Sequence


class ValetkeyError(Exception):
    """Base of all errors with a sentence for a person. Never carries secret material."""

    status = 400
    """HTTP status where it leaves by HTTP."""
    code = "INVALID"
    """Stable word for programs."""

    def __init__(self, sentence: str, next_step: str = "", *, field: str | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.next_step = next_step
        self.field = field
        """Which field of the request is at fault, if one is."""


class Invalid(ValetkeyError):
    """The request itself is wrong."""


class WrongUsage(Invalid):
    """A command line, or a variable of ours, that cannot be meant so."""

    code = "USAGE"


class NotFound(ValetkeyError):
    """What the request names does not exist here."""

    status = 404
    code = "NOT_FOUND"


class Conflict(ValetkeyError):
    """The request does not go with what is there already."""

    status = 409
    code = "CONFLICT"


class NotPermitted(ValetkeyError):
    """Whoever asks may not do this."""

    status = 403
    code = "NOT_PERMITTED"


class NotAuthenticated(ValetkeyError):
    """Nobody is known to be asking."""

    status = 401
    code = "NOT_AUTHENTICATED"


class Unavailable(ValetkeyError):
    """The server cannot do it right now."""

    status = 503
    code = "UNAVAILABLE"


class NotReady(Unavailable):
    """The server is not ready; `missing` says in coarse words, which anyone may read, why."""

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__(
            "The server is not ready yet.", "Try again in a moment; the details stand in: valetkey status"
        )
        self.missing = tuple(missing)
