"""What running a command leaves behind, for the tests of the command line."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Result(NamedTuple):
    """Exit code, standard output, standard error."""

    code: int
    out: str
    err: str


class Run(Protocol):
    """Runs one command in this process."""

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Result: ...
