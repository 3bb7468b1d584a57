"""Issue keys, change them while they live, and take them back."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from sqlalchemy import Connection, insert, select, update

from valetkey.access.actor import ActorKind
from valetkey.access.operation import Unit, operation
from valetkey.decision.policy import Policy, State, compile_policy
from valetkey.decision.restrictions import Endpoints, Hosts, InvalidRestriction
from valetkey.decision.restrictions.patterns import EndpointPattern
from valetkey.durations import parse_instant, parse_span
from valetkey.errors import Conflict, Invalid
from valetkey.journal.actions import AuditAction
from valetkey.keys.drafting import Terms, change_policy, draft_policy
from valetkey.keys.format import generate
from valetkey.keys.kinds import KeyKind, defaults_of
from valetkey.keys.queries import KeyView, get_key
from valetkey.labels import check_label
from valetkey.networks.operations import list_networks
from valetkey.parties.operations import PartyKind, find_party, get_party, make_party
from valetkey.services.catalogue import compile_context
from valetkey.services.queries import StoredService, get_environment, get_service
from valetkey.services.service import Kind, Service
from valetkey.store import tables
from valetkey.store.blocks import next_block
from valetkey.vault.fingerprint import fingerprint
from valetkey.vault.keyring import INDEX, service_index
from valetkey.vault.queries import has_living_secret
from valetkey.vault.sealing import IssuedKeyContext

_encode = msgspec.json.Encoder(order="deterministic").encode


class IssueKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new key, as the flags of `key issue`."""

    service: str
    kind: KeyKind = KeyKind.PRIVATE
    holder: str | None = None
    """Name of the party; None is the caller. A name that is not known is made as an application."""
    label: str = ""
    environment: str = "production"
    secret: str = "default"  # noqa: S105 - a name
    expires: str | None = None
    terms: Terms = Terms()


class IssuedKey(msgspec.Struct, frozen=True):
    """What issuing answers: the only time the value of a key that is not public is shown."""

    id: str
    key: str | None
    kind: str
    service: str
    holder: str
    environment: str
    label: str
    last4: str
    expires: float | None
    sentences: tuple[str, ...]
    holder_made: bool = False
    """Whether the holder was not known before and was made."""
    replayed: bool = False
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"IssuedKey(id={self.id!r}, key=***)"


class ChangeKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to change of a living key; None leaves it."""

    id: str
    label: str | None = None
    expires: str | None = None
    terms: Terms = Terms()


class KeyName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which key."""

    id: str


@operation(AuditAction.KEY_ISSUE)
def issue_key(unit: Unit, request: IssueKey) -> IssuedKey:
    """Make a key. Raises `Invalid`, `NotFound` and `Conflict`."""
    if request.kind is KeyKind.PARTNER:
        raise Invalid(
            "Partner keys need an agreement, which this version cannot hold yet.",
            "Issue a private key for the partner instead.",
            field="kind",
        )
    check_label(request.label)
    stored = get_service(unit.connection, unit.workspace, request.service)
    environment_id = get_environment(unit.connection, unit.workspace, request.environment)
    policy = draft_policy(request.terms, request.kind)
    _check_names(unit, policy, stored.service)
    expires = _expiry(unit, request)
    if request.kind is KeyKind.TEMPORARY and expires is None and policy.limits.uses is None:
        raise Invalid("A temporary key must end.", "Give --expires or --uses.")
    holder, made = _holder(unit, request.holder)
    _check_unique(unit, stored, environment_id, holder.id, request)
    plain = generate("vk", request.kind, unit.random)
    value = plain.reveal()
    identifier = unit.new_id("key")
    defaults = defaults_of(request.kind)
    own = stored.service.kind is Kind.OWN
    unit.connection.execute(
        insert(tables.keys).values(
            id=identifier,
            workspace_id=unit.workspace,
            environment_id=environment_id,
            service_id=stored.id,
            kind=request.kind.value,
            fingerprint=fingerprint(value, unit.keyring.key(unit.connection, INDEX)),
            service_fingerprint=fingerprint(
                value, unit.keyring.key(unit.connection, service_index(stored.id))
            )
            if own
            else None,
            last4=plain.last4,
            label=request.label,
            holder_id=holder.id,
            policy_id=_policy_id(unit, policy),
            secret_name=request.secret,
            state=State.ACTIVE.value,
            block=next_block(unit.connection),
            created=unit.wall,
            expires=expires,
            review=None if defaults.review is None else unit.wall + parse_span(defaults.review),
            sealed=unit.keyring.seal(
                plain, IssuedKeyContext(unit.workspace, stored.id, environment_id, identifier)
            )
            if request.kind is KeyKind.PUBLIC
            else None,
        )
    )
    unit.subject = f"key:{identifier}"
    unit.details |= {
        "service": request.service,
        "kind": request.kind.value,
        "holder": holder.name,
        "policy": msgspec.to_builtins(policy),
        "expires": expires,
    }
    unit.touch("key", identifier)
    return IssuedKey(
        identifier,
        plain.reveal_text(),
        request.kind.value,
        request.service,
        holder.name,
        request.environment,
        request.label,
        plain.last4,
        expires,
        policy.sentences(),
        made,
        warnings=_warnings(unit, policy, stored, environment_id, request.secret),
    )


