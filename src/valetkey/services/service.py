"""What a service is: an API that keys open. *Upstream* (forwarded to, with our key) or *own* (it asks us).

A `Service` exists only if valid; it is stored as JSON by msgspec and holds no secret.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

import msgspec

from valetkey.services.dialling import OwnListeners, address_allowed, addresses_allowed
from valetkey.services.origin import InvalidOrigin, Origin
from valetkey.services.placement import AnyPlacement, InvalidPlacement

__all__ = [
    "DEFAULT_CEILING",
    "RESERVED_NAMES",
    "InvalidOrigin",
    "InvalidPlacement",
    "InvalidService",
    "Kind",
    "Origin",
    "OwnListeners",
    "Service",
    "address_allowed",
    "addresses_allowed",
]

RESERVED_NAMES: Final = frozenset(("v1", "api", "healthz", "readyz", "metrics"))
"""First segments of the gateway's own URLs."""

DEFAULT_CEILING: Final = 100 * 1024 * 1024
"""Largest body of a call in bytes where nothing else is said."""

MAX_CEILING: Final = 16 * 1024**3
"""More than any vendor takes at once; a larger number is a slip of the pen."""

_NAME = re.compile(r"[a-z][a-z0-9-]{1,30}")
_HOST_NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")


class InvalidService(ValueError):
    """A service that cannot exist. The message says what is wrong and what to write."""


class Kind(StrEnum):
    """Whose API it is."""

    UPSTREAM = "upstream"
    OWN = "own"


class Service(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An API that keys open."""

    name: str
    kind: Kind = Kind.UPSTREAM
    title: str = ""
    preset: str | None = None
    """Name of the catalogue's file it was made from; endpoint names and closed endpoints come from there."""
    hosts: dict[str, Origin] = {}
    """Named upstream hosts; the first is the default. Empty for an own service."""
    placement: AnyPlacement | None = None
    """How our key is put in. None for an own service."""
    accepts: tuple[AnyPlacement, ...] = ()
    """Where a caller may put a valet key."""
    same_key_twice: bool = False
    """Whether the same key in two accepted places counts as one (some clients send both)."""
    allow_private: bool = False
    """Whether upstream addresses may be private."""
    allow_plain: bool = False
    """Whether ``http://`` is accepted beyond loopback."""
    ca_file: str | None = None
    """PEM file with the only authorities accepted; None: those of the system."""
    cookies: bool = False
    """Whether cookies pass in both directions."""
    price_micros: int | None = None
    """Fixed price of a call in millionths of the currency's unit; None: unknown, and no budget lets it through."""
    ceiling: int = DEFAULT_CEILING
    """Largest body of a call in bytes."""
    locked: bool = False
    """Whether every call is refused for now."""
    encoded_slash: bool = False
    """Whether ``%2F`` and doubled slashes may stand inside one segment of a path (S3 keys, GitLab names)."""
    pass_unreadable: bool = False
    """Whether an answer in a content coding that we cannot read is passed on unscrubbed."""
    refund_on_failure: bool = False
    """Whether a call that the upstream answered with 5xx is given back."""

    def __post_init__(self) -> None:
        check_name(self.name)
        if not 0 < self.ceiling <= MAX_CEILING:
            raise InvalidService(
                f"A body limit of {self.ceiling} bytes makes no sense; write 1 to {MAX_CEILING}."
            )
        if self.price_micros is not None and self.price_micros < 0:
            raise InvalidService("A price below zero makes no sense; write 0 or more.")
        if self.kind is Kind.OWN:
            if self.hosts or self.placement is not None:
                raise InvalidService(
                    "An own service has no upstream; leave out its hosts and how a key is put in."
                )
            return
        if not self.hosts:
            raise InvalidService("An upstream service needs a host; give --base-url or --preset.")
        if self.placement is None or not self.accepts:
            raise InvalidService("It is not said how the key is put in; give --auth or --preset.")
        for label, origin in self.hosts.items():
            if not _HOST_NAME.fullmatch(label):
                raise InvalidService(f"{label!r} is no name for a host; write lower-case letters and digits.")
            origin.check(allow_plain=self.allow_plain, allow_private=self.allow_private)

    @property
    def default_host(self) -> str:
        """Name of the host that calls go to when they name none. Raises `InvalidService` for own services."""
        for label in self.hosts:
            return label
        raise InvalidService(f"{self.name} is an own service and has no upstream; nothing can be forwarded.")

    def origin(self, host: str | None = None) -> Origin:
        """The origin of a named host, or of the default one. Raises `InvalidService` for unknown names."""
        label = self.default_host if host is None else host
        found = self.hosts.get(label)
        if found is None:
            raise InvalidService(f"{self.name} has no host {label!r}; it has {', '.join(self.hosts)}.")
        return found


def check_name(name: str) -> None:
    """Raise `InvalidService` unless `name` can be a service's."""
    if not _NAME.fullmatch(name):
        raise InvalidService(f"{name!r} is no service name; write 2 to 31 of a-z, 0-9 and -, a letter first.")
    if name in RESERVED_NAMES:
        raise InvalidService(f"{name!r} is one of the gateway's own paths; choose another name.")
