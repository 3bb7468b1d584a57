"""The one canonicaliser of request paths: what it returns is what is matched and what is sent upstream.

A path that two programs could read in two ways is refused, never repaired. Only differences without meaning
(RFC 3986, section 6.2.2) are evened out, so that judging a judged path gives the same path again.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote_to_bytes

import msgspec

MAX_PATH_LENGTH = 8192
"""Octets of a path: more than any API's (RFC 9110, section 4.1, asks for 8,000); judging stays under 2 ms."""

MAX_CACHED_PATHS = 4096
"""Judged paths remembered by a process: enough for an API's usual paths, about 2 MB at the very most."""

MAX_CACHED_LENGTH = 256
"""Octets of the longest path worth remembering: longer ones rarely come twice and would fill memory."""


class PathRefused(ValueError):
    """A path that must not be judged. `reason` says why in words; the path itself is never repeated."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The path {reason}.")
        self.reason = reason


class JudgedPath(msgspec.Struct, frozen=True, gc=False):
    """A path in its only form. Made by `judge_path` alone."""

    text: str
    """ASCII; exactly these octets are matched and forwarded."""
    segments: tuple[str, ...]
    """`text` divided at its slashes, without the empty part before the first: ``/v1/`` is ``("v1", "")``.
    Where the service allows slashes inside a segment, a run of two or more slashes does not divide."""


_PCHAR = rb"A-Za-z0-9\-._~!$&'()*+,=:@"  # RFC 3986 pchar without escapes, and without ";" (parameters)
# No possessive quantifiers: Python 3.11.2, Debian 12's, lets "/a//" through with them.
_PLAIN = re.compile(rb"(?:/[" + _PCHAR + rb"]+)+/?|/")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_REWRITTEN = re.compile(rb"%[0-9A-Fa-f]{2}|[^/" + _PCHAR + rb"]")
_INNER_SLASH = re.compile(r"/|%2F")
_SINGLE_SLASH = re.compile(r"(?<!/)/(?!/)")

_REFUSED_AS_SENT: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"[\x00-\x1f\x7f]"), "holds a control character"),
    (re.compile(rb" "), "holds a space that is not encoded"),
    (re.compile(rb"\\"), "holds a backslash"),
    (re.compile(rb";"), "holds a parameter (';')"),
    (re.compile(rb"[?#]"), "holds a query or a fragment"),
    (re.compile(rb"%(?![0-9A-Fa-f]{2})"), "holds a broken percent escape"),
)
_REFUSED_AFTER: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"%(?:[01][0-9A-F]|7F)"), "holds an encoded control character"),
    (re.compile(r"%5C"), "holds an encoded backslash"),
    # Looked for last, because decoding `%25%36%31` once is what makes the double escape `%2561` visible.
    (re.compile(r"%25[0-9A-Fa-f]{2}"), "is percent-encoded twice"),
)


def judge_path(raw: bytes, *, encoded_slash: bool = False) -> JudgedPath:
    """Return the only form of the target's path, given as raw octets without query.

    An escaped unreserved octet is decoded once, other escapes get upper-case digits; octets that a path may
    not carry as they are (non-ASCII UTF-8 and ``"<>[]^`{|}``) become escapes. With `encoded_slash`, ``%2F``
    and doubled slashes (but not in front) may stand inside one segment. Raises `PathRefused`.
    """
    if len(raw) > MAX_CACHED_LENGTH:
        return _judge(raw, encoded_slash)
    return _judge_cached(raw, encoded_slash)


def _judge(raw: bytes, encoded_slash: bool) -> JudgedPath:
    if _PLAIN.fullmatch(raw) and b"/." not in raw and len(raw) <= MAX_PATH_LENGTH:
        text = raw.decode("ascii")
        return JudgedPath(text, tuple(text[1:].split("/")))
    return _judge_slowly(raw, encoded_slash)


_judge_cached = lru_cache(maxsize=MAX_CACHED_PATHS)(_judge)


def _judge_slowly(raw: bytes, encoded_slash: bool) -> JudgedPath:
    if len(raw) > MAX_PATH_LENGTH:
        raise PathRefused(f"is longer than {MAX_PATH_LENGTH} octets")
    if not raw.startswith(b"/"):
        raise PathRefused("does not begin with a slash")
    for as_sent, reason in _REFUSED_AS_SENT:
        if as_sent.search(raw):
            raise PathRefused(reason)
    text = _REWRITTEN.sub(_rewrite, raw).decode("ascii")
    for after, reason in _REFUSED_AFTER:
        if after.search(text):
            raise PathRefused(reason)
    if not (_is_utf8(raw) and _is_utf8(unquote_to_bytes(text))):
        raise PathRefused("is not UTF-8")
    if not encoded_slash and "%2F" in text:
        raise PathRefused("holds an encoded slash")
    if text.startswith("//") or (not encoded_slash and "//" in text):
        raise PathRefused("holds a doubled slash")
    if any(part in {".", ".."} for part in _INNER_SLASH.split(text)):
        raise PathRefused("holds a dot segment")
    return JudgedPath(text, tuple(_SINGLE_SLASH.split(text)[1:]))


def _rewrite(found: re.Match[bytes]) -> bytes:
    octets = found[0]
    if len(octets) == 1:
        return b"%%%02X" % octets[0]
    value = int(octets[1:], 16)
    return bytes((value,)) if value in _UNRESERVED else octets.upper()


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
