"""What a worker is told: facts about services, secrets, keys, and the messages that carry them.

The control process sends a whole snapshot when a worker joins and single facts when something changes.
Plain secrets travel only here, over a Unix socket in a folder that only the owner can enter.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from valetkey.decision.limits import Limits
from valetkey.services.service import Service


class ServiceFact(msgspec.Struct, frozen=True, array_like=True, tag="service", gc=False):
    """A service as it stands now, or that it is gone."""

    id: str
    service: Service | None
    locked: bool = False


class SecretVersion(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One living version of a secret, in the clear."""

    id: str
    parts: dict[str, str]
    expires: float | None = None

    def __repr__(self) -> str:
        return f"SecretVersion(id={self.id!r}, parts=***)"

    __str__ = __repr__


class SecretFact(msgspec.Struct, frozen=True, array_like=True, tag="secret"):
    """The living versions of one secret, newest first; none when it is gone."""

    service_id: str
    environment_id: str
    name: str
    versions: tuple[SecretVersion, ...]
    retired: tuple[SecretVersion, ...] = ()
    """Taken out of use a short while ago: put in nowhere, but upstreams may still echo them."""


class NetworkFact(msgspec.Struct, frozen=True, array_like=True, tag="network"):
    """A named network."""

    name: str
    blocks: tuple[str, ...]
    listener: str | None = None
    """The address of ours that it is, instead of blocks."""


class PolicyFact(msgspec.Struct, frozen=True, array_like=True, tag="policy"):
    """A policy as its JSON document: it is parsed and compiled when a key first needs it."""

    id: str
    document: str


class PartyFact(msgspec.Struct, frozen=True, array_like=True, tag="party", gc=False):
    """A holder."""

    id: str
    name: str
    removed: bool = False


class LimitsFact(msgspec.Struct, frozen=True, array_like=True, tag="limits", gc=False):
    """Limits that the keys of a holder, of a service or of the workspace share."""

    level: str
    """``holder``, ``service`` or ``workspace``."""
    subject: str
    """Its id; empty for the workspace."""
    limits: Limits
    block: int


class AgreementFact(msgspec.Struct, frozen=True, array_like=True, tag="agreement", gc=False):
    """What was agreed with a partner."""

    id: str
    party_id: str
    policies: dict[str, str]
    """Service id -> id of the policy that its keys must stay within."""
    limits: Limits
    block: int
    begins: float | None
    ends: float
    ended: bool
    """Whether it was ended before its time."""


class ClockFact(msgspec.Struct, frozen=True, array_like=True, tag="clock", gc=False):
    """What the clock must not be far behind: the newest record's time, or what an administrator accepted since."""

    newest: float


class KeyFact(msgspec.Struct, frozen=True, array_like=True, tag="key", gc=False):
    """A key as it stands now."""

    id: str
    fingerprint: bytes
    kind: str
    service_id: str
    environment_id: str
    holder_id: str
    policy_id: str
    secret_name: str
    state: str
    expires: float | None
    block: int
    parent_id: str | None = None


class DroppedFact(msgspec.Struct, frozen=True, array_like=True, tag="dropped", gc=False):
    """A derived key that has long been dead is to be forgotten."""

    id: str


class CredentialFact(msgspec.Struct, frozen=True, array_like=True, tag="credential", gc=False):
    """A service credential that may call verify for one service; gone when `living` is False."""

    id: str
    fingerprint: bytes
    service_id: str
    living: bool = True


Fact: TypeAlias = (
    ClockFact
    | ServiceFact
    | SecretFact
    | NetworkFact
    | PolicyFact
    | PartyFact
    | LimitsFact
    | AgreementFact
    | KeyFact
    | DroppedFact
    | CredentialFact
)


# Control process -> worker


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """First message to a worker: what it needs before any fact."""

    workspace: str
    index_key: bytes
    counters: tuple[int, int]
    """Device and inode of the file that everybody counts in."""

    def __repr__(self) -> str:
        return "Welcome(***)"


class Facts(msgspec.Struct, frozen=True, tag="facts"):
    """A part of the snapshot."""

    facts: list[Fact]
    last: bool = False


class Change(msgspec.Struct, frozen=True, tag="change"):
    """Facts that changed; answered with `Acknowledged` once they are in force and what they kill is cut."""

    sequence: int
    facts: list[Fact]
    let_finish: bool = False


class Lease(msgspec.Struct, frozen=True, tag="lease"):
    """Answer to `Renew`: the worker may serve until `asked` + the lease."""

    asked: int


class Noted(msgspec.Struct, frozen=True, tag="noted"):
    """Answer to `Exposed`: it stands in the database."""

    key_id: str


class PinNoted(msgspec.Struct, frozen=True, tag="pin-noted"):
    """Answer to one of `Pinned`: it stands in the database."""

    key_id: str
    number: int


class Derived(msgspec.Struct, frozen=True, tag="derived"):
    """Answer to `Derive`: status and body for the caller. The body may hold a plain key."""

    number: int
    status: int
    body: bytes

    def __repr__(self) -> str:
        return f"Derived(number={self.number}, body=***)"


ToWorker: TypeAlias = Welcome | Facts | Change | Lease | Noted | PinNoted | Derived


# Worker -> control process


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """A worker joins."""

    slot: int
    generation: int
    pid: int
    segment: str
    """Name of the journal segment it will write, or writes: announced under a signature before it may begin."""


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The snapshot is in force and the port is open."""


class Acknowledged(msgspec.Struct, frozen=True, tag="acknowledged"):
    """A change is in force; so many open exchanges were cut for it."""

    sequence: int
    cut: int


class Renew(msgspec.Struct, frozen=True, tag="renew"):
    """Asks for a lease, counted from before it was sent (nanoseconds of CLOCK_BOOTTIME)."""

    asked: int


class Exposed(msgspec.Struct, frozen=True, tag="exposed"):
    """A key came in plain text over a network. Said again until it is `Noted`."""

    key_id: str


class Pinned(msgspec.Struct, frozen=True, tag="pinned"):
    """Sticky keys were pinned by their first calls. Each is said again until it is `PinNoted`."""

    pins: dict[str, int]
    """Key id -> number of the pin."""


class Derive(msgspec.Struct, frozen=True, tag="derive"):
    """Whoever holds a key asks for one derived from it; the worker has judged that it may."""

    number: int
    key_id: str
    call: str
    """Id of the call that asks: the new key stays only if the record shows that the call was answered."""
    body: bytes


FromWorker: TypeAlias = Hello | Ready | Acknowledged | Renew | Exposed | Pinned | Derive
