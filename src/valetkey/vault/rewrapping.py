"""A new root key while serving: written, everything sealed under it in one transaction, then put in its place.

At every moment of it there is a file that opens the home: the old one until the transaction stands, the next one
from then on. Whoever opens the home takes the one that fits, so an interruption at any point costs nothing.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import msgspec

from valetkey.access.operation import Unit, operation
from valetkey.errors import Invalid
from valetkey.journal.actions import AuditAction
from valetkey.vault.root_key import CredentialRootKey, FileRootKey, RootKeyRefused
from valetkey.vault.sealing import RootKey


class Rewrap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Seal everything under the root key in a file, which is drawn where there is none."""

    file: str
    data_folder: str
    """No root key may lie there."""


class Rewrapped(msgspec.Struct, frozen=True):
    """Which root key opens this home now."""

    root_key: str
    """Its id, which says nothing of it."""
    former: str
    """Id of the one that no longer does."""


@operation(AuditAction.VAULT_REWRAP)
def rewrap_vault(unit: Unit, request: Rewrap) -> Rewrapped:
    """Seal every workspace key under another root key. Raises `RootKeyRefused` and `Invalid`."""
    provider = FileRootKey(Path(request.file), Path(request.data_folder))
    if not provider.path.exists():
        provider.create(unit.random)
    # What lies on the disk is what is used: a file that nobody could read again must not seal anything.
    root = provider.load()
    former = unit.keyring.root_key_id(unit.connection)
    if former == root.id:
        raise Invalid(
            f"{request.file} holds the root key that is in use.",
            "Name a file that does not exist yet.",
            field="file",
        )
    unit.keyring.rewrap(unit.connection, root)
    unit.subject = "vault"
    unit.details |= {"root_key": root.id, "former": former}
    return Rewrapped(root.id, former)


def next_path(path: Path) -> Path:
    """Where the next root key lies until it takes its place."""
    return path.with_name(f"{path.name}.next")


def former_path(path: Path, root_key_id: str) -> Path:
    """Where a former root key is kept: backups that were made under it open with nothing else."""
    return path.with_name(f"{path.name}.former-{root_key_id}")


def find_root_key(provider: FileRootKey | CredentialRootKey, wanted: str) -> RootKey:
    """The root key with this id: in its place, or beside it where a re-wrapping was interrupted.

    Where none has it, the one in its place: opening with it says which one is wanted.
    """
    key = provider.load()
    if key.id == wanted or not isinstance(provider, FileRootKey):
        return key
    for path in (next_path(provider.path), former_path(provider.path, wanted)):
        with suppress(RootKeyRefused):
            other = FileRootKey(path).load()
            if other.id == wanted:
                return other
    return key


def put_in_place(path: Path, root_key_id: str) -> Path | None:
    """Let the next root key take its place if everything is sealed under it; where the former one is kept now.

    None when there is nothing to do. Raises `RootKeyRefused` where the folder cannot be written.
    """
    following = next_path(path)
    for draft in path.parent.glob(f".{following.name}.*.new"):
        draft.unlink(
            missing_ok=True
        )  # left by a process that died while it wrote: a root key that nobody looks after
    if not following.exists() or FileRootKey(following).load().id != root_key_id:
        return None
    kept = former_path(path, FileRootKey(path).load().id)
    try:
        with suppress(FileExistsError):
            os.link(path, kept)
        os.replace(following, path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise RootKeyRefused(
            f"The new root key still lies in {following}: {error.strerror}.",
            "Keep that file: it opens this home. The next start puts it in place.",
        ) from None
    return kept
