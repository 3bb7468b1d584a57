"""Scrubbing of a whole answer at once, and what an upstream may write: slow and obvious."""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import urllib.parse
import zlib
from collections.abc import Callable, Sequence


def scrubbed(words: Sequence[bytes], data: bytes) -> bytes:
    """Every byte of every occurrence of every word becomes ``*``."""
    output = bytearray(data)
    for word in words:
        for place in range(len(data) - len(word) + 1):
            if data[place : place + len(word)] == word:
                output[place : place + len(word)] = b"*" * len(word)
    return bytes(output)


def open_end(words: Sequence[bytes], data: bytes) -> int:
    """Length of the longest end of `data` that is a true prefix of a word."""
    return max(
        (size for word in words for size in range(1, len(word)) if data.endswith(word[:size])), default=0
    )


def every_byte_escaped(secret: bytes) -> bytes:
    return "".join(f"\\u{ord(character):04x}" for character in secret.decode()).encode()


ECHOES: dict[str, Callable[[bytes], bytes]] = {
    "raw": lambda secret: secret,
    "percent": lambda secret: urllib.parse.quote(secret, safe="").encode(),
    "percent lower": lambda secret: _lower_percent(urllib.parse.quote(secret, safe="")),
    "form": lambda secret: urllib.parse.quote_plus(secret).encode(),
    "percent path": lambda secret: urllib.parse.quote(secret).encode(),
    "percent all": lambda secret: "".join(f"%{byte:02X}" for byte in secret).encode(),
    "percent all lower": lambda secret: "".join(f"%{byte:02x}" for byte in secret).encode(),
    "json": lambda secret: json.dumps(secret.decode())[1:-1].encode(),
    "json slash": lambda secret: json.dumps(secret.decode())[1:-1].replace("/", "\\/").encode(),
    "json for html": lambda secret: _html_safe(json.dumps(secret.decode())[1:-1]).encode(),
    "json all": every_byte_escaped,
    "json all upper": lambda secret: every_byte_escaped(secret).upper().replace(b"\\U", b"\\u"),
    "hex": binascii.hexlify,
    "hex upper": lambda secret: binascii.hexlify(secret).upper(),
    "base64": lambda secret: base64.b64encode(secret).rstrip(b"="),
    "base64 url": lambda secret: base64.urlsafe_b64encode(secret).rstrip(b"="),
    "basic user": lambda secret: base64.b64encode(secret + b":").rstrip(b"="),
    "basic password": lambda secret: base64.b64encode(b"known-user:" + secret).rstrip(b"="),
}
"""What an upstream may write, each to be covered from its first to its last character."""

CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "identity": lambda body: body,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
}


def determined(before: bytes, secret: bytes, after: bytes) -> tuple[int, int]:
    """Which characters of base64(before + secret + after) hold bits of `secret` and of nothing else."""
    owner = "b" * (8 * len(before)) + "s" * (8 * len(secret)) + "a" * (8 * len(after))
    places = [place for place in range(len(owner) // 6) if set(owner[6 * place : 6 * place + 6]) == {"s"}]
    return places[0], places[-1] + 1


def _lower_percent(text: str) -> bytes:
    pieces = text.split("%")
    return "%".join([pieces[0], *(piece[:2].lower() + piece[2:] for piece in pieces[1:])]).encode()


def _html_safe(text: str) -> str:
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
