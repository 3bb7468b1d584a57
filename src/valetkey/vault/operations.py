"""Set and retire secrets: a third party's credentials, sealed in versions. No operation ever returns one."""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec
from sqlalchemy import Connection, func, insert, select, update

from valetkey.access.operation import Unit, operation
from valetkey.durations import parse_instant
from valetkey.errors import Invalid, NotFound
from valetkey.journal.actions import AuditAction
from valetkey.keys.format import looks_like_key
from valetkey.labels import refuse_keys
from valetkey.services.catalogue import load_preset
from valetkey.services.placement import KEY, SecretRefused
from valetkey.services.queries import StoredService, get_environment, get_service
from valetkey.services.service import Kind
from valetkey.store import tables
from valetkey.vault.fingerprint import fingerprint
from valetkey.vault.keyring import INDEX
from valetkey.vault.plain import PlainSecret
from valetkey.vault.sealing import SecretContext
from valetkey.vault.strength import clean_input, examine

DEFAULT_NAME = "default"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,59}")


class Risk(StrEnum):
    """How much harm its leak would do: decides how often rotation is asked for."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class SetSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new version of a service's secret; it is used from the next call on."""

    service: str
    value: str
    name: str = DEFAULT_NAME
    environment: str = "production"
    expires: str | None = None
    risk: Risk | None = None
    strict: bool = False
    """Whether warnings about the value refuse it."""

    def __repr__(self) -> str:
        return f"SetSecret(service={self.service!r}, name={self.name!r}, value=***)"


class RetireSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Take versions out of use: one by number, or all."""

    service: str
    name: str = DEFAULT_NAME
    environment: str = "production"
    version: int | None = None


class SecretView(msgspec.Struct, frozen=True):
    """A secret as doors show it: everything but the secret."""

    service: str
    name: str
    environment: str
    risk: str
    version: int
    created: float
    expires: float | None
    warnings: tuple[str, ...] = ()


class VersionView(msgspec.Struct, frozen=True):
    """One version as doors show it."""

    id: str
    version: int
    created: float
    expires: float | None
    retired: float | None
    state: str


@operation(AuditAction.SECRET_SET)
def set_secret(unit: Unit, request: SetSecret) -> SecretView:
    """Seal a value as the newest version. Weak values warn, or refuse with `strict`."""
    stored = get_service(unit.connection, unit.workspace, request.service)
    if stored.service.kind is Kind.OWN:
        raise Invalid(
            f"{request.service} is your own service and needs no secret.", "Issue keys for it right away."
        )
    if not _NAME.fullmatch(request.name):
        raise Invalid(
            "That cannot be a secret's name.", "Use lower-case letters, digits and hyphens.", field="name"
        )
    refuse_keys("name", request.name)
    plain = clean_input(request.value)
    _check_usable(stored, plain)
    expires = None if request.expires is None else parse_instant(request.expires, unit.wall)
    print_ = fingerprint(plain.reveal(), unit.keyring.key(unit.connection, INDEX))
    warnings = _warnings(unit, stored, request.name, plain, print_)
    if warnings and request.strict:
        raise Invalid(
            f"The value is refused: {warnings[0]}",
            "Leave out --strict to keep it all the same.",
            field="value",
        )
    environment_id = get_environment(unit.connection, unit.workspace, request.environment)
    secret_id, risk = _find_or_make(unit, stored.id, environment_id, request)
    number = 1 + (
        unit.connection.execute(
            select(func.max(tables.secret_versions.c.number)).where(
                tables.secret_versions.c.secret_id == secret_id
            )
        ).scalar()
        or 0
    )
    context = SecretContext(unit.workspace, stored.id, environment_id, request.name, number)
    unit.connection.execute(
        insert(tables.secret_versions).values(
            id=unit.new_id("ver"),
            secret_id=secret_id,
            number=number,
            sealed=unit.keyring.seal(plain, context),
            fingerprint=print_,
            created=unit.wall,
            expires=expires,
        )
    )
    unit.subject = f"secret:{request.service}/{request.name}"
    unit.details |= {
        "version": number,
        "environment": request.environment,
        "risk": risk,
        "warnings": len(warnings),
    }
    unit.touch("secret", secret_id)
    return SecretView(
        request.service, request.name, request.environment, risk, number, unit.wall, expires, tuple(warnings)
    )


@operation(AuditAction.SECRET_RETIRE)
def retire_secret(unit: Unit, request: RetireSecret) -> SecretView:
    """Take versions out of use; calls then use the newest that is left."""
    stored = get_service(unit.connection, unit.workspace, request.service)
    environment_id = get_environment(unit.connection, unit.workspace, request.environment)
    secret = _find(unit.connection, unit.workspace, stored.id, environment_id, request.name)
    table = tables.secret_versions
    chosen = update(table).where(table.c.secret_id == secret.id, table.c.retired.is_(None))
    if request.version is not None:
        chosen = chosen.where(table.c.number == request.version)
    done = unit.connection.execute(chosen.values(retired=unit.wall)).rowcount
    if not done:
        raise NotFound("There is no such living version.", f"See: valetkey secret versions {request.service}")
    unit.subject = f"secret:{request.service}/{request.name}"
    unit.details |= {"version": request.version, "retired": done}
    unit.touch("secret", secret.id)
    return SecretView(
        request.service,
        request.name,
        request.environment,
        secret.risk,
        request.version or 0,
        secret.created,
        None,
    )


def list_secrets(connection: Connection, workspace: str) -> list[SecretView]:
    """All secrets with their newest living version."""
    secrets, versions, services = tables.secrets, tables.secret_versions, tables.services
    rows = connection.execute(
        select(
            services.c.name.label("service"),
            secrets.c.name,
            tables.environments.c.name.label("environment"),
            secrets.c.risk,
            func.max(versions.c.number).label("version"),
            func.max(versions.c.created).label("created"),
            func.max(versions.c.expires).label("expires"),
        )
        .join(services, services.c.id == secrets.c.service_id)
        .join(tables.environments, tables.environments.c.id == secrets.c.environment_id)
        .join(versions, versions.c.secret_id == secrets.c.id)
        .where(
            secrets.c.workspace_id == workspace, versions.c.retired.is_(None), services.c.removed.is_(None)
        )
        .group_by(services.c.name, secrets.c.name, tables.environments.c.name, secrets.c.risk)
        .order_by(services.c.name, secrets.c.name)
    )
    return [
        SecretView(r.service, r.name, r.environment, r.risk, r.version, r.created, r.expires) for r in rows
    ]


def list_versions(
    connection: Connection, workspace: str, service: str, name: str, environment: str, wall: float
) -> list[VersionView]:
    """All versions of one secret, newest first. Raises `NotFound`."""
    stored = get_service(connection, workspace, service)
    environment_id = get_environment(connection, workspace, environment)
    secret = _find(connection, workspace, stored.id, environment_id, name)
    table = tables.secret_versions
    rows = connection.execute(
        select(table).where(table.c.secret_id == secret.id).order_by(table.c.number.desc())
    ).all()
    living = [r.number for r in rows if r.retired is None and (r.expires is None or r.expires > wall)]
    return [
        VersionView(
            r.id,
            r.number,
            r.created,
            r.expires,
            r.retired,
            "in use" if living and r.number == living[0] else "kept" if r.number in living else
            "retired" if r.retired is not None else "expired",
        )
        for r in rows
    ]  # fmt: skip


def _warnings(unit: Unit, service: StoredService, name: str, plain: PlainSecret, print_: bytes) -> list[str]:
    secrets, versions = tables.secrets, tables.secret_versions
    elsewhere = (
        select(versions.c.id)
        .join(secrets, secrets.c.id == versions.c.secret_id)
        .where(versions.c.fingerprint == print_)
        .where((secrets.c.service_id != service.id) | (secrets.c.name != name))
    )
    reused = unit.connection.execute(elsewhere.limit(1)).first() is not None
    preset = service.service.preset
    shape = re.compile(load_preset(preset).shape.regex) if preset else None
    said = [f"{w.sentence} {w.next_step}" for w in examine(plain, shape, reused)]
    if re.match(r"[A-Z][A-Z0-9_]+=", plain.reveal_text()):
        said.insert(0, "It begins with NAME=, as in a file of variables. Give the value alone.")
    return said


def _check_usable(service: StoredService, plain: PlainSecret) -> None:
    """Refuse what could never be used: no call should be the first to find out. Raises `Invalid`."""
    text = plain.reveal_text()
    if text != text.strip():
        raise Invalid("The value has spaces around it.", "Paste the key without them.", field="value")
    if looks_like_key(plain.reveal()):
        raise Invalid(
            "That is a key that Valetkey issued, not one of the service's own.",
            "Give the real key that the vendor made.",
            field="value",
        )
    placement = service.service.placement
    try:
        if placement is not None:
            placement.put_in({KEY: text}, [], b"")
    except SecretRefused as error:
        sentence, _, next_step = str(error).partition("; ")
        raise Invalid(
            sentence + ".", next_step and next_step[0].upper() + next_step[1:], field="value"
        ) from None


def _find_or_make(unit: Unit, service_id: str, environment_id: str, request: SetSecret) -> tuple[str, str]:
    table = tables.secrets
    row = unit.connection.execute(
        select(table.c.id, table.c.risk).where(
            table.c.workspace_id == unit.workspace,
            table.c.environment_id == environment_id,
            table.c.service_id == service_id,
            table.c.name == request.name,
        )
    ).first()
    if row is not None:
        risk = row.risk if request.risk is None else request.risk.value
        unit.connection.execute(update(table).where(table.c.id == row.id).values(risk=risk))
        return row.id, risk
    identifier = unit.new_id("sec")
    risk = (request.risk or Risk.MEDIUM).value
    unit.connection.execute(
        insert(table).values(
            id=identifier,
            workspace_id=unit.workspace,
            environment_id=environment_id,
            service_id=service_id,
            name=request.name,
            risk=risk,
            created=unit.wall,
        )
    )
    return identifier, risk


def _find(connection: Connection, workspace: str, service_id: str, environment_id: str, name: str):  # type: ignore[no-untyped-def]
    table = tables.secrets
    row = connection.execute(
        select(table).where(
            table.c.workspace_id == workspace,
            table.c.environment_id == environment_id,
            table.c.service_id == service_id,
            table.c.name == name,
        )
    ).first()
    if row is None:
        raise NotFound(
            f"The service has no secret named {name!r}.", "See: valetkey secret list", field="name"
        )
    return row
