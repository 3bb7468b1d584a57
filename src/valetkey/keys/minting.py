"""Makes a credential that opens a door of ours: its value, and its row without the value."""

from __future__ import annotations

from sqlalchemy import insert

from valetkey.access.operation import Unit
from valetkey.keys.format import CredentialKind, PlainKey, generate
from valetkey.store import tables
from valetkey.vault.fingerprint import fingerprint
from valetkey.vault.keyring import INDEX

_ROW_KINDS = {CredentialKind.SERVICE: "service", CredentialKind.TOKEN: "api"}


def mint_credential(
    unit: Unit,
    kind: CredentialKind,
    *,
    id_prefix: str,
    label: str,
    party_id: str | None = None,
    service_id: str | None = None,
) -> tuple[str, PlainKey]:
    """Make a credential of a party or of a service; returns its id and its value, which is kept nowhere."""
    plain = generate("vk", kind, unit.random)
    identifier = unit.new_id(id_prefix)
    unit.connection.execute(
        insert(tables.credentials).values(
            id=identifier,
            workspace_id=unit.workspace,
            kind=_ROW_KINDS[kind],
            party_id=party_id,
            service_id=service_id,
            fingerprint=fingerprint(plain.reveal(), unit.keyring.key(unit.connection, INDEX)),
            last4=plain.last4,
            label=label,
            created=unit.wall,
        )
    )
    return identifier, plain
