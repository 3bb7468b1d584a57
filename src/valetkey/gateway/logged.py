"""What the journal keeps of a caller's path, query and headers: no keys, no values, no control characters."""

from __future__ import annotations

import sys

from valetkey.keys.format import mask_keys

MAX_LOGGED = 512
"""Longest value of a caller's header that the journal keeps beside a record."""


def masked(path: str) -> str:
    """A path, or a name of the query, with recognised keys as ``***``."""
    return mask_keys(path.encode()).decode() if "_" in path else path


def query_names(query: bytes) -> tuple[str, ...]:
    """Names of the first 32 fields of a query, in order of the alphabet; never a value."""
    names = {piece.partition(b"=")[0][:64].decode("ascii", "replace") for piece in query.split(b"&")[:32]}
    return tuple(sorted(masked(name) for name in names if name))


def header_text(value: bytes | None, *, without_query: bool = False) -> str | None:
    """The value of a header as text, shortened, with recognised keys as ``***``."""
    if value is None:
        return None
    if without_query:
        value = value.partition(b"?")[0]
    text = mask_keys(value[:MAX_LOGGED]).decode("utf-8", "replace")
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def note_failure(error: BaseException) -> None:
    """One line for the operator about an error of ours: its kind and place, never its text, which may hold a key."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
    print(f"valetkey: {type(error).__name__}{where}", file=sys.stderr, flush=True)
