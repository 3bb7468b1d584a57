"""The opened keys of one workspace: held by the control process alone, in memory alone."""

from __future__ import annotations

from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import Connection, insert, select, update

from valetkey.store import tables
from valetkey.vault.plain import PlainSecret
from valetkey.vault.sealing import (
    KEY_BYTES,
    IssuedKeyContext,
    KeyContext,
    RootKey,
    SealedKey,
    SealedSecret,
    SecretContext,
    WorkspaceKey,
    open_key,
    open_sealed,
    open_workspace_key,
    seal,
    seal_key,
    seal_workspace_key,
)

INDEX = "index"
SIGNING = "journal signing"

RandomBytes = Callable[[int], bytes]


def service_index(service_id: str) -> str:
    """Purpose of the index key that an own service's in-process verifier gets."""
    return f"index:{service_id}"


class Keyring:
    """Seals, opens and lends the keys of one workspace."""

    def __init__(self, workspace: str, workspace_key: WorkspaceKey, random: RandomBytes) -> None:
        self.workspace = workspace
        self._workspace_key = workspace_key
        self._random = random
        self._opened: dict[str, bytes] = {}

    @classmethod
    def create(
        cls,
        connection: Connection,
        workspace: str,
        name: str,
        root: RootKey,
        wall: float,
        random: RandomBytes,
    ) -> Keyring:
        """Make a workspace with its keys, in the caller's transaction."""
        keyring = cls.draw(workspace, random)
        keyring.found(connection, name, root, wall)
        return keyring

    @classmethod
    def draw(cls, workspace: str, random: RandomBytes) -> Keyring:
        """The keyring of a workspace that does not exist yet; `found` makes it."""
        return cls(workspace, WorkspaceKey(random(KEY_BYTES)), random)

    def found(self, connection: Connection, name: str, root: RootKey, wall: float) -> None:
        """Make the workspace with its keys, in the caller's transaction."""
        sealed = seal_workspace_key(self._workspace_key, self.workspace, root, self._random)
        connection.execute(
            insert(tables.workspaces).values(
                id=self.workspace, name=name, root_key_id=root.id, sealed_key=bytes(sealed), created=wall
            )
        )
        self.add(connection, INDEX, self._random(KEY_BYTES))
        signing = Ed25519PrivateKey.generate()
        self.add(connection, SIGNING, signing.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()))

    @classmethod
    def open(cls, connection: Connection, workspace: str, root: RootKey, random: RandomBytes) -> Keyring:
        """Open a workspace's keys. Raises `WrongWrappingKey` for another root key."""
        sealed = connection.execute(
            select(tables.workspaces.c.sealed_key).where(tables.workspaces.c.id == workspace)
        ).scalar_one()
        return cls(workspace, open_workspace_key(SealedKey(bytes(sealed)), workspace, root), random)

    def root_key_id(self, connection: Connection) -> str:
        """Id of the root key that the workspace key is sealed under."""
        table = tables.workspaces
        return str(
            connection.execute(select(table.c.root_key_id).where(table.c.id == self.workspace)).scalar_one()
        )

    def rewrap(self, connection: Connection, root: RootKey) -> None:
        """Seal the workspace key under another root key, in the caller's transaction.

        The workspace key stays the same, so that nothing that is sealed under it is touched.
        """
        table = tables.workspaces
        sealed = seal_workspace_key(self._workspace_key, self.workspace, root, self._random)
        connection.execute(
            update(table)
            .where(table.c.id == self.workspace)
            .values(root_key_id=root.id, sealed_key=bytes(sealed))
        )

    def add(self, connection: Connection, purpose: str, value: bytes) -> None:
        """Seal a new key of the workspace."""
        sealed = seal_key(
            PlainSecret(value), KeyContext(self.workspace, purpose), self._workspace_key, self._random
        )
        connection.execute(
            insert(tables.sealed_keys).values(
                workspace_id=self.workspace, purpose=purpose, sealed=bytes(sealed)
            )
        )

    def add_service_index(self, connection: Connection, service_id: str) -> None:
        """Make the index key of an own service."""
        self.add(connection, service_index(service_id), self._random(KEY_BYTES))

    def key(self, connection: Connection, purpose: str) -> bytes:
        """One key of the workspace, opened once."""
        found = self._opened.get(purpose)
        if found is None:
            sealed = connection.execute(
                select(tables.sealed_keys.c.sealed).where(
                    tables.sealed_keys.c.workspace_id == self.workspace,
                    tables.sealed_keys.c.purpose == purpose,
                )
            ).scalar_one()
            found = open_key(
                SealedKey(bytes(sealed)), KeyContext(self.workspace, purpose), self._workspace_key
            ).reveal()
            self._opened[purpose] = found
        return found

    def signing_key(self, connection: Connection) -> Ed25519PrivateKey:
        """The key that signs checkpoints of the journal."""
        return Ed25519PrivateKey.from_private_bytes(self.key(connection, SIGNING))

    def seal(self, plain: PlainSecret, context: SecretContext | IssuedKeyContext) -> bytes:
        """Seal a value under a data key of its own."""
        return bytes(seal(plain, context, self._workspace_key, self._random))

    def open_sealed(self, sealed: bytes, context: SecretContext | IssuedKeyContext) -> PlainSecret:
        """The value of a sealed one. Raises `SealBroken`."""
        return open_sealed(SealedSecret(bytes(sealed)), context, self._workspace_key)

    def __repr__(self) -> str:
        return f"Keyring(workspace={self.workspace!r}, ***)"
