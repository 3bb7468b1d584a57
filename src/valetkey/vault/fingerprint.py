"""What is stored of a value that must be recognised but never known again: a keyed hash."""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from valetkey.errors import Invalid


def fingerprint(value: bytes, index_key: bytes) -> bytes:
    """HMAC-SHA-256 under the index key over the value's SHA-256 (32 bytes)."""
    keyed = _keyed(index_key).copy()
    keyed.update(hashlib.sha256(value).digest())
    return keyed.finalize()


@lru_cache(maxsize=4)
def _keyed(index_key: bytes) -> HMAC:
    # Copying what the key has made of it is twice as fast as beginning with the key again.
    return HMAC(index_key, SHA256())


def fingerprint_of_sha256(digest: bytes, index_key: bytes) -> bytes:
    """The same for a value known only by its SHA-256. Raises `Invalid` when that is not 32 bytes."""
    if len(digest) != 32:
        raise Invalid("A SHA-256 digest has 32 bytes.", "Give the digest of the whole key.")
    return hmac.digest(index_key, digest, "sha256")
