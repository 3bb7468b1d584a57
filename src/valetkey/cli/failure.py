"""How a command ends: exit codes that scripts rely on, and the one error that commands raise."""

from __future__ import annotations

from enum import IntEnum

from valetkey.errors import NotAuthenticated, NotPermitted, ValetkeyError, WrongUsage


class ExitCode(IntEnum):
    """What the shell sees."""

    DONE = 0
    FAILED = 1
    """Refused or failed."""
    USAGE = 2
    NO_SERVER = 3
    NOT_PERMITTED = 4
    INTERRUPTED = 130


def exit_code_of(error: ValetkeyError) -> ExitCode:
    """How a command ends that this error ended."""
    if isinstance(error, WrongUsage):
        return ExitCode.USAGE
    return ExitCode.NOT_PERMITTED if isinstance(error, (NotPermitted, NotAuthenticated)) else ExitCode.FAILED


class Failure(Exception):
    """A command cannot do what was asked: one sentence what, one sentence what to do. Never holds a secret."""

    def __init__(
        self,
        sentence: str,
        next_step: str = "",
        exit_code: ExitCode = ExitCode.FAILED,
        code: str | None = None,
    ) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.next_step = next_step
        self.exit_code = exit_code
        self.code = code or exit_code.name
        """Stable word for programs: the server's own, or the name of the exit code."""


class NoServer(Failure):
    """Nobody answers where the server should be."""

    def __init__(self, sentence: str, next_step: str) -> None:
        super().__init__(sentence, next_step, ExitCode.NO_SERVER)
