"""Taking the valet key out of a call, and putting the real one in.

An `Intake` is compiled once a service. `Intake.take` goes over the headers once: it finds the one credential,
empties every place where the service takes one, and drops what a caller must not hand on. Only what it
returned can be given to `Intake.put_in`.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Iterable
from typing import ClassVar, Final
from urllib.parse import unquote_to_bytes

import msgspec

from valetkey.decision.codes import Code
from valetkey.services.placement import (
    FORWARDING,
    HOP_BY_HOP,
    OVERRIDES,
    AnyPlacement,
    Basic,
    Bearer,
    Header,
    HeaderList,
    Query,
    SecretParts,
)
from valetkey.services.service import InvalidService, Service

MAX_KEY: Final = 1024
"""Longest key in characters; ours have under 70, imported ones of other makers stay well below."""
UNLIKELY: Final = 12
"""A value of so many characters stands nowhere by chance; an imported key may be shorter."""

_KEY = re.compile(rb"[\x21-\x2b\x2d-\x7e]{1,%d}" % MAX_KEY)  # a comma would be two headers joined into one
_SPACE: Final = b" \t"
_DELETED: Final = frozenset(b"connection keep-alive close".split())

# What the table says of a header name, beside "hand on under this name".
_DROP, _AUTHORIZATION, _KEY_HEADER, _CONNECTION, _RANGE, _SINGLE = range(6)
_KEYED: Final = (_AUTHORIZATION, _KEY_HEADER)

# Names are folded before they are compared: letters to lower case, and dot and space to underscore, because
# PHP serves `api.key`, `api key` and `api_key` from one variable.
_FOLD: Final = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ. ", b"abcdefghijklmnopqrstuvwxyz__")
_METHOD_FIELD: Final = b"_method"

# Handed on often: one look-up tells it.
_COMMON: Final = """
    accept accept-language anthropic-beta anthropic-version baggage cache-control content-encoding
    content-language content-md5 content-type date idempotency-key if-match if-modified-since
    if-none-match if-unmodified-since openai-beta openai-organization openai-project origin pragma
    prefer priority referer stripe-account stripe-context stripe-version traceparent tracestate
    user-agent x-client-request-id x-github-api-version x-request-id x-requested-with
    x-stainless-arch x-stainless-async x-stainless-helper-method x-stainless-lang x-stainless-os
    x-stainless-package-version x-stainless-read-timeout x-stainless-retry-count x-stainless-runtime
    x-stainless-runtime-version x-stainless-timeout x-stripe-client-telemetry
    x-stripe-client-user-agent
"""

_ALWAYS_DROPPED: Final = (
    HOP_BY_HOP
    | OVERRIDES
    | FORWARDING
    | frozenset(("host", "content-length", "accept-encoding", "cookie", "expect", "proxy"))
)
"""Content-Length is set anew by whoever sends the body; identity is asked as coding."""

_IDENTITY: Final = ("accept-encoding", "identity")


class IntakeRefused(Exception):
    """A call that carries its credential in a way that is refused. `reason` never shows any of it."""

    code: ClassVar[Code]

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Malformed(IntakeRefused):
    """Not exactly one well-formed credential in a place where the service takes one."""

    code = Code.MALFORMED


class MethodRefused(IntakeRefused):
    """The query carries a field that would change the method behind the judge's back."""

    code = Code.METHOD_REFUSED


class Taken(msgspec.Struct, frozen=True):
    """A call without its valet key, ready for the real one."""

    value: str
    """The valet key as sent."""
    place: AnyPlacement
    """Where it stood."""
    headers: HeaderList
    """What is handed on, in order, with names in lower case; no key, no Content-Length, no Host."""
    query: bytes
    """All other bytes of the query, as they came."""
    range: HeaderList
    """Range and If-Range, for endpoints of the catalogue that answer with files."""

    def __repr__(self) -> str:
        return f"Taken(value=***, place={self.place!r}, {len(self.headers)} headers)"


