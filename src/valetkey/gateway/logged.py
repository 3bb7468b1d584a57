"""What the journal keeps of a caller's path, query and headers: no keys, no values, no control characters."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from valetkey.keys.format import mask_keys

MAX_LOGGED = 512
"""Longest value of a caller's header that the journal keeps beside a record."""


MAX_NAMES = 16
"""Names of query fields that the journal keeps of a call."""
MAX_NAME = 40


def masked(path: str) -> str:
    """A path with recognised keys as ``***``, then shortened."""
    shown = mask_keys(path.encode()).decode() if "_" in path or "%" in path else path
    return shown if len(shown) <= MAX_LOGGED else shown[: MAX_LOGGED - 1] + "…"


def query_names(query: bytes) -> tuple[str, ...]:
    """Names of the first fields of a query, decoded, in order of the alphabet; never a value."""
    names = set()
    for piece in query.split(b"&", MAX_NAMES)[:MAX_NAMES]:
        name = mask_keys(unquote_to_bytes(piece.partition(b"=")[0]))[:MAX_NAME].decode("utf-8", "replace")
        if name:
            names.add(printable(name))
    return tuple(sorted(names))


def free_text(text: str | None) -> str | None:
    """Text from a question, with recognised keys as ``***``, shortened, printable."""
    if text is None:
        return None
    return printable(mask_keys(text.encode("utf-8", "replace"))[:MAX_LOGGED].decode("utf-8", "replace"))


def printable(text: str) -> str:
    """The text without control characters."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def header_text(value: bytes | None, *, without_query: bool = False) -> str | None:
    """The value of a header as text, shortened, with recognised keys as ``***``."""
    if value is None:
        return None
    if without_query:
        value = value.partition(b"?")[0]
    return printable(mask_keys(value)[:MAX_LOGGED].decode("utf-8", "replace"))
