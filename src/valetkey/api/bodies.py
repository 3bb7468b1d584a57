"""Bodies of requests whose subject stands in the URL: the operations' own types without that name."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from valetkey.keys.drafting import Terms


class ServiceChanges(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to change of a service; what is left out stays."""

    base_url: str | None = None
    auth: str | None = None
    hosts: dict[str, str] | None = None
    """More named upstream hosts: name -> origin."""
    allow_private: bool | None = None
    allow_plain_upstream: bool | None = None
    ca_file: str | None = None
    price: str | None = None
    """Fixed price of a call, such as ``0.01``."""
    max_body_mb: int | None = None
    """Largest body of a call, in megabytes."""


class SecretRetirement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which versions of the secret to take out of use: one, or all that live."""

    environment: str = "production"
    version: Annotated[int, Meta(ge=1, le=2_147_483_647)] | None = None


class KeyChanges(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to change of a living key; what is left out stays, an empty list takes a restriction away."""

    label: str | None = None
    expires: str | None = None
    """A span, a day, an RFC 3339 time, or ``never``."""
    terms: Terms = Terms()


class KeyValue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A plain key, to learn which it is. It is compared by its fingerprint and kept nowhere."""

    key: Annotated[str, Meta(min_length=1, max_length=1000)]

    def __repr__(self) -> str:
        return "KeyValue(***)"


class Ending(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a key stops."""

    let_finish: bool = False
    """Whether exchanges that are open may come to their end; otherwise they are cut."""


class Verification(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What else the journal is checked against."""

    witness: Annotated[str, Meta(min_length=1, max_length=4096, pattern="^/")] | None = None
    """File on the server's machine that a witness keeps; only the local owner may name one."""


class WhichRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be proven."""

    record: Annotated[str, Meta(min_length=1, max_length=100)]
    """The id of a call, of an audit entry, or ``SEGMENT:NUMBER``."""
    personal: bool = False
    """Whether address, user agent and the like are shown too, as far as they are not erased."""


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request that has none: nothing, or an empty object."""
