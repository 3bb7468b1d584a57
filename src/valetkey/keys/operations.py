"""Issue keys, change them while they live, and take them back."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, select, update

from valetkey.access.operation import Unit, operation
from valetkey.agreements.narrower import Above, narrower
from valetkey.agreements.queries import agreed_with
from valetkey.decision.policy import Policy, State
from valetkey.decision.restrictions import Sticky
from valetkey.durations import parse_instant
from valetkey.errors import Conflict, Invalid
from valetkey.journal.actions import AuditAction
from valetkey.keys.drafting import Terms, change_policy, draft_policy
from valetkey.keys.kinds import KeyKind
from valetkey.keys.making import IssuedKey, asked_end, ends_earlier, holder_named, make_key
from valetkey.keys.queries import KeyView, get_key
from valetkey.keys.sessions import SessionProcess, tied_session
from valetkey.labels import check_label
from valetkey.services.policies import check_names, policy_id
from valetkey.services.queries import StoredService, get_environment, get_service
from valetkey.store import tables
from valetkey.store.standing import still_living
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
    with_session: bool = False
    """Whether a temporary key ends with the session that asks for it: the token, or a process of the machine."""
    session_process: SessionProcess | None = None
    """Of whoever owns the data folder: the process that is the session."""


class ChangeKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to change of a living key; None leaves it."""

    id: str
    label: str | None = None
    expires: str | None = None
    terms: Terms = Terms()


class KeyName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which key."""

    id: str


class PinKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which key, and to what."""

    id: str
    place: str
    """An IPv4 address or an IPv6 /64."""


@operation(AuditAction.KEY_ISSUE)
def issue_key(unit: Unit, request: IssueKey) -> IssuedKey:
    """Make a key. Raises `Invalid`, `NotFound` and `Conflict`."""
    check_label(request.label)
    stored = get_service(unit.connection, unit.workspace, request.service)
    environment_id = get_environment(unit.connection, unit.workspace, request.environment)
    expires = asked_end(unit, request.kind, request.expires, request.terms)
    agreed = None
    if request.kind is KeyKind.PARTNER:
        if request.holder is None:
            raise Invalid("A partner key belongs to a partner.", "Name it: --holder PARTNER", field="holder")
        agreed = agreed_with(unit.connection, unit.workspace, request.holder, stored.id, unit.wall)
        expires = agreed.ends if expires is None else min(expires, agreed.ends)
    policy = draft_policy(request.terms, request.kind, None if agreed is None else agreed.limits)
    context = check_names(unit, policy, stored.service)
    if request.kind is KeyKind.TEMPORARY and expires is None and policy.limits.uses is None:
        raise Invalid("A temporary key must end.", "Give --expires or --uses.")
    session = tied_session(
        unit, request.kind, with_session=request.with_session, process=request.session_process
    )
    holder, made = holder_named(unit, request.holder)
    _check_unique(unit, stored, environment_id, holder.id, request)
    issued = make_key(
        unit,
        stored,
        kind=request.kind,
        environment=request.environment,
        holder=holder,
        holder_made=made,
        policy=policy,
        secret=request.secret,
        label=request.label,
        expires=expires,
        session=session,
    )
    if agreed is None:
        return issued
    above = Above(f"The agreement with {holder.name}", agreed.policy, agreed.limits)
    earlier = ends_earlier(unit, request.expires, expires, "the agreement")
    return msgspec.structs.replace(
        issued, warnings=(*issued.warnings, *earlier, *narrower(policy, above, context))
    )


@operation(AuditAction.KEY_CHANGE)
def change_key(unit: Unit, request: ChangeKey) -> KeyView:
    """Change restrictions, limits, end or label; in force at the next call."""
    view = _living(unit, request.id)
    policy = change_policy(view.policy, request.terms, KeyKind(view.kind))
    stored = get_service(unit.connection, unit.workspace, view.service)
    check_names(unit, policy, stored.service)
    values: dict[str, Any] = {"policy_id": policy_id(unit, policy)}
    values |= _change_sticky(unit, view, policy)
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
    block = unit.connection.execute(
        select(tables.keys.c.block).where(tables.keys.c.id == request.id)
    ).scalar_one()
    unit.count("key", request.id, block, view.policy.limits, policy.limits)
    return get_key(unit.connection, unit.workspace, request.id, unit.wall)


