"""Looking services and environments up."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, select

from valetkey.decision.limits import money
from valetkey.errors import NotFound
from valetkey.nearest import MOST_COMPARED, did_you_mean
from valetkey.services.placement import AnyPlacement
from valetkey.services.service import Service
from valetkey.store import tables
from valetkey.store.standing import names_in_use


class StoredService(msgspec.Struct, frozen=True):
    """A service with its row."""

    id: str
    service: Service
    locked: bool
    block: int
    created: float


class ServiceView(msgspec.Struct, frozen=True):
    """A service as doors show it. Holds no secret."""

    id: str
    name: str
    title: str
    kind: str
    preset: str | None
    hosts: dict[str, str]
    auth: str | None
    price: str | None
    """Fixed price of a call; None where none is set."""
    locked: bool
    created: float
    allow_private: bool = False
    """Whether upstream addresses may be private."""
    allow_plain_upstream: bool = False
    """Whether ``http://`` is accepted beyond loopback."""
    ca_file: str | None = None
    """File with the only authorities accepted; null: those of the system."""
    max_body: int = 0
    """Bytes that the body of a call may have; 0 for an own service, which gets none."""
    notes: tuple[str, ...] = ()
    """What will surprise, when it is added, changed or removed."""


def find_service(connection: Connection, workspace: str, name: str) -> StoredService | None:
    """The living service of that name."""
    table = tables.services
    row = connection.execute(
        select(table).where(
            table.c.workspace_id == workspace, table.c.name == name, table.c.removed.is_(None)
        )
    ).first()
    return None if row is None else _stored(row)


def get_service(connection: Connection, workspace: str, name: str) -> StoredService:
    """As `find_service`, but a missing one is an error. Raises `NotFound`."""
    found = find_service(connection, workspace, name)
    if found is None:
        meant = did_you_mean(name, names_in_use(connection, tables.services, workspace, MOST_COMPARED))
        raise NotFound(
            f"There is no service named {name!r}.",
            f"{meant} See: valetkey service list".lstrip(),
            field="service",
        )
    return found


def list_services(connection: Connection, workspace: str) -> list[StoredService]:
    """All living services, by name."""
    table = tables.services
    rows = connection.execute(
        select(table)
        .where(table.c.workspace_id == workspace, table.c.removed.is_(None))
        .order_by(table.c.name)
    )
    return [_stored(row) for row in rows]


def view_of(stored: StoredService) -> ServiceView:
    """What doors show."""
    service = stored.service
    return ServiceView(
        id=stored.id,
        name=service.name,
        title=service.title,
        kind=service.kind,
        preset=service.preset,
        hosts={label: f"{o.scheme}://{o.authority}{o.prefix}" for label, o in service.hosts.items()},
        auth=None if service.placement is None else auth_text(service.placement),
        price=None if service.price_micros is None else _amount(service.price_micros),
        locked=stored.locked,
        created=stored.created,
        allow_private=service.allow_private,
        allow_plain_upstream=service.allow_plain,
        ca_file=service.ca_file,
        max_body=service.ceiling if service.hosts else 0,
    )


def _amount(micros: int) -> str:
    """An amount that `--price` takes back: two decimals at least, none lost."""
    return money(micros).replace(",", "")


def auth_text(placement: AnyPlacement) -> str:
    """A placement as `--auth` spells it: ``header:x-api-key``."""
    name = getattr(placement, "name", None)
    return placement.option if name is None else placement.option.replace("NAME", name)


def get_environment(connection: Connection, workspace: str, name: str) -> str:
    """Id of an environment. Raises `NotFound`."""
    table = tables.environments
    found = connection.execute(
        select(table.c.id).where(table.c.workspace_id == workspace, table.c.name == name)
    ).scalar()
    if found is None:
        raise NotFound(
            f"There is no environment named {name!r}.", "The usual one is production.", field="environment"
        )
    return str(found)


def _stored(row) -> StoredService:  # type: ignore[no-untyped-def]
    return StoredService(
        row.id, msgspec.json.decode(row.definition, type=Service), bool(row.locked), row.block, row.created
    )
