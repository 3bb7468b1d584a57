"""The shape every restriction has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, TypeAlias

import msgspec

from valetkey.decision.call import Call
from valetkey.decision.codes import Code

Judge: TypeAlias = Callable[[Call, float], bool]
"""``judge(call, wall)`` is True when the call may pass; `wall` is seconds since the epoch."""


class InvalidRestriction(ValueError):
    """A restriction that cannot exist. The message says what is wrong, where, and what to write instead."""


class CompileContext(msgspec.Struct, frozen=True):
    """What a restriction needs to know of the world when it is compiled."""

    networks: Mapping[str, tuple[str, ...]] = {}
    """Named networks: name -> CIDR blocks."""
    listeners: Mapping[str, str] = {}
    """Named networks that are whoever calls at an address of ours: name -> that address, as it is written."""
    endpoints: Mapping[str, tuple[str, ...]] = {}
    """Names of the service's catalogue -> patterns such as ``POST /v1/chat/completions``."""
    wide: tuple[str, ...] = ()
    """Patterns of endpoints that carry calls inside calls or answer with credentials: no wildcard opens them."""
    encoded_slash: bool = False
    """Whether the service lets ``%2F`` stand inside one segment."""


class Restriction(msgspec.Struct, frozen=True, tag_field="type"):
    """Base of all restrictions."""

    code: ClassVar[Code]
    """What a call gets when this restriction refuses it."""
    options: ClassVar[tuple[str, ...]]
    """Command-line options that make it."""

    def compile(self, context: CompileContext) -> Judge:
        """Return the judge of this restriction. Raises `InvalidRestriction` for names that do not exist."""
        raise NotImplementedError

    def sentence(self) -> str:
        """The restriction in words: ``Only from 203.0.113.0/24``."""
        raise NotImplementedError
