"""Envelope encryption: root key -> workspace key -> one data key a secret version, AES-256-GCM throughout.

What a ciphertext is stands in its associated data, so that one moved to another row does not open.
The layout is specified with vectors in docs/formats/sealing.md.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from typing import ClassVar, Final, NewType, TypeAlias

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from valetkey.errors import Invalid, Unavailable
from valetkey.vault.plain import PlainSecret

RandomBytes: TypeAlias = Callable[[int], bytes]
SealedSecret = NewType("SealedSecret", bytes)
"""An envelope: a value under its own data key, that key under a workspace key."""
SealedKey = NewType("SealedKey", bytes)
"""One key directly under another."""

KEY_BYTES: Final = 32
MAX_PLAIN_BYTES: Final = 64 * 1024
"""Largest value that is sealed: room for service account files and certificate chains, no store for files."""

_ID_BYTES: Final = 8
_NONCE_BYTES: Final = 12
"""Drawn at random, as NIST SP 800-38D allows for up to 2 ** 32 messages under one key."""
_TAG_BYTES: Final = 16
_ENVELOPE: Final = b"\x01"
_KEY: Final = b"\x02"
_KEY_HEAD: Final = 1 + _ID_BYTES + _NONCE_BYTES
_ENVELOPE_HEAD: Final = _KEY_HEAD + KEY_BYTES + _TAG_BYTES + _NONCE_BYTES


class SealBroken(Invalid):
    """The ciphertext does not open: changed, cut short, or moved from another record."""

    code = "SEAL_BROKEN"

    def __init__(self) -> None:
        super().__init__(
            "A sealed value does not belong to the record it stands in, or was changed.",
            "Restore the record from a backup, or set the value again.",
        )


class WrongWrappingKey(Unavailable):
    """The value was sealed under another key than the one at hand."""

    code = "WRONG_ROOT_KEY"


class WrappingKey(PlainSecret):
    """A 256-bit key that other things are sealed under. Its `id` names it without saying anything of it."""

    __slots__ = ("id",)
    id: str
    title: ClassVar[str]

    def __init__(self, value: bytes) -> None:
        if len(value) != KEY_BYTES:
            raise Invalid(f"A {self.title} has {KEY_BYTES} bytes.", "Restore it from where it was kept.")
        super().__init__(value)
        object.__setattr__(self, "id", key_id(value, self.title))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id!r}, ***)"


class RootKey(WrappingKey):
    """The key that everything hangs on. It seals workspace keys and nothing else."""

    __slots__ = ()
    title = "root key"


class WorkspaceKey(WrappingKey):
    """The key of one workspace. It seals the data keys of secrets, index keys and the signing key."""

    __slots__ = ()
    title = "workspace key"


def key_id(value: bytes, title: str) -> str:
    """First 8 bytes, in hex, of SHA-256 over HMAC-SHA-256(value, ``valetkey TITLE id v1``)."""
    tag = hmac.digest(value, f"valetkey {title} id v1".encode(), "sha256")
    return hashlib.sha256(tag).digest()[:_ID_BYTES].hex()


class SecretContext(msgspec.Struct, frozen=True, gc=False):
    """Which secret version a sealed value is. All of it is authenticated; pass ids, not names that change."""

    workspace: str
    service: str
    environment: str
    name: str
    version: int
    format: str = "text"
    """How the plain bytes are to be read, e.g. ``text`` or ``json``."""

    def canonical(self) -> bytes:
        """The bytes that go into the associated data."""
        return _canonical(
            "secret",
            self.workspace,
            self.service,
            self.environment,
            self.name,
            str(self.version),
            self.format,
        )


class IssuedKeyContext(msgspec.Struct, frozen=True, gc=False):
    """Which issued key a sealed value is: only public keys and leases are sealed, to be given again."""

    workspace: str
    service: str
    environment: str
    key_id: str

    def canonical(self) -> bytes:
        """The bytes that go into the associated data."""
        return _canonical("issued key", self.workspace, self.service, self.environment, self.key_id)


class KeyContext(msgspec.Struct, frozen=True, gc=False):
    """What a sealed key is for, in which workspace."""

    workspace: str
    purpose: str
    """E.g. ``index``, ``index:SERVICE_ID``, ``journal signing``; ``workspace`` is the workspace key's own."""

    def canonical(self) -> bytes:
        """The bytes that go into the associated data."""
        return _canonical("key", self.workspace, self.purpose)


WORKSPACE_PURPOSE: Final = "workspace"


def _canonical(domain: str, *fields: str) -> bytes:
    """Each field with its length before it, so that no two lists of fields have the same encoding."""
    encoded = [field.encode() for field in (domain, *fields)]
    return b"valetkey" + b"".join(len(field).to_bytes(4, "big") + field for field in encoded)


def seal(
    plain: PlainSecret,
    context: SecretContext | IssuedKeyContext,
    wrapping_key: WorkspaceKey,
    randbytes: RandomBytes = os.urandom,
) -> SealedSecret:
    """Seal `plain` under a data key of its own. Raises `Invalid` for a value over `MAX_PLAIN_BYTES`."""
    value = plain.reveal()
    if len(value) > MAX_PLAIN_BYTES:
        raise Invalid(f"A secret has at most {MAX_PLAIN_BYTES} bytes.", "Keep files elsewhere.")
    data_key, key_nonce, nonce = randbytes(KEY_BYTES), randbytes(_NONCE_BYTES), randbytes(_NONCE_BYTES)
    identity = context.canonical()
    wrapped = _wrap(data_key, key_nonce, identity, wrapping_key)
    ciphertext = AESGCM(data_key).encrypt(nonce, value, _ENVELOPE + identity)
    return SealedSecret(_ENVELOPE + bytes.fromhex(wrapping_key.id) + wrapped + nonce + ciphertext)


