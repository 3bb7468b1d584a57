"""The credential with which an own service asks: a key in the same format that opens verify and nothing else."""

from __future__ import annotations

import msgspec
from sqlalchemy import insert

from valetkey.access.operation import Unit, operation
from valetkey.errors import Invalid
from valetkey.journal.actions import AuditAction
from valetkey.keys.format import CredentialKind, generate
from valetkey.services.operations import ServiceName
from valetkey.services.queries import get_service
from valetkey.services.service import Kind
from valetkey.store import tables
from valetkey.vault.fingerprint import fingerprint
from valetkey.vault.keyring import INDEX


class Credential(msgspec.Struct, frozen=True):
    """A service credential, shown this once."""

    id: str
    service: str
    credential: str

    def __repr__(self) -> str:
        return f"Credential(id={self.id!r}, ***)"


@operation(AuditAction.SERVICE_CREDENTIAL)
def make_credential(unit: Unit, request: ServiceName) -> Credential:
    """A credential for /v1/verify and /v1/authorize, shown this once."""
    stored = get_service(unit.connection, unit.workspace, request.name)
    if stored.service.kind is not Kind.OWN:
        raise Invalid(
            f"{request.name} is an upstream service: the gateway itself decides its calls.",
            "Only an own service asks; add one with: valetkey service add NAME --own",
        )
    plain = generate("vk", CredentialKind.SERVICE, unit.random)
    identifier = unit.new_id("crd")
    unit.connection.execute(
        insert(tables.credentials).values(
            id=identifier,
            workspace_id=unit.workspace,
            kind="service",
            service_id=stored.id,
            fingerprint=fingerprint(plain.reveal(), unit.keyring.key(unit.connection, INDEX)),
            last4=plain.last4,
            label=request.name,
            created=unit.wall,
        )
    )
    unit.subject = f"service:{request.name}"
    unit.details["credential"] = identifier
    unit.touch("credential", identifier)
    return Credential(identifier, request.name, plain.reveal_text())
