"""Faults made by hand, each in a place that a promise hangs on: see `mutations.toml`."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec


class Mutation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fault."""

    name: str
    part: str
    """decide, seal, chain, scrub, revoke, reserve or recover."""
    file: str
    """Below src/valetkey."""
    old: str
    new: str
    tests: list[str]

    def applied_to(self, text: str) -> str:
        """The file with the fault in it. Raises ValueError when the place is not there, or not the only one."""
        if text.count(self.old) != 1 or self.old == self.new:
            raise ValueError(f"{self.file} holds what {self.name!r} changes {text.count(self.old)} times.")
        return text.replace(self.old, self.new)


MUTATIONS: list[Mutation] = [
    msgspec.convert(entry, Mutation)
    for entry in tomllib.loads((Path(__file__).parent / "mutations.toml").read_text())["mutation"]
]