@operation(AuditAction.KEY_SUSPEND)
def suspend_key(unit: Unit, request: KeyName) -> KeyView:
    """Stop a key for now. Its open exchanges are cut. Twice is once."""
    return _set_state(unit, _living(unit, request.id), State.SUSPENDED)


@operation(AuditAction.KEY_RESUME)
def resume_key(unit: Unit, request: KeyName) -> KeyView:
    """Let a suspended key work again."""
    return _set_state(unit, _living(unit, request.id), State.ACTIVE)


@operation(AuditAction.KEY_UNPIN)
def unpin_key(unit: Unit, request: KeyName) -> KeyView:
    """Let the next call pin a sticky key anew, from wherever it comes. Twice is once."""
    view = _living(unit, request.id)
    if view.policy.find(Sticky) is None:
        raise Conflict(
            "This key is pinned to no address: it is not sticky.",
            f"Make it so: valetkey key change {request.id} --sticky",
        )
    unit.connection.execute(update(tables.keys).where(tables.keys.c.id == request.id).values(pinned=""))
    unit.unpin(_block(unit, request.id))
    unit.subject = f"key:{request.id}"
    unit.details |= {"service": view.service, "holder": view.holder}
    return msgspec.structs.replace(view, pinned=None)


@operation(AuditAction.KEY_PIN)
def pin_key(unit: Unit, request: PinKey) -> KeyView:
    """Note what a key's first call pinned it to. The audit names no address: those can be erased."""
    view = get_key(unit.connection, unit.workspace, request.id)
    unit.connection.execute(
        update(tables.keys).where(tables.keys.c.id == request.id).values(pinned=request.place)
    )
    unit.subject = f"key:{request.id}"
    unit.details |= {"service": view.service, "holder": view.holder}
    return msgspec.structs.replace(view, pinned=request.place)


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


def _change_sticky(unit: Unit, view: KeyView, policy: Policy) -> dict[str, Any]:
    before, after = (one.find(Sticky) is not None for one in (view.policy, policy))
    if before == after:
        return {}
    if before:
        unit.unpin(_block(unit, view.id))
    return {"pinned": "" if after else None}


def _block(unit: Unit, key_id: str) -> int | None:
    chosen = select(tables.keys.c.block).where(tables.keys.c.id == key_id)
    block: int | None = unit.connection.execute(chosen).scalar_one()
    return block


def _living(unit: Unit, key_id: str) -> KeyView:
    view = get_key(unit.connection, unit.workspace, key_id)
    if view.state == State.REVOKED:
        raise Conflict("This key was revoked, and that is for ever.", "Issue a new one.")
    if view.dropped is not None:
        raise Conflict("This derived key ended long ago, and that is for ever.", "Derive a new one.")
    return view


def _set_state(unit: Unit, view: KeyView, state: State) -> KeyView:
    values: dict[str, Any] = {"state": state.value}
    if state is State.REVOKED:
        values["ended"] = unit.wall
        values["session_id"] = None  # so that whoever looks back sees that no session's end did it
        if view.policy.find(Sticky) is not None:
            # It is never asked again, and an address is nothing to keep for nothing.
            values["pinned"] = None
            unit.unpin(_block(unit, view.id))
    unit.connection.execute(update(tables.keys).where(tables.keys.c.id == view.id).values(**values))
    unit.subject = f"key:{view.id}"
    unit.details |= {"service": view.service, "holder": view.holder, "before": view.state}
    unit.touch("key", view.id)
    pinned = values.get("pinned", view.pinned)
    return msgspec.structs.replace(
        view, state=state.value, ended=values.get("ended", view.ended), pinned=pinned
    )


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
            keys.c.parent_id.is_(None),
            *still_living(unit.wall),
        )
        .limit(1)
    ).scalar()
    if twin is not None:
        raise Conflict(
            f"This holder has a living key for {request.service} already ({twin}).",
            "Give --label to issue another beside it, or revoke that one first.",
            field="label",
        )
