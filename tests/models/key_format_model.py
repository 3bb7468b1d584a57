"""The key format read straight from docs/formats/key.md: bit by bit, slow and obvious."""

from __future__ import annotations

import hashlib

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
KINDS = ("pub", "prv", "ptr", "tmp", "svc", "api")


def crc32(data: bytes) -> int:
    """CRC-32/ISO-HDLC, one bit at a time."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0xEDB88320 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def check(text: str) -> str:
    number = crc32(text.encode())
    characters = ""
    while number:
        characters = DIGITS[number % 62] + characters
        number //= 62
    return characters.rjust(6, "0")


def is_key(text: str) -> bool:
    pieces = text.split("_")
    if len(pieces) != 3:
        return False
    prefix, kind, rest = pieces
    lower, digits = "abcdefghijklmnopqrstuvwxyz", "0123456789"
    if not 2 <= len(prefix) <= 10 or prefix[0] not in lower:
        return False
    if any(character not in lower + digits for character in prefix) or kind not in KINDS:
        return False
    if not 43 + 6 <= len(rest) <= 86 + 6 or any(character not in DIGITS for character in rest):
        return False
    return check(text[:-6]) == text[-6:]


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """RFC 2104, for keys of up to 64 bytes."""
    block = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block) + message).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in block) + inner).digest()


def fingerprint(text: str, index_key: bytes) -> bytes:
    return hmac_sha256(index_key, hashlib.sha256(text.encode()).digest())