def open_sealed(
    sealed: SealedSecret, context: SecretContext | IssuedKeyContext, wrapping_key: WorkspaceKey
) -> PlainSecret:
    """The value. Raises `WrongWrappingKey` for another workspace key, `SealBroken` for anything else."""
    identity = context.canonical()
    data_key = _unwrap(sealed, identity, wrapping_key)
    nonce = sealed[_ENVELOPE_HEAD - _NONCE_BYTES : _ENVELOPE_HEAD]
    return PlainSecret(_decrypt(data_key, nonce, sealed[_ENVELOPE_HEAD:], _ENVELOPE + identity))


def rewrap(
    sealed: SealedSecret,
    context: SecretContext | IssuedKeyContext,
    old: WorkspaceKey,
    new: WorkspaceKey,
    randbytes: RandomBytes = os.urandom,
) -> SealedSecret:
    """The same envelope under another workspace key. The value itself is not decrypted."""
    identity = context.canonical()
    data_key = _unwrap(sealed, identity, old)
    wrapped = _wrap(data_key, randbytes(_NONCE_BYTES), identity, new)
    return SealedSecret(_ENVELOPE + bytes.fromhex(new.id) + wrapped + sealed[_ENVELOPE_HEAD - _NONCE_BYTES :])


def seal_key(
    key: PlainSecret, context: KeyContext, wrapping_key: WorkspaceKey, randbytes: RandomBytes = os.urandom
) -> SealedKey:
    """Seal an index key or a signing key under the workspace key."""
    if context.purpose == WORKSPACE_PURPOSE:
        raise Invalid("That purpose belongs to the workspace key.", "Name another purpose.")
    return _seal_key(key, context, wrapping_key, randbytes)


def open_key(sealed: SealedKey, context: KeyContext, wrapping_key: WorkspaceKey) -> PlainSecret:
    """The key. Raises as `open_sealed` does."""
    return PlainSecret(_open_key(sealed, context, wrapping_key))


def seal_workspace_key(
    key: WorkspaceKey, workspace: str, root_key: RootKey, randbytes: RandomBytes = os.urandom
) -> SealedKey:
    """Seal a workspace key under the root key."""
    return _seal_key(key, KeyContext(workspace, WORKSPACE_PURPOSE), root_key, randbytes)


def open_workspace_key(sealed: SealedKey, workspace: str, root_key: RootKey) -> WorkspaceKey:
    """The workspace key. Raises `WrongWrappingKey` for another root key than it was sealed under."""
    return WorkspaceKey(_open_key(sealed, KeyContext(workspace, WORKSPACE_PURPOSE), root_key))


def _seal_key(
    key: PlainSecret, context: KeyContext, wrapping_key: WrappingKey, randbytes: RandomBytes
) -> SealedKey:
    nonce = randbytes(_NONCE_BYTES)
    ciphertext = AESGCM(wrapping_key.reveal()).encrypt(nonce, key.reveal(), _KEY + context.canonical())
    return SealedKey(_KEY + bytes.fromhex(wrapping_key.id) + nonce + ciphertext)


def _open_key(sealed: SealedKey, context: KeyContext, wrapping_key: WrappingKey) -> bytes:
    _check_head(sealed, _KEY, _KEY_HEAD + _TAG_BYTES, wrapping_key)
    nonce = sealed[1 + _ID_BYTES : _KEY_HEAD]
    return _decrypt(wrapping_key.reveal(), nonce, sealed[_KEY_HEAD:], _KEY + context.canonical())


def _wrap(data_key: bytes, nonce: bytes, identity: bytes, wrapping_key: WrappingKey) -> bytes:
    return nonce + AESGCM(wrapping_key.reveal()).encrypt(nonce, data_key, b"data key" + identity)


def _unwrap(sealed: SealedSecret, identity: bytes, wrapping_key: WrappingKey) -> bytes:
    _check_head(sealed, _ENVELOPE, _ENVELOPE_HEAD + _TAG_BYTES, wrapping_key)
    wrapped = sealed[_KEY_HEAD : _ENVELOPE_HEAD - _NONCE_BYTES]
    return _decrypt(wrapping_key.reveal(), sealed[1 + _ID_BYTES : _KEY_HEAD], wrapped, b"data key" + identity)


def _check_head(sealed: bytes, form: bytes, least: int, wrapping_key: WrappingKey) -> None:
    if len(sealed) < least or sealed[:1] != form:
        raise SealBroken
    used = bytes(sealed[1 : 1 + _ID_BYTES]).hex()
    if used != wrapping_key.id:
        raise WrongWrappingKey(
            f"This was sealed under {wrapping_key.title} {used}; the one at hand is {wrapping_key.id}.",
            f"Give the {wrapping_key.title} with the first id, or restore the data of the second.",
        )


def _decrypt(key: bytes, nonce: bytes, ciphertext: bytes, associated: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, associated)
    except InvalidTag:
        pass  # raised outside, so that the traceback carries no frame of the cipher
    raise SealBroken
