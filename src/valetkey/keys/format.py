"""The text of a key: made, recognised, checked offline, and reduced to what is stored.

``<prefix>_<kind>_<body><check>``, specified with vectors in docs/formats/key.md. Nothing here remembers a
key: what is kept at rest is `fingerprint`, from which no key can be found again.
"""

from __future__ import annotations

import os
import re
import zlib
from typing import TYPE_CHECKING, Final

import msgspec

from valetkey.errors import Invalid
from valetkey.keys.kinds import KIND_OF_SHORT, CredentialKind, KeyKind
from valetkey.vault.plain import PlainKey

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "BODY_LENGTH",
    "CredentialKind",
    "InvalidKey",
    "KeyKind",
    "ParsedKey",
    "PlainKey",
    "check_of",
    "generate",
    "looks_like_key",
    "mask_keys",
    "parse",
]

ALPHABET: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""Base62; the position of a character is its value."""
BODY_LENGTH: Final = 43
"""Characters of a new body. 43 * log2(62) = 256.03 bits; drawing again the one body in 1,900 that lacks an
upper-case letter, a lower-case letter or a digit costs 0.0008 bit of it."""
MAX_BODY_LENGTH: Final = 86
"""Longest body that is read: twice a new one, room for a later format without touching readers."""
CHECK_LENGTH: Final = 6
"""Characters of the checksum: 62 ** 6 is the first power of 62 above 2 ** 32."""
MAX_PREFIX_LENGTH: Final = 10
MAX_KEY_LENGTH: Final = MAX_PREFIX_LENGTH + 1 + 3 + 1 + MAX_BODY_LENGTH + CHECK_LENGTH
"""Anything longer is refused before any work is done on it."""
DEFAULT_PREFIX: Final = "vk"

_FAIR_BYTES: Final = 62 * 4
"""A random byte below this falls on each character with the same chance; one above is drawn again."""
_TO_BASE62: Final = bytes(ALPHABET[byte % 62] for byte in range(256))
_UNFAIR: Final = bytes(range(_FAIR_BYTES, 256))
_PREFIX: Final = re.compile(rf"[a-z][a-z0-9]{{1,{MAX_PREFIX_LENGTH - 1}}}")
_SHORTS: Final = "|".join(KIND_OF_SHORT)
_KEY: Final = re.compile(
    rf"([a-z][a-z0-9]{{1,{MAX_PREFIX_LENGTH - 1}}})_({_SHORTS})_"
    rf"[0-9A-Za-z]{{{BODY_LENGTH},{MAX_BODY_LENGTH}}}[0-9A-Za-z]{{{CHECK_LENGTH}}}"
)
_BAD_PREFIX: Final = "A key prefix is 2 to 10 lower-case letters and digits and begins with a letter."
_KEY_IN_TEXT: Final = re.compile(rf"[a-z][a-z0-9]{{1,9}}_(?:{_SHORTS})_[0-9A-Za-z]{{16,}}".encode())
"""Wider than a key on purpose: one cut short or copied with a typo must not be printed either."""


class InvalidKey(Invalid):
    """The text is no key of this format. The message says why and never repeats the text."""


class ParsedKey(msgspec.Struct, frozen=True, gc=False):
    """What the text of a well-formed key says about itself. Holds nothing secret."""

    prefix: str
    kind: KeyKind | CredentialKind
    last4: str
    """The four characters that lists show."""


def check_of(text: bytes) -> bytes:
    """The checksum of ``prefix_kind_body``: CRC-32 (ISO-HDLC, as in zlib) in six base62 characters."""
    rest = zlib.crc32(text)
    rest, sixth = divmod(rest, 62)
    rest, fifth = divmod(rest, 62)
    rest, fourth = divmod(rest, 62)
    rest, third = divmod(rest, 62)
    first, second = divmod(rest, 62)
    a = ALPHABET
    return bytes((a[first], a[second], a[third], a[fourth], a[fifth], a[sixth]))


def generate(
    prefix: str, kind: KeyKind | CredentialKind, randbytes: Callable[[int], bytes] = os.urandom
) -> PlainKey:
    """A new key. `randbytes` must be the operating system's generator outside of tests.

    Raises `InvalidKey` for a prefix that cannot stand in a key.
    """
    if not _PREFIX.fullmatch(prefix):
        raise InvalidKey(_BAD_PREFIX, "Choose one such as acme.")
    head = f"{prefix}_{kind.short}_".encode()
    while True:
        body = _draw_body(randbytes)
        if has_all_classes(body):
            return PlainKey(head + body + check_of(head + body))


def _draw_body(randbytes: Callable[[int], bytes]) -> bytes:
    body = b""
    while len(body) < BODY_LENGTH:
        body += randbytes(64).translate(_TO_BASE62, _UNFAIR)
    return body[:BODY_LENGTH]


def has_all_classes(body: bytes) -> bool:
    """Whether an upper-case letter, a lower-case letter and a digit all occur."""
    return not (body.isalpha() or body == body.lower() or body == body.upper())


def parse(text: str | bytes) -> ParsedKey:
    """Check the form and checksum of a key. Raises `InvalidKey`."""
    if len(text) > MAX_KEY_LENGTH:
        raise InvalidKey("A key is never that long.", "Check that only the key was copied.")
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    match = _KEY.fullmatch(text)
    if match is None:
        raise InvalidKey("This does not have the form of a key.", "Check that it was copied whole.")
    raw = text.encode("ascii")
    if check_of(raw[:-CHECK_LENGTH]) != raw[-CHECK_LENGTH:]:
        raise InvalidKey("The checksum of this key is wrong.", "Check it for a typo.")
    prefix, short = match.groups()
    return ParsedKey(prefix, KIND_OF_SHORT[short], text[-4:])


def looks_like_key(text: bytes) -> bool:
    """Whether anything in `text` could be a key, whole, cut short or mistyped."""
    return _KEY_IN_TEXT.search(text) is not None


def mask_keys(text: bytes) -> bytes:
    """`text` with everything that could be a key replaced by ``***``."""
    return _KEY_IN_TEXT.sub(b"***", text) if b"_" in text else text
