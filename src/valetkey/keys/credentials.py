"""The credential with which an own service asks: a key in the same format that opens verify and nothing else."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, select, update

from valetkey.access.operation import Unit, operation
from valetkey.errors import Invalid, NotFound
from valetkey.journal.actions import AuditAction
from valetkey.keys.format import CredentialKind
from valetkey.keys.minting import mint_credential
from valetkey.services.operations import ServiceName
from valetkey.services.queries import get_service
from valetkey.services.service import Kind
from valetkey.store import tables


class Credential(msgspec.Struct, frozen=True):
    """A service credential, shown this once."""

    id: str
    service: str
    credential: str

    def __repr__(self) -> str:
        return f"Credential(id={self.id!r}, ***)"


class CredentialName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which credential of which service."""

    service: str
    id: str


class CredentialView(msgspec.Struct, frozen=True):
    """A service credential as doors show it. Never its value."""

    id: str
    service: str
    last4: str
    created: float
    revoked: float | None


@operation(AuditAction.SERVICE_CREDENTIAL)
def make_credential(unit: Unit, request: ServiceName) -> Credential:
    """A credential for /v1/verify and /v1/authorize, shown this once."""
    stored = get_service(unit.connection, unit.workspace, request.name)
    if stored.service.kind is not Kind.OWN:
        raise Invalid(
            f"{request.name} is an upstream service: the gateway itself decides its calls.",
            "Only an own service asks; add one with: valetkey service add NAME --own",
        )
    identifier, plain = mint_credential(
        unit, CredentialKind.SERVICE, id_prefix="crd", label=request.name, service_id=stored.id
    )
    unit.subject = f"service:{request.name}"
    unit.details["credential"] = identifier
    unit.touch("credential", identifier)
    return Credential(identifier, request.name, plain.reveal_text())


@operation(AuditAction.CREDENTIAL_REVOKE)
def revoke_credential(unit: Unit, request: CredentialName) -> CredentialView:
    """End a service credential, in every worker before this returns. Twice is once. Raises `NotFound`."""
    view = get_credential(unit.connection, unit.workspace, request.service, request.id)
    if view.revoked is None:
        unit.connection.execute(
            update(tables.credentials)
            .where(tables.credentials.c.workspace_id == unit.workspace, tables.credentials.c.id == view.id)
            .values(revoked=unit.wall)
        )
        view = msgspec.structs.replace(view, revoked=unit.wall)
    unit.subject = f"credential:{view.id}"
    unit.details["service"] = view.service
    # Touched all the same: whoever asks again is answered by every worker that it is dead.
    unit.touch("credential", view.id)
    return view


def list_credentials(connection: Connection, workspace: str, service: str) -> list[CredentialView]:
    """All credentials of a service, newest first, ended ones too. Raises `NotFound` for an unknown service."""
    stored = get_service(connection, workspace, service)
    table = tables.credentials
    rows = connection.execute(
        select(table.c.id, table.c.last4, table.c.created, table.c.revoked)
        .where(table.c.workspace_id == workspace, table.c.kind == "service", table.c.service_id == stored.id)
        .order_by(table.c.created.desc(), table.c.id.desc())
    )
    return [CredentialView(r.id, service, r.last4, r.created, r.revoked) for r in rows]


def get_credential(connection: Connection, workspace: str, service: str, identifier: str) -> CredentialView:
    """One credential of a service. Raises `NotFound`."""
    for view in list_credentials(connection, workspace, service):
        if view.id == identifier:
            return view
    raise NotFound(
        f"{service} has no credential with that id.",
        f"See: valetkey service credentials {service}",
        field="id",
    )
