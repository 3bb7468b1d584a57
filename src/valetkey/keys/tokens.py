"""API tokens: how a program reaches the control API from where it is not the local owner."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, select, update

from valetkey.access.actor import Actor, ActorKind
from valetkey.access.operation import Unit, operation
from valetkey.access.sessions import token_session
from valetkey.errors import NotFound
from valetkey.journal.actions import AuditAction
from valetkey.keys.format import CredentialKind
from valetkey.keys.minting import mint_credential
from valetkey.keys.sessions import end_keys
from valetkey.labels import check_label
from valetkey.parties.operations import PartyKind, find_party, make_party
from valetkey.store import tables
from valetkey.vault.fingerprint import fingerprint


class IssueToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token for a party; a name that is not known is made as an application."""

    party: str
    label: str = ""


class TokenName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which token."""

    id: str


class IssuedToken(msgspec.Struct, frozen=True):
    """A token, shown this once."""

    id: str
    party: str
    token: str
    party_made: bool = False
    """Whether the party was not known before and was made, as an application."""

    def __repr__(self) -> str:
        return f"IssuedToken(id={self.id!r}, ***)"


class TokenView(msgspec.Struct, frozen=True):
    """A token as doors show it."""

    id: str
    party: str
    label: str
    last4: str
    created: float
    revoked: float | None


@operation(AuditAction.TOKEN_ISSUE)
def issue_token(unit: Unit, request: IssueToken) -> IssuedToken:
    """Make a token that may do everything here but make and revoke tokens."""
    check_label(request.label)
    known = find_party(unit.connection, unit.workspace, request.party)
    party = known or make_party(unit, request.party, PartyKind.APPLICATION)
    identifier, plain = mint_credential(
        unit, CredentialKind.TOKEN, id_prefix="tok", label=request.label, party_id=party.id
    )
    unit.subject = f"token:{identifier}"
    unit.details["party"] = party.name
    return IssuedToken(identifier, party.name, plain.reveal_text(), party_made=known is None)


@operation(AuditAction.TOKEN_REVOKE)
def revoke_token(unit: Unit, request: TokenName) -> TokenView:
    """End a token: it is refused from its next request on, and keys that are tied to it are dead."""
    table = tables.credentials
    unit.connection.execute(
        update(table)
        .where(table.c.workspace_id == unit.workspace, table.c.kind == "api", table.c.id == request.id)
        .where(table.c.revoked.is_(None))
        .values(revoked=unit.wall)
    )
    unit.subject = f"token:{request.id}"
    ended = end_keys(unit, token_session(request.id))
    if ended:
        unit.details["keys"] = ended
    for view in list_tokens(unit.connection, unit.workspace):
        if view.id == request.id:
            return view
    raise NotFound("There is no token with that id.", "See: valetkey token list")


def list_tokens(connection: Connection, workspace: str) -> list[TokenView]:
    """All tokens, newest first."""
    table = tables.credentials
    rows = connection.execute(
        select(table, tables.parties.c.name.label("party"))
        .join(tables.parties, tables.parties.c.id == table.c.party_id)
        .where(table.c.workspace_id == workspace, table.c.kind == "api")
        .order_by(table.c.created.desc())
    )
    return [TokenView(r.id, r.party, r.label, r.last4, r.created, r.revoked) for r in rows]


def actor_of_token(connection: Connection, workspace: str, index_key: bytes, value: bytes) -> Actor | None:
    """Who the bearer of a token is, None when it opens nothing. Asked anew at every request."""
    table = tables.credentials
    row = connection.execute(
        select(tables.parties.c.name, table.c.id)
        .join(table, tables.parties.c.id == table.c.party_id)
        .where(
            table.c.workspace_id == workspace,
            table.c.kind == "api",
            table.c.fingerprint == fingerprint(value, index_key),
            table.c.revoked.is_(None),
            tables.parties.c.removed.is_(None),
        )
    ).first()
    return None if row is None else Actor(ActorKind.TOKEN, row.name, token_session(row.id))
