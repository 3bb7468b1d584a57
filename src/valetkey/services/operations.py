"""Add, change, lock and remove services."""

from __future__ import annotations

from decimal import Decimal

import msgspec
from sqlalchemy import insert, select, update

from valetkey.access.actor import ActorKind
from valetkey.access.operation import Unit, operation
from valetkey.decision.limits import Limits
from valetkey.errors import Conflict, Invalid, NotPermitted
from valetkey.journal.actions import AuditAction
from valetkey.services.catalogue import UnknownPreset, custom_service, load_preset
from valetkey.services.origin import InvalidOrigin, Origin
from valetkey.services.placement import InvalidPlacement, parse_auth
from valetkey.services.queries import ServiceView, StoredService, auth_text, get_service, view_of
from valetkey.services.service import MAX_CEILING, InvalidService, Kind, Service
from valetkey.services.trust import trusting
from valetkey.store import tables
from valetkey.store.blocks import next_block

_DESTINATION = frozenset(("base_url", "hosts", "auth", "allow_private", "allow_plain_upstream", "ca_file"))
"""What decides who receives the real key: a stolen token must not be able to send it elsewhere."""
MAX_PRICE_MICROS = 10**12
"""A million a call: beyond it is a slip of the pen."""
_MAX_BODY_MB = MAX_CEILING // 1_000_000


