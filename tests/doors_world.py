"""Three doors to one decision over one database: the gateway, verify, and `key check`, without processes.

What is in the database is told to the gateway's index as the control process tells it, change by change.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import insert, update

from gateway_world import REAL_KEY, WALL, Answered, GatewayWorld, MadeKey, gateway_world, upstream_service
from valetkey.access.actor import Actor, ActorKind
from valetkey.access.operation import Frame
from valetkey.decision.policy import Policy
from valetkey.gateway.facts import KeyFact
from valetkey.gateway.index import KeyIndex
from valetkey.keys.checking import CheckedKey, CheckKey
from valetkey.keys.format import generate
from valetkey.keys.kinds import CredentialKind, KeyKind
from valetkey.networks.operations import AddNetwork, add_network
from valetkey.parties.operations import AddParty, PartyKind, add_party
from valetkey.server.checking import check_key
from valetkey.server.facts import FactLoader
from valetkey.services.service import Kind, Service
from valetkey.store import tables
from valetkey.store.blocks import next_block
from valetkey.store.engine import Store, sqlite_url
from valetkey.vault.fingerprint import fingerprint
from valetkey.vault.keyring import INDEX, Keyring
from valetkey.vault.operations import SetSecret, set_secret
from valetkey.vault.root_key import FileRootKey

OWNER = Actor(ActorKind.LOCAL_OWNER, "ana")
WORKSPACE = "wsp_test"


def open_frame(folder: Path) -> Frame:
    """A fresh store and vault."""
    (folder / "keys").mkdir(mode=0o700)
    root = FileRootKey(folder / "keys" / "root.key", folder / "home").create()
    store = Store.open(sqlite_url(folder / "valetkey.db"))
    with store.write() as connection:
        keyring = Keyring.create(connection, WORKSPACE, "default", root, WALL, os.urandom)
        connection.execute(
            insert(tables.environments).values(id="env_test", workspace_id=WORKSPACE, name="production")
        )
    return Frame(store, keyring, lambda: WALL, os.urandom, WORKSPACE)


class Doors:
    """One database and the doors to it."""

    def __init__(self, frame: Frame, world: GatewayWorld) -> None:
        self.frame = frame
        self.world = world
        self.clock = world.clock
        self.credentials: dict[str, str] = {}
        """By own service: what it asks with."""
        self._loader = FactLoader(WORKSPACE, frame.keyring)
        self._party = self._perform(add_party, AddParty("ana", PartyKind.PERSON)).answer.id

    def tell(self, *changes: tuple[str, str]) -> None:
        """Put what changed in force in the gateway."""
        with self.frame.store.read() as connection:
            self.world.apply(*self._loader.changed(connection, changes))

    def _perform(self, operation: Any, request: Any) -> Any:
        done = self.frame.perform(operation, request, OWNER)
        self.tell(*done.changed)
        return done

    # -- what there is

    def add_network(self, name: str, *blocks: str, listener: str | None = None) -> None:
        self._perform(add_network, AddNetwork(name, blocks, listener=listener))

    def add_pair(self, name: str, **more: Any) -> tuple[str, str]:
        """An upstream service and an own one with the same terms; return their ids."""
        own = {field: value for field, value in more.items() if field in ("price_micros", "encoded_slash")}
        upstream = self.add_service(upstream_service(name, **more))
        self._perform(set_secret, SetSecret(name, REAL_KEY))
        return upstream, self.add_own_service(f"{name}-own", **own)

    def add_own_service(self, name: str, **more: Any) -> str:
        service_id = self.add_service(Service(name=name, kind=Kind.OWN, **more))
        plain = generate("vk", CredentialKind.SERVICE, os.urandom)
        with self.frame.store.write() as connection:
            connection.execute(
                insert(tables.credentials).values(
                    id=f"crd_{name}", workspace_id=WORKSPACE, kind="service", service_id=service_id,
                    fingerprint=fingerprint(plain.reveal(), self.world.index.index_key), last4=plain.last4, label="",
                    created=WALL,
                )
            )  # fmt: skip
        self.tell(("credential", f"crd_{name}"))
        self.credentials[service_id] = plain.reveal_text()
        return service_id

    def add_service(self, service: Service) -> str:
        service_id = f"svc_{service.name}"
        with self.frame.store.write() as connection:
            connection.execute(
                insert(tables.services).values(
                    id=service_id, workspace_id=WORKSPACE, name=service.name,
                    definition=msgspec.json.encode(service).decode(), locked=0, block=next_block(connection),
                    created=WALL,
                )
            )  # fmt: skip
        self.tell(("service", service_id))
        return service_id

    def add_key(
        self,
        service_id: str,
        policy: Policy | None = None,
        *,
        state: str = "active",
        expires: float | None = None,
        parent: MadeKey | None = None,
    ) -> MadeKey:
        plain = generate("vk", KeyKind.PRIVATE, os.urandom)
        print_ = fingerprint(plain.reveal(), self.world.index.index_key)
        name = print_.hex()[:12]
        document = msgspec.json.encode(policy or Policy())
        with self.frame.store.write() as connection:
            fact = KeyFact(
                f"key_{name}", print_, "private", service_id, "env_test", self._party, f"pol_{name}", "default", state,
                expires, next_block(connection), None if parent is None else parent.id,
            )  # fmt: skip
            connection.execute(
                insert(tables.policies).values(
                    id=fact.policy_id, workspace_id=WORKSPACE, digest=print_, document=document.decode()
                )
            )
            connection.execute(
                insert(tables.keys).values(
                    workspace_id=WORKSPACE,
                    last4=plain.last4,
                    label=name,
                    created=WALL,
                    **msgspec.structs.asdict(fact),
                )
            )
        self.tell(("policy", fact.policy_id), ("key", fact.id))
        return MadeKey(fact.id, plain.reveal_text(), fact)

    def change(self, kind: str, identifier: str, **values: Any) -> None:
        """Change a row (``key``, ``service``, ``party``) and put it in force."""
        table = {"key": tables.keys, "service": tables.services, "party": tables.parties}[kind]
        with self.frame.store.write() as connection:
            connection.execute(update(table).where(table.c.id == identifier).values(**values))
        self.tell((kind, identifier))

    def is_sticky(self, key: MadeKey) -> bool:
        entry = self.world.index.get(key.id)
        assert entry is not None
        return bool(self.world.index.compiled(entry).plan.checks.sticky)

    def unpin(self, key: MadeKey) -> None:
        """As `key unpin` does in the end."""
        self.world.counters.pin(key.fact.block, None)

    # -- the doors

    def check(self, key: MadeKey | str, **call: Any) -> CheckedKey:
        """The imagined call."""
        key_id = key.id if isinstance(key, MadeKey) else key
        with self.frame.store.read() as connection:
            return check_key(
                connection,
                WORKSPACE,
                self._loader,
                self.world.peeking,
                CheckKey(id=key_id, **call),
                self.clock.now(),
            )

    def verify(self, key: MadeKey, **call: Any) -> Any:
        """The answer of verify, asked by the key's own service."""
        answer: Answered = self.world.call(
            self.credentials[key.fact.service_id],
            "/v1/verify",
            method="POST",
            body=msgspec.json.encode({"key": key.value, **call}),
        )
        assert answer.status == 200
        return answer.json


@contextmanager
def doors(folder: Path) -> Iterator[Doors]:
    """Doors that are closed afterwards."""
    frame = open_frame(folder)
    index = KeyIndex()
    with frame.store.read() as connection:
        index.index_key = frame.keyring.key(connection, INDEX)
    with gateway_world(folder, index) as world:
        yield Doors(frame, world)
    frame.store.close()
