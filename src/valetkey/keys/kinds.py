"""The kinds of keys, of credentials that share their format, and what a kind gets when nothing is said.

The defaults stand in ``defaults.toml``, in the grammar of the command line, and apply flag by flag.
"""

from __future__ import annotations

import tomllib
from enum import StrEnum
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping


class KeyKind(StrEnum):
    """What a key is for; the value is what stands in commands, records and pages."""

    PUBLIC = "public"
    PRIVATE = "private"
    PARTNER = "partner"
    TEMPORARY = "temporary"

    @property
    def short(self) -> str:
        """The three letters inside a key's text."""
        return _SHORT[self]


class CredentialKind(StrEnum):
    """Credentials of Valetkey itself in the same format. They open no service and are no `KeyKind`."""

    SERVICE = "service"
    """What an own service shows to /v1/verify and /v1/authorize."""
    TOKEN = "token"  # noqa: S105 - a kind, not a token
    """What a program shows to the control API."""

    @property
    def short(self) -> str:
        """The three letters inside the credential's text."""
        return _SHORT[self]


_SHORT: dict[KeyKind | CredentialKind, str] = {
    KeyKind.PUBLIC: "pub",
    KeyKind.PRIVATE: "prv",
    KeyKind.PARTNER: "ptr",
    KeyKind.TEMPORARY: "tmp",
    CredentialKind.SERVICE: "svc",
    CredentialKind.TOKEN: "api",
}

KIND_OF_SHORT: Mapping[str, KeyKind | CredentialKind] = MappingProxyType(
    {short: kind for kind, short in _SHORT.items()}
)
"""``prv`` -> `KeyKind.PRIVATE`, for all kinds."""


class KindDefaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Defaults of one kind, as a person would write the flags. None or empty: no default."""

    rate: str | None = None
    """``--rate``, e.g. ``5/s``."""
    burst: int | None = None
    """``--burst``: calls that may come at once."""
    address_rate: str | None = None
    """Rate of one client address (IPv6: one /64), beside the key's own rate."""
    address_burst: int | None = None
    """Calls that one address may make at once."""
    concurrency: int | None = None
    """``--concurrency``: calls open at the same time."""
    quota: tuple[str, ...] = ()
    """``--quota``, e.g. ``10000/day``."""
    methods: tuple[str, ...] = ()
    """Methods that the key may use, whatever its endpoints; empty: all."""
    uses: int | None = None
    """``--uses``: calls in the key's whole life."""
    expires: str | None = None
    """``--expires``, e.g. ``1h``."""
    review: str | None = None
    """After which time somebody should look whether the key is still needed, e.g. ``90d``."""


@cache
def defaults_by_kind() -> Mapping[KeyKind, KindDefaults]:
    """All defaults, read once. A kind without an entry or an unknown name in the file is an error."""
    text = resources.files("valetkey.keys").joinpath("defaults.toml").read_text("utf-8")
    loaded = msgspec.convert(tomllib.loads(text), dict[KeyKind, KindDefaults])
    return MappingProxyType({kind: loaded[kind] for kind in KeyKind})


def defaults_of(kind: KeyKind) -> KindDefaults:
    """Defaults of `kind`."""
    return defaults_by_kind()[kind]