class Intake:
    """How one service's calls are relieved of the valet key and given the real one."""

    __slots__ = (
        "_authorization",
        "_closed",
        "_names",
        "_placement",
        "_schemes",
        "_single",
        "_table",
        "_twice",
    )

    def __init__(self, service: Service) -> None:
        if service.placement is None:
            raise InvalidService(f"{service.name} is an own service; nothing is put into its calls.")
        self._placement: AnyPlacement = service.placement
        self._twice = service.same_key_twice
        self._schemes: dict[bytes, tuple[AnyPlacement, ...]] = {}
        self._authorization: Header | None = None
        self._names: dict[bytes, Query | None] = {}
        self._single: dict[bytes, Header] = {}
        self._table: dict[bytes, str | int] = {name.encode(): name for name in _COMMON.split()}
        self._table |= {name.encode(): _DROP for name in _ALWAYS_DROPPED}
        self._table |= {b"connection": _CONNECTION, b"range": _RANGE, b"if-range": _RANGE}
        self._table[b"authorization"] = _SINGLE
        if service.cookies:
            self._table[b"cookie"] = "cookie"
        for way in (service.placement, *service.accepts):
            for place in way.places:
                name = place.name.encode()
                if place.kind == "query":
                    self._names.setdefault(name.translate(_FOLD))
                else:
                    self._table[name] = _AUTHORIZATION if name == b"authorization" else _DROP
        for way in service.accepts:
            self._accept(way)
        self._closed = frozenset((_METHOD_FIELD, *self._names))

    @classmethod
    def compile(cls, service: Service) -> Intake:
        """The intake of a service. Raises `InvalidService` for an own service."""
        return cls(service)

    def _accept(self, way: AnyPlacement) -> None:
        if isinstance(way, Bearer):
            self._schemes[way.scheme.lower().encode()] = (way,)
        elif isinstance(way, Basic):
            self._schemes[b"basic"] = (*self._schemes.get(b"basic", ()), way)
        elif isinstance(way, Query):
            self._names[way.name.encode().translate(_FOLD)] = way
        elif way.name == "authorization":
            self._authorization = way
        else:
            self._table[way.name.encode()] = _KEY_HEADER
            self._single[way.name.encode()] = way

    def take(self, headers: Iterable[tuple[bytes, bytes]], query: bytes = b"") -> Taken:
        """Find the one credential and return the call without it. Raises `Malformed` or `MethodRefused`.

        `headers`: names in lower case, in order.
        """
        value: str | None = None
        place: AnyPlacement | None = None
        if query:
            query, value, place = self._take_query(query)
        table = self._table
        kept: HeaderList = [_IDENTITY]
        ranges: HeaderList = []
        connection = b""
        authorized = unreadable = False
        try:
            for name, content in headers:
                known = table.get(name)
                if known.__class__ is str:
                    kept.append((known, content.decode()))
                elif known is None:
                    if not self._dropped(name):
                        kept.append((name.decode("ascii"), content.decode()))
                elif known in _KEYED:
                    if known == _AUTHORIZATION:
                        found, where = self._from_authorization(content)
                    else:
                        found, where = _key(content.strip(_SPACE)), self._single[name]
                    if value is not None and (value != found or not self._twice or where == place):
                        raise Malformed("The call carries more than one key; send one.")
                    value, place = found, where
                elif known == _CONNECTION:
                    connection += b"," + content
                elif known == _RANGE:
                    ranges.append((name.decode(), content.decode()))
                elif known == _SINGLE:
                    if authorized:
                        raise Malformed("The call has more than one Authorization header; send one.")
                    authorized = True
                    kept.append(("authorization", content.decode()))
        except UnicodeDecodeError:
            unreadable = True
        if unreadable:  # raised here, so that the error of the codec and the bytes in it are not kept
            raise Malformed("A header is not valid UTF-8; send plain text.")
        if value is None or place is None:
            raise Malformed(
                "The call carries no key where this API takes one; most take Authorization: Bearer KEY."
            )
        if connection:
            kept = _without_named(connection, kept)
        if len(value) >= UNLIKELY:
            kept = _without_key(value, kept)
            ranges = _without_key(value, ranges)
            if query:
                query = _query_without_key(value.encode(), query)
        return Taken(value, place, kept, query, ranges)

    def put_in(self, taken: Taken, secret: SecretParts, *, media: bool = False) -> tuple[HeaderList, bytes]:
        """Headers and query for the upstream, with the real key. Raises `SecretRefused`.

        With `media` (the judged endpoint answers with files) Range and If-Range go with them.
        """
        headers = taken.headers + taken.range if media else taken.headers.copy()
        return headers, self._placement.put_in(secret, headers, taken.query)

    def _dropped(self, name: bytes) -> bool:
        # `x_api_key` is `x-api-key` to servers behind CGI or WSGI
        plain = name.replace(b"_", b"-") if b"_" in name else name
        return plain.startswith(b"x-forwarded-") or (
            plain is not name and self._table.get(plain).__class__ is int
        )

    def _from_authorization(self, content: bytes) -> tuple[str, AnyPlacement]:
        scheme, _, rest = content.strip(_SPACE).partition(b" ")
        ways = self._schemes.get(scheme.lower())
        if ways is None:
            if self._authorization is None or rest:
                raise Malformed(
                    "The Authorization header has a scheme that this API does not use; most take Bearer KEY."
                )
            return _key(scheme), self._authorization
        if scheme.lower() == b"basic":
            return _from_basic(rest.strip(_SPACE), ways)
        return _key(rest.strip(_SPACE)), ways[0]

    def _take_query(self, query: bytes) -> tuple[bytes, str | None, AnyPlacement | None]:
        value: str | None = None
        place: AnyPlacement | None = None
        reason = ""
        kept = []
        pieces = query.split(b"&")
        for piece in pieces:
            name = _field_name(piece)
            if name == _METHOD_FIELD:
                raise MethodRefused("The query has a field _method; send the method itself.")
            if b";" in piece and not self._closed.isdisjoint(map(_field_name, piece.split(b";")[1:])):
                reason = "A field of the query stands behind a semicolon; use & alone."
            if name not in self._names:
                kept.append(piece)
                continue
            way = self._names[name]
            if way is None:
                continue  # ours goes there, but callers put theirs elsewhere
            if value is not None:
                reason = "The query carries more than one key; send one."
                continue
            text = unquote_to_bytes(piece.partition(b"=")[2].replace(b"+", b" "))
            if _KEY.fullmatch(text):
                value, place = text.decode("ascii"), way
            else:
                reason = "The key in the query is empty or not a key at all; copy it whole."
        if reason:
            raise Malformed(reason)
        return query if len(kept) == len(pieces) else b"&".join(kept), value, place