@operation(AuditAction.KEY_CHANGE)
def change_key(unit: Unit, request: ChangeKey) -> KeyView:
    """Change restrictions, limits, end or label; in force at the next call."""
    view = _living(unit, request.id)
    policy = change_policy(view.policy, request.terms, KeyKind(view.kind))
    stored = get_service(unit.connection, unit.workspace, view.service)
    _check_names(unit, policy, stored.service)
    values: dict[str, Any] = {"policy_id": _policy_id(unit, policy)}
    if request.label is not None:
        values["label"] = check_label(request.label)
    if request.expires is not None:
        values["expires"] = None if request.expires == "never" else parse_instant(request.expires, unit.wall)
        values["ended"] = None
    endless = values.get("expires", view.expires) is None and policy.limits.uses is None
    if view.kind == KeyKind.TEMPORARY and endless:
        raise Invalid("A temporary key must end.", "Keep its --uses, or give it an --expires.")
    unit.connection.execute(update(tables.keys).where(tables.keys.c.id == request.id).values(**values))
    unit.subject = f"key:{request.id}"
    unit.details |= {
        "before": msgspec.to_builtins(view.policy),
        "after": msgspec.to_builtins(policy),
        **{name: value for name, value in values.items() if name in ("label", "expires")},
    }
    unit.touch("key", request.id)
    unit.counted_anew = policy.limits != view.policy.limits
    return get_key(unit.connection, unit.workspace, request.id)


@operation(AuditAction.KEY_SUSPEND)
def suspend_key(unit: Unit, request: KeyName) -> KeyView:
    """Stop a key for now. Its open exchanges are cut. Twice is once."""
    return _set_state(unit, _living(unit, request.id), State.SUSPENDED)


@operation(AuditAction.KEY_RESUME)
def resume_key(unit: Unit, request: KeyName) -> KeyView:
    """Let a suspended key work again."""
    return _set_state(unit, _living(unit, request.id), State.ACTIVE)


@operation(AuditAction.KEY_REVOKE)
def revoke_key(unit: Unit, request: KeyName) -> KeyView:
    """End a key for ever. Revoking a revoked key changes nothing and succeeds."""
    view = get_key(unit.connection, unit.workspace, request.id)
    if view.state == State.REVOKED:
        unit.subject = f"key:{request.id}"
        unit.details["already"] = True
        # Touched all the same: whoever asks again is answered by every worker that it is dead.
        unit.touch("key", request.id)
        return view
    return _set_state(unit, view, State.REVOKED)


