"""Shapes of answers that are the door's own: pages, the end of a key, and what the desk tells about itself."""

from __future__ import annotations

from typing import Any

import msgspec

from valetkey.agreements.queries import PartnerView
from valetkey.keys.credentials import CredentialView
from valetkey.keys.tokens import TokenView
from valetkey.limits.operations import LimitsView
from valetkey.networks.operations import Network
from valetkey.parties.operations import Party
from valetkey.services.queries import ServiceView
from valetkey.vault.operations import SecretView, VersionView


class ServicePage(msgspec.Struct, frozen=True):
    """All services, by name."""

    items: list[ServiceView]
    next: str | None = None
    """Cursor of the next page, null on the last one."""


class SecretPage(msgspec.Struct, frozen=True):
    """All secrets with their newest living version. Never a value."""

    items: list[SecretView]
    next: str | None = None


class VersionPage(msgspec.Struct, frozen=True):
    """All versions of one secret, newest first. Never a value."""

    items: list[VersionView]
    next: str | None = None


class PartnerPage(msgspec.Struct, frozen=True):
    """All partners with agreements, by name."""

    items: list[PartnerView]
    next: str | None = None


class PartnerChanged(msgspec.Struct, frozen=True):
    """A partner after its agreement was changed or ended: in force everywhere when this is answered."""

    partner: PartnerView
    acknowledged: int
    """Workers that have applied it."""
    fenced: int
    """Workers that did not answer and were shut out."""
    cut: int
    """Open exchanges that were ended."""


class LimitsPage(msgspec.Struct, frozen=True):
    """All limits that several keys share."""

    items: list[LimitsView]
    next: str | None = None


class ClockAccepted(msgspec.Struct, frozen=True):
    """The clock counts as right, in every worker."""

    now: float
    """What it shows, in seconds since the epoch."""
    acknowledged: int
    """Workers that decide by it again."""
    fenced: int
    """Workers that did not answer and were shut out."""


class VaultRewrapped(msgspec.Struct, frozen=True):
    """Which root key opens the data folder now."""

    root_key: str
    """Its id, which says nothing of it."""
    former: str
    """Id of the one that no longer does."""
    file: str
    """Where the new one lies."""
    kept: str | None
    """Where the former one lies, for backups that were made under it; null where the server does not know."""


class NetworkPage(msgspec.Struct, frozen=True):
    """All named networks, by name."""

    items: list[Network]
    next: str | None = None


class PartyPage(msgspec.Struct, frozen=True):
    """All living parties, by name."""

    items: list[Party]
    next: str | None = None


class TokenPage(msgspec.Struct, frozen=True):
    """All API tokens, newest first. Never a value."""

    items: list[TokenView]
    next: str | None = None


class CredentialPage(msgspec.Struct, frozen=True):
    """All credentials of a service, newest first. Never a value."""

    items: list[CredentialView]
    next: str | None = None


class CredentialStopped(msgspec.Struct, frozen=True):
    """A service credential after it was revoked: refused everywhere when this is answered."""

    id: str
    service: str
    revoked: float | None
    """When it ended: the first time, where it was asked for more than once."""
    acknowledged: int
    """Workers that have applied it."""
    fenced: int
    """Workers that did not answer and were shut out."""


class KeyStopped(msgspec.Struct, frozen=True):
    """A key after it was suspended, resumed or revoked: in force everywhere when this is answered."""

    id: str
    state: str
    acknowledged: int
    """Workers that have applied it."""
    fenced: int
    """Workers that did not answer and were shut out."""
    cut: int
    """Open exchanges that were ended."""
    ended: float | None = None
    """When the key was revoked, if it was: the first time, where it was asked for more than once."""
    already: bool = False
    """Whether it had been revoked before this was asked."""


class UsageItem(msgspec.Struct, frozen=True):
    """What was done with one key. Without a key: calls that carried none of ours."""

    key_id: str | None
    label: str | None
    holder: str | None
    service: str | None
    calls: int
    allowed: int
    refused: int
    bytes_in: int
    bytes_out: int
    cost: int
    """In millionths of the currency's unit."""
    hours: list[int]
    """Calls of each hour of the span, oldest first."""
    codes: dict[str, int]
    """Refusals by code."""


class Sighting(msgspec.Struct, frozen=True):
    """An address that a key was used from, or a program that used it."""

    value: str
    first: float
    last: float
    calls: int


class UsagePage(msgspec.Struct, frozen=True):
    """Use by key, the most used first."""

    items: list[UsageItem]
    next: str | None = None
    start: float | None = msgspec.field(name="from", default=None)
    """Beginning of the span, seconds since the epoch."""
    addresses: list[Sighting] | None = None
    """Where calls came from; only when one key is asked for."""
    agents: list[Sighting] | None = None
    """Which programs made them; only when one key is asked for."""


class AuditItem(msgspec.Struct, frozen=True):
    """One management action."""

    id: str
    time: float
    actor: str
    action: str
    subject: str
    outcome: str
    details: dict[str, Any] = {}


class AuditPage(msgspec.Struct, frozen=True):
    """Management actions, newest first."""

    items: list[AuditItem]
    next: str | None


class JournalProblem(msgspec.Struct, frozen=True):
    """One thing that is wrong with the journal."""

    segment: str
    seq: int | None
    what: str
    """One word or two that programs rely on, such as ``changed``."""
    detail: str


class JournalVerdict(msgspec.Struct, frozen=True):
    """Whether the journal is whole and complete: ``ok``, ``broken`` or ``unproven`` each."""

    integrity: str
    completeness: str
    records: int
    segments: int
    checkpoints: int
    """Checkpoints with a good signature."""
    erased: int
    """Records whose personal fields were erased."""
    problems: list[JournalProblem]
    more_problems: int = 0
    """Problems beyond those that are listed."""
    witnessed: int = 0
    """Checkpoints that the witness holds just as they stand in the journal."""
    public_key: str = ""
    """The key that signs this journal, in hex: what others check proofs with."""


class FieldsErased(msgspec.Struct, frozen=True):
    """Personal fields are gone from every file when this is answered."""

    id: str
    party: str | None
    """Of whose calls."""
    before: float | None
    """Of calls before this instant."""
    erased: int
    """Records that had some."""
    pinned: tuple[str, ...] = ()
    """Ids of the party's living sticky keys that stay pinned to an address: unpin them, then erase again."""


class WorkerStatus(msgspec.Struct, frozen=True):
    """One gateway worker."""

    slot: int
    pid: int | None
    generation: int
    ready: bool


class Status(msgspec.Struct, frozen=True):
    """What runs here and whether it is ready."""

    version: str
    home: str
    ready: bool
    missing: list[str]
    """What is not ready, in words."""
    workers: list[WorkerStatus]
    gateway_port: int
    control_port: int
    tls: bool = False
    """Whether both ports speak TLS."""
    public_name: str | None = None
    """The first name that callers use."""
    degraded: list[str] = []
    """What does not work though calls do: records that do not fit, a witness that gets no checkpoints."""
    pid: int | None = None
    """Process of the control plane."""
    not_ready: list[str] = []
    """The same in coarse words, as `/readyz` tells everyone."""
    keys: int | None = None


class Health(msgspec.Struct, frozen=True):
    """That the process answers."""

    status: str