class AddService(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new service: of a preset, of a base URL with a way to put the key in, or one's own."""

    name: str
    preset: str | None = None
    own: bool = False
    base_url: str | None = None
    auth: str | None = None
    hosts: dict[str, str] = {}
    """More named upstream hosts: name -> origin."""
    allow_private: bool = False
    allow_plain_upstream: bool = False
    ca_file: str | None = None
    price: str | None = None
    """Fixed price of a call, such as ``0.01``."""
    max_body_mb: int | None = None
    """Largest body of a call, in megabytes; none: what the preset says, or 104."""


class ChangeService(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to change; None leaves it."""

    name: str
    base_url: str | None = None
    auth: str | None = None
    hosts: dict[str, str] | None = None
    allow_private: bool | None = None
    allow_plain_upstream: bool | None = None
    ca_file: str | None = None
    price: str | None = None
    max_body_mb: int | None = None


class ServiceName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which service."""

    name: str


@operation(AuditAction.SERVICE_ADD)
def add_service(unit: Unit, request: AddService) -> ServiceView:
    """Add a service. Raises `Invalid` and `Conflict`."""
    service = _build(request)
    table = tables.services
    taken = unit.connection.execute(
        select(table.c.id).where(
            table.c.workspace_id == unit.workspace, table.c.name == service.name, table.c.removed.is_(None)
        )
    ).first()
    if taken is not None:
        raise Conflict(
            f"There is a service named {service.name!r} already.",
            f"See: valetkey service show {service.name}",
            field="name",
        )
    stored = StoredService(unit.new_id("svc"), service, False, next_block(unit.connection), unit.wall)
    unit.connection.execute(
        insert(table).values(
            id=stored.id,
            workspace_id=unit.workspace,
            name=service.name,
            definition=msgspec.json.encode(service).decode(),
            locked=0,
            block=stored.block,
            created=unit.wall,
        )
    )
    if service.kind is Kind.OWN:
        unit.keyring.add_service_index(unit.connection, stored.id)
    unit.subject = f"service:{service.name}"
    unit.details |= {
        "kind": service.kind.value,
        "preset": service.preset,
        "hosts": list(view_of(stored).hosts.values()),
    }
    unit.touch("service", stored.id)
    return msgspec.structs.replace(view_of(stored), notes=_left_behind(unit, service.name))


@operation(AuditAction.SERVICE_CHANGE)
def change_service(unit: Unit, request: ChangeService) -> ServiceView:
    """Change a service in place; it is in force at the next call."""
    stored = get_service(unit.connection, unit.workspace, request.name)
    old = stored.service
    given = {
        name: value for name in request.__struct_fields__ if (value := getattr(request, name)) is not None
    }
    if unit.actor.kind is ActorKind.TOKEN and set(given) & _DESTINATION:
        raise NotPermitted(
            "An API token cannot change where a service's real key is sent.",
            "Do it on the machine itself, as the owner of the data folder.",
        )
    if old.kind is Kind.OWN and set(given) - {"name", "price"}:
        raise Invalid("An own service has no upstream.", "Only its price can be changed.")
    hosts = dict(view_of(stored).hosts)
    own_url = hosts.pop(old.default_host) if hosts else None
    base_url = request.base_url or own_url
    made = _build(
        AddService(
            name=old.name,
            preset=old.preset,
            own=old.kind is Kind.OWN,
            base_url=base_url,
            auth=request.auth or (None if old.preset or old.placement is None else auth_text(old.placement)),
            hosts=hosts if request.hosts is None else request.hosts,
            allow_private=old.allow_private if request.allow_private is None else request.allow_private,
            allow_plain_upstream=old.allow_plain
            if request.allow_plain_upstream is None
            else request.allow_plain_upstream,
            ca_file=request.ca_file or old.ca_file,
            price=request.price or view_of(stored).price,
            max_body_mb=request.max_body_mb,
        )
    )
    if request.max_body_mb is None:
        made = msgspec.structs.replace(made, ceiling=old.ceiling)
    unit.connection.execute(
        update(tables.services)
        .where(tables.services.c.id == stored.id)
        .values(definition=msgspec.json.encode(made).decode())
    )
    unit.subject = f"service:{made.name}"
    unit.details |= {name: value for name, value in given.items() if name != "name"}
    unit.touch("service", stored.id)
    return view_of(StoredService(stored.id, made, stored.locked, stored.block, stored.created))


@operation(AuditAction.SERVICE_LOCK)
def lock_service(unit: Unit, request: ServiceName) -> ServiceView:
    """Refuse every call of the service, with any key, until it is unlocked. Open exchanges are cut."""
    return _set_locked(unit, request.name, True)


@operation(AuditAction.SERVICE_UNLOCK)
def unlock_service(unit: Unit, request: ServiceName) -> ServiceView:
    """Let calls through again."""
    return _set_locked(unit, request.name, False)


@operation(AuditAction.SERVICE_REMOVE)
def remove_service(unit: Unit, request: ServiceName) -> ServiceView:
    """Take a service away. Its living keys must be revoked first. Raises `Conflict`."""
    stored = get_service(unit.connection, unit.workspace, request.name)
    living = unit.connection.execute(
        select(tables.keys.c.id)
        .where(tables.keys.c.service_id == stored.id, tables.keys.c.state != "revoked")
        .limit(1)
    ).first()
    if living is not None:
        raise Conflict(
            f"{request.name} still has keys that are not revoked.",
            f"Revoke them first; see: valetkey key list --service {request.name}",
        )
    unit.connection.execute(
        update(tables.services).where(tables.services.c.id == stored.id).values(removed=unit.wall)
    )
    secrets = select(tables.secrets.c.id).where(tables.secrets.c.service_id == stored.id)
    unit.connection.execute(
        update(tables.secret_versions)
        .where(tables.secret_versions.c.secret_id.in_(secrets), tables.secret_versions.c.retired.is_(None))
        .values(retired=unit.wall)
    )
    for secret_id in unit.connection.execute(secrets).scalars():
        unit.touch("secret", secret_id)
    unit.subject = f"service:{request.name}"
    unit.touch("service", stored.id)
    limits = _shared_limits(unit, [stored.id])
    notes = () if limits is None else (f"Its shared limit is gone with it: {' '.join(limits.sentences())}",)
    return msgspec.structs.replace(view_of(stored), notes=notes)


def _left_behind(unit: Unit, name: str) -> tuple[str, ...]:
    """What stood at removed services of that name and does not stand at the new one, as sentences."""
    table, agreements, parties = tables.services, tables.agreements, tables.parties
    removed = list(
        unit.connection.execute(
            select(table.c.id)
            .where(table.c.workspace_id == unit.workspace, table.c.name == name, table.c.removed.is_not(None))
            .order_by(table.c.removed.desc())
        ).scalars()
    )
    if not removed:
        return ()
    said = []
    limits = _shared_limits(unit, removed)
    if limits is not None:
        said.append(
            f"The service of that name that was removed had a shared limit; this one has none: "
            f"{' '.join(limits.sentences())} Set it: valetkey limit change --service {name}"
        )
    for partner, policies in unit.connection.execute(
        select(parties.c.name, agreements.c.policies)
        .join(parties, parties.c.id == agreements.c.party_id)
        .where(agreements.c.workspace_id == unit.workspace)
        .order_by(parties.c.name)
    ):
        if any(identifier in msgspec.json.decode(policies, type=dict[str, str]) for identifier in removed):
            said.append(
                f"The agreement with {partner} names the service of that name that was removed, not this one."
            )
    return tuple(said)


def _shared_limits(unit: Unit, service_ids: list[str]) -> Limits | None:
    """Of the first of these services that has any."""
    table = tables.limits
    query = select(table.c.subject, table.c.document).where(
        table.c.workspace_id == unit.workspace, table.c.level == "service", table.c.subject.in_(service_ids)
    )
    rows = {row.subject: row.document for row in unit.connection.execute(query)}
    found = (msgspec.json.decode(rows[one], type=Limits) for one in service_ids if one in rows)
    return next((limits for limits in found if not limits.unlimited), None)


def _set_locked(unit: Unit, name: str, locked: bool) -> ServiceView:
    stored = get_service(unit.connection, unit.workspace, name)
    unit.connection.execute(
        update(tables.services).where(tables.services.c.id == stored.id).values(locked=int(locked))
    )
    unit.subject = f"service:{name}"
    unit.touch("service", stored.id)
    return view_of(StoredService(stored.id, stored.service, locked, stored.block, stored.created))


def _build(request: AddService) -> Service:
    if (
        sum(
            (request.preset is not None, request.own, request.preset is None and request.base_url is not None)
        )
        != 1
    ):
        raise Invalid(
            "Say what kind of service it is.",
            "Give one of --preset NAME, --own, or --base-url URL with --auth WAY.",
        )
    if request.max_body_mb is not None and not 0 < request.max_body_mb <= _MAX_BODY_MB:
        raise Invalid(
            f"A largest body of {request.max_body_mb} MB makes no sense.",
            f"Write 1 to {_MAX_BODY_MB} megabytes.",
            field="max_body_mb",
        )
    if request.auth is not None and (request.own or request.preset is not None):
        raise Invalid(
            "How the key is put in is known for that kind of service.",
            "Leave out --auth, or give --base-url without --preset.",
            field="auth",
        )
    try:
        micros = _micros(request.price)
        if request.own:
            return Service(name=request.name, kind=Kind.OWN, price_micros=micros)
        if request.preset is not None:
            made = load_preset(request.preset).service(
                request.name,
                base_url=request.base_url,
                allow_private=request.allow_private,
                allow_plain=request.allow_plain_upstream,
                ca_file=request.ca_file,
                price_micros=micros,
            )
        else:
            if request.auth is None:
                raise Invalid(
                    "It is not said how the key is put in.",
                    "Give --auth bearer, basic, header:NAME or query:NAME.",
                    field="auth",
                )
            made = custom_service(
                request.name,
                request.base_url or "",
                parse_auth(request.auth),
                allow_private=request.allow_private,
                allow_plain=request.allow_plain_upstream,
                ca_file=request.ca_file,
                price_micros=micros,
            )
        _check_authorities(request.ca_file)
        if request.max_body_mb is not None:
            made = msgspec.structs.replace(made, ceiling=request.max_body_mb * 1_000_000)
        if request.hosts:
            more = {
                label: Origin.parse(
                    url, allow_plain=request.allow_plain_upstream, allow_private=request.allow_private
                )
                for label, url in request.hosts.items()
            }
            made = msgspec.structs.replace(made, hosts={**made.hosts, **more})
        return made
    except (InvalidService, InvalidOrigin, InvalidPlacement, UnknownPreset) as error:
        sentence, _, next_step = str(error).partition("; ")
        raise Invalid(sentence, next_step and next_step[0].upper() + next_step[1:]) from None


def _check_authorities(ca_file: str | None) -> None:
    """Calls must not be the first to find out that the file cannot be used."""
    if ca_file is None:
        return
    try:
        trusting(ca_file)
    except (OSError, ValueError):
        raise Invalid(
            "The file with certificate authorities cannot be read as PEM.",
            "Name a file with one or more certificates.",
            field="ca_file",
        ) from None


def _micros(price: str | None) -> int | None:
    if price is None:
        return None
    wrong = Invalid(
        "The price must be 0 or more, with at most six decimals.", "Write it as 0.01.", field="price"
    )
    try:
        micros = Decimal(price) * 1_000_000
        if not (0 <= micros <= MAX_PRICE_MICROS and micros == micros.to_integral_value()):
            raise wrong
    except ArithmeticError:
        raise wrong from None
    return int(micros)