@operation(AuditAction.KEY_SHOW)
def show_key_value(unit: Unit, request: KeyName) -> IssuedKey:
    """Show a public key's value again. Raises `Invalid` for kinds that are shown once."""
    view = get_key(unit.connection, unit.workspace, request.id)
    row = unit.connection.execute(
        select(tables.keys.c.sealed, tables.keys.c.service_id, tables.keys.c.environment_id).where(
            tables.keys.c.id == request.id
        )
    ).one()
    if row.sealed is None:
        raise Invalid(
            f"The value of a {view.kind} key was shown once, when it was issued, and is not kept.",
            "Issue a new key and revoke this one.",
        )
    plain = unit.keyring.open_sealed(
        row.sealed, IssuedKeyContext(unit.workspace, row.service_id, row.environment_id, request.id)
    )
    unit.subject = f"key:{request.id}"
    return IssuedKey(
        view.id, plain.reveal_text(), view.kind, view.service, view.holder, view.environment, view.label,
        view.last4, view.expires, view.sentences,
    )  # fmt: skip


@operation(AuditAction.KEY_EXPOSE)
def expose_key(unit: Unit, request: KeyName) -> KeyView:
    """Note that others may have read a key. It goes on working: whoever gave it out decides. Twice is once."""
    view = get_key(unit.connection, unit.workspace, request.id)
    exposed = view.exposed if view.exposed is not None else unit.wall
    unit.connection.execute(update(tables.keys).where(tables.keys.c.id == request.id).values(exposed=exposed))
    unit.subject = f"key:{request.id}"
    unit.details |= {"service": view.service, "holder": view.holder, "cause": "sent in plain text"}
    return msgspec.structs.replace(view, exposed=exposed)


def latch_expired(connection: Connection, workspace: str, wall: float) -> list[str]:
    """Note for good that keys have expired, so that a clock set back revives none; return their ids."""
    keys = tables.keys
    expired = keys.c.workspace_id == workspace, keys.c.ended.is_(None), keys.c.expires <= wall
    found = connection.execute(select(keys.c.id).where(*expired).limit(1_000)).scalars().all()
    if found:
        connection.execute(update(keys).where(keys.c.id.in_(found)).values(ended=wall))
    return list(found)


def _living(unit: Unit, key_id: str) -> KeyView:
    view = get_key(unit.connection, unit.workspace, key_id)
    if view.state == State.REVOKED:
        raise Conflict("This key was revoked, and that is for ever.", "Issue a new one.")
    return view


def _set_state(unit: Unit, view: KeyView, state: State) -> KeyView:
    values: dict[str, Any] = {"state": state.value}
    if state is State.REVOKED:
        values["ended"] = unit.wall
    unit.connection.execute(update(tables.keys).where(tables.keys.c.id == view.id).values(**values))
    unit.subject = f"key:{view.id}"
    unit.details |= {"service": view.service, "holder": view.holder, "before": view.state}
    unit.touch("key", view.id)
    return msgspec.structs.replace(view, state=state.value, ended=values.get("ended", view.ended))


def _expiry(unit: Unit, request: IssueKey) -> float | None:
    text = request.expires
    if text is None and request.terms.uses is None:
        # A temporary key that ends by uses needs no time; one that says nothing gets the default of both.
        text = defaults_of(request.kind).expires
    return None if text is None else parse_instant(text, unit.wall)


def _holder(unit: Unit, name: str | None):  # type: ignore[no-untyped-def]
    if name is not None:
        found = find_party(unit.connection, unit.workspace, name)
        if found is not None:
            return found, False
        return make_party(unit, name, PartyKind.APPLICATION), True
    own = unit.actor.name
    found = find_party(unit.connection, unit.workspace, own)
    if found is None:
        if unit.actor.kind is not ActorKind.LOCAL_OWNER:
            return get_party(unit.connection, unit.workspace, own), False
        found = make_party(unit, own, PartyKind.PERSON)
    return found, False


