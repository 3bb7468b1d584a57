"""Looking up what was agreed with partners."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, Row, select

from valetkey.agreements.agreement import Agreement, AgreementState, sentences, state_of, understand
from valetkey.decision.limits import Limits
from valetkey.decision.policy import Policy
from valetkey.errors import Invalid, NotFound
from valetkey.nearest import MOST_COMPARED, did_you_mean
from valetkey.store import tables


class PartnerView(msgspec.Struct, frozen=True):
    """A partner as doors show it."""

    id: str
    """Of the agreement."""
    name: str
    agreement: Agreement
    begins: float | None
    ends: float
    ended: float | None
    """When it was ended before its time, if it was."""
    state: AgreementState
    sentences: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What will surprise, after a change."""


def _select(workspace: str):  # type: ignore[no-untyped-def]
    table, parties = tables.agreements, tables.parties
    return (
        select(table, parties.c.name)
        .join(parties, parties.c.id == table.c.party_id)
        .where(table.c.workspace_id == workspace, parties.c.removed.is_(None))
        .order_by(parties.c.name)
    )


def find_row(connection: Connection, workspace: str, name: str) -> Row | None:  # type: ignore[type-arg]
    return connection.execute(_select(workspace).where(tables.parties.c.name == name)).first()


def get_row(connection: Connection, workspace: str, name: str) -> Row:  # type: ignore[type-arg]
    row = find_row(connection, workspace, name)
    if row is None:
        names = [held.name for held in connection.execute(_select(workspace).limit(MOST_COMPARED))]
        raise NotFound(
            f"There is no agreement with a partner named {name!r}.",
            f"{did_you_mean(name, names)} See: valetkey partner list".lstrip(),
        )
    return row


def _view(row: Row, now: float) -> PartnerView:  # type: ignore[type-arg]
    agreement = msgspec.json.decode(row.document, type=Agreement)
    said = sentences(agreement, understand(agreement, row.created))
    return PartnerView(row.id, row.name, agreement, row.begins, row.ends, row.ended, _state(row, now), said)


def _state(row: Row, now: float) -> AgreementState:  # type: ignore[type-arg]
    return state_of(begins=row.begins, ends=row.ends, ended=row.ended, latched=row.latched, now=now)


class Agreed(msgspec.Struct, frozen=True):
    """What an agreement says of the keys of one service."""

    policy: Policy
    limits: Limits
    ends: float
    until: str
    """The end as it was written."""

    def sentences(self) -> tuple[str, ...]:
        """What it says, in words."""
        return (f"Until {self.until}.", *self.policy.sentences(), *self.limits.sentences())


def find_agreed(connection: Connection, workspace: str, name: str, service_id: str) -> Agreed | None:
    """What keys of the party for this service are held to, whether it holds still or not; None where nothing was
    agreed of it."""
    row = find_row(connection, workspace, name)
    return None if row is None else _agreed(connection, row, service_id)


def _agreed(connection: Connection, row: Row, service_id: str) -> Agreed | None:  # type: ignore[type-arg]
    policy_id = msgspec.json.decode(row.policies, type=dict[str, str]).get(service_id)
    if policy_id is None:
        return None
    document = connection.execute(
        select(tables.policies.c.document).where(tables.policies.c.id == policy_id)
    ).scalar_one()
    return Agreed(
        msgspec.json.decode(document, type=Policy),
        msgspec.json.decode(row.limits, type=Limits),
        row.ends,
        msgspec.json.decode(row.document, type=Agreement).ends,
    )


def agreed_with(connection: Connection, workspace: str, name: str, service_id: str, wall: float) -> Agreed:
    """What keys of the partner for this service are held to.

    Raises `Invalid` where there is no agreement that names the service, or its end was reached.
    """
    row = find_row(connection, workspace, name)
    if row is None:
        raise Invalid(
            f"There is no agreement with {name}.",
            "Add it: valetkey partner add NAME --agreement FILE",
            field="holder",
        )
    if _state(row, wall) in (AgreementState.ENDED, AgreementState.EXPIRED):
        raise Invalid(
            f"The agreement with {name} has ended.", "Change it, then issue the key.", field="holder"
        )
    agreed = _agreed(connection, row, service_id)
    if agreed is None:
        raise Invalid(
            f"The agreement with {name} does not name this service.", "Add it there first.", field="service"
        )
    return agreed


def get_partner(connection: Connection, workspace: str, name: str, now: float) -> PartnerView:
    """One partner. Raises `NotFound`."""
    return _view(get_row(connection, workspace, name), now)


def list_partners(connection: Connection, workspace: str, now: float) -> list[PartnerView]:
    """All partners with agreements, ended ones too, by name."""
    return [_view(row, now) for row in connection.execute(_select(workspace)).all()]
