"""What a worker holds of each key and service."""

from __future__ import annotations

import msgspec

from valetkey.decision.policy import CompiledKey, State
from valetkey.services.service import Service


class KeyEntry(msgspec.Struct, gc=False):
    """One key as the worker holds it. 100,000 of them stay small: no dict, no cycle collection."""

    id: str
    fingerprint: bytes
    kind: str
    service_id: str
    environment_id: str
    holder_id: str
    policy_id: str
    secret_name: str
    state: State
    expires: float
    block: int
    parent_id: str | None
    compiled: CompiledKey | None = None


class ServiceEntry(msgspec.Struct, gc=False):
    """One service as the worker holds it."""

    id: str
    service: Service
    locked: bool
    runtime: object = None
    """What the gateway compiled for it (intake, upstream); thrown away when the service changes."""
