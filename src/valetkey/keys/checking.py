"""`key check`: the question and the answer, for every door that asks it."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from valetkey.decision.limits import MAX_BYTES


class CallToCheck(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call that might be made with a key."""

    method: Annotated[str, Meta(min_length=1, max_length=40)] | None = None
    path: Annotated[str, Meta(min_length=1, max_length=8192)] | None = None
    """As endpoint patterns see it: ``/v1/models``, without the service's name."""
    address: Annotated[str, Meta(max_length=100)] | None = None
    """Address of the caller."""
    origin: Annotated[str, Meta(max_length=2048)] | None = None
    """Value of the Origin header."""
    host: Annotated[str, Meta(max_length=255)] | None = None
    """Name of the upstream host, where the service has several."""
    listener: Annotated[str, Meta(max_length=100)] | None = None
    """Address of the gateway that it calls, with a port or without."""
    bytes: Annotated[int, Meta(ge=0, le=MAX_BYTES)] = 0
    """Length of its body."""
    at: Annotated[str, Meta(max_length=64)] | None = None
    """When, as an RFC 3339 time; left out: now."""


class CheckKey(CallToCheck, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The same with the key it would be made with, as the desk is asked."""

    id: str


class CheckedKey(msgspec.Struct, frozen=True):
    """What would be answered to a call. Nothing was spent or pinned."""

    code: str
    sentence: str
    next_step: str
    endpoint: str | None = None
    """The endpoint rule that matches."""
    limit: str | None = None
    """The limit that refuses."""
    retry_after: float | None = None
    """Seconds after which the same call may pass."""
    key_id: str | None = None