def _check_unique(
    unit: Unit, stored: StoredService, environment_id: str, holder_id: str, request: IssueKey
) -> None:
    keys = tables.keys
    twin = unit.connection.execute(
        select(keys.c.id)
        .where(
            keys.c.service_id == stored.id,
            keys.c.holder_id == holder_id,
            keys.c.environment_id == environment_id,
            keys.c.label == request.label,
            keys.c.state != State.REVOKED.value,
            (keys.c.expires.is_(None)) | (keys.c.expires > unit.wall),
        )
        .limit(1)
    ).scalar()
    if twin is not None:
        raise Conflict(
            f"This holder has a living key for {request.service} already ({twin}).",
            "Give --label to issue another beside it, or revoke that one first.",
            field="label",
        )


def _check_names(unit: Unit, policy: Policy, service: Service) -> None:
    """Names in restrictions must mean something now; later changes of what they name are followed live."""
    networks = {network.name: network.blocks for network in list_networks(unit.connection, unit.workspace)}
    try:
        compile_policy(policy, compile_context(service, networks))
    except InvalidRestriction as error:
        sentence, _, next_step = str(error).partition(". ")
        raise Invalid(sentence.rstrip(".") + ".", next_step) from None
    hosts = policy.find(Hosts)
    known = ", ".join(service.hosts) or "none"
    for name in hosts.allow if isinstance(hosts, Hosts) else ():
        if name not in service.hosts:
            raise Invalid(f"{service.name} has no host {name!r}.", f"It has: {known}.", field="hosts")
    for pattern in _patterns(policy):
        if pattern.host is not None and pattern.host not in service.hosts:
            raise Invalid(
                f"{pattern.text!r} begins with a host that {service.name} does not have.",
                f"Begin the path with a slash, or name one of its hosts: {known}.",
                field="endpoints",
            )


def _patterns(policy: Policy) -> list[EndpointPattern]:
    """The endpoint patterns that a policy spells out; names of the catalogue are left to the compiler."""
    endpoints = policy.find(Endpoints)
    if not isinstance(endpoints, Endpoints):
        return []
    return [EndpointPattern(text) for text in (*endpoints.allow, *endpoints.deny) if "/" in text]


def _warnings(
    unit: Unit, policy: Policy, stored: StoredService, environment_id: str, secret: str
) -> tuple[str, ...]:
    """What will surprise: said at issue, so that no caller finds out first."""
    service = stored.service
    said = []
    if service.kind is not Kind.OWN and not has_living_secret(
        unit.connection, stored.id, environment_id, secret, unit.wall
    ):
        name = service.name if secret == "default" else f"{service.name}/{secret}"  # noqa: S105
        said.append(f"{name} has no secret yet, so calls are refused. Set it: valetkey secret set {name}")
    if policy.limits.budgets and service.price_micros is None and service.kind is not Kind.OWN:
        said.append(
            f"{service.name} has no price, so a budget refuses every call. "
            f"Set one: valetkey service change {service.name} --price 0.01"
        )
    if any(pattern.segments[:1] == (service.name,) for pattern in _patterns(policy)):
        said.append(f"Endpoints are written without the service's name: /v1/…, not /{service.name}/v1/…")
    return tuple(said)


def _policy_id(unit: Unit, policy: Policy) -> str:
    document = _encode(policy)
    digest = hashlib.sha256(document).digest()
    table = tables.policies
    found = unit.connection.execute(
        select(table.c.id).where(table.c.workspace_id == unit.workspace, table.c.digest == digest)
    ).scalar()
    if found is not None:
        return str(found)
    identifier = unit.new_id("pol")
    unit.connection.execute(
        insert(table).values(
            id=identifier, workspace_id=unit.workspace, digest=digest, document=document.decode()
        )
    )
    unit.touch("policy", identifier)
    return identifier


__all__ = ["ChangeKey", "InvalidRestriction", "IssueKey", "IssuedKey", "KeyName", "issue_key", "revoke_key"]