def _without_key(value: str, headers: HeaderList) -> HeaderList:
    """Drop what repeats the valet key where the service takes none: alone, behind a scheme, or in a list."""
    for _, content in headers:
        if value in content:
            return [pair for pair in headers if value not in pair[1].replace(",", " ").split()]
    return headers


def _query_without_key(key: bytes, query: bytes) -> bytes:
    """Drop fields of the query that repeat the valet key."""
    if key not in query and b"%" not in query:
        return query
    pieces = query.split(b"&")
    kept = [piece for piece in pieces if not _is_key(key, piece)]
    return query if len(kept) == len(pieces) else b"&".join(kept)


def _is_key(key: bytes, piece: bytes) -> bool:
    name, _, value = piece.partition(b"=")
    return any(key in (text, unquote_to_bytes(text)) for text in (name, value))


def _field_name(piece: bytes) -> bytes:
    name = piece.partition(b"=")[0]
    if b"%" in name or b"+" in name:
        name = unquote_to_bytes(
            name.replace(b"+", b" ")
        )  # once: what is decoded twice is the upstream's fault
    # At a NUL a name is over, to what is written in C.
    name = name.partition(b"\0")[0].strip().translate(_FOLD)
    return name.partition(b"[")[0] if b"[" in name else name  # `key[]` is `key` to PHP and Rails


def _key(content: bytes) -> str:
    if not _KEY.fullmatch(content):
        raise Malformed("The key is empty or not a key at all; copy it whole.")
    return content.decode("ascii")


def _from_basic(encoded: bytes, ways: tuple[AnyPlacement, ...]) -> tuple[str, AnyPlacement]:
    decoded: bytes | None = None
    try:
        decoded = b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        pass
    if decoded is None or b":" not in decoded:
        raise Malformed("The Basic credential cannot be read; send base64 of user:password.")
    user, _, password = decoded.partition(b":")
    wanted = "password" if password else "user"
    for way in ways:
        if isinstance(way, Basic) and way.key_is == wanted:
            return _key(password or user), way
    raise Malformed(
        "This API takes the key as the password; send it there."
        if wanted == "user"
        else "This API takes the key as the user name with no password; send it so."
    )


def _without_named(connection: bytes, kept: HeaderList) -> HeaderList:
    """Drop what Connection names (RFC 9110, section 7.6.1); our own key is put in later."""
    named = {token.strip(_SPACE).lower() for token in connection.split(b",")} - _DELETED
    names = {token.decode("latin-1") for token in named if token}
    if not names:
        return kept
    return [_IDENTITY, *(header for header in kept[1:] if header[0] not in names)]
