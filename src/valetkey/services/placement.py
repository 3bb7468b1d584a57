"""How a key is put into a call: one small frozen type a way, with one method.

The same types say where our key is put in (`Service.placement`) and where a caller may put a valet key
(`Service.accepts`). Header names are kept in lower case; a query credential is attached last of all.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from typing import ClassVar, Final, Literal, NamedTuple, TypeAlias
from urllib.parse import quote

import msgspec

KEY: Final = "key"
"""Name of the part that is the key itself, in the parts of a secret."""

SecretParts: TypeAlias = Mapping[str, str]
"""The parts of a plain secret; most have one, named `KEY`."""

HeaderList: TypeAlias = list[tuple[str, str]]

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}")  # RFC 9110, section 5.6.2
_FIELD = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")  # visible ASCII, inner spaces
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

HOP_BY_HOP: Final = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    )
)
"""Headers that end at the next hop (RFC 9110, section 7.6.1, and older clients' own)."""

OVERRIDES: Final = frozenset(
    (
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
        "x-original-url",
        "x-rewrite-url",
        "x-original-method",
        "x-forwarded-method",
    )
)
"""Headers by which a caller would change the judged method or path behind our back."""

FORWARDING: Final = frozenset(
    (
        "forwarded",
        "x-forwarded",
        "x-real-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-original-forwarded-for",
        "x-originating-ip",
        "x-remote-ip",
        "x-remote-addr",
        "true-client-ip",
        "cf-connecting-ip",
        "fastly-client-ip",
        "via",
    )
)
"""Headers that speak of the way the call came; every ``x-forwarded-*`` counts too."""

NEVER_A_CREDENTIAL: Final = (
    HOP_BY_HOP
    | OVERRIDES
    | FORWARDING
    | frozenset(
        (
            "host",
            "content-length",
            "content-type",
            "content-encoding",
            "content-range",
            "expect",
            "range",
            "if-range",
            "accept-encoding",
            "cookie",
            "set-cookie",
            "origin",
            "date",
            "proxy",
        )
    )
)
"""Header names that frame, route or judge a call; a key never goes into one."""


class InvalidPlacement(ValueError):
    """A way to put a key in that cannot exist. The message says why and what to write."""


class SecretRefused(Exception):
    """A secret that cannot be put in. The message never shows any of it."""


class Place(NamedTuple):
    """One spot of a request: what has to be emptied before a key is put in."""

    kind: Literal["header", "query"]
    name: str


class Placement(msgspec.Struct, frozen=True, tag_field="type", forbid_unknown_fields=True):
    """Base of all ways."""

    option: ClassVar[str]
    """Form of the command-line option that makes it."""

    @property
    def places(self) -> frozenset[Place]:
        """Every spot this way occupies."""
        raise NotImplementedError

    def put_in(self, parts: SecretParts, headers: HeaderList, query: bytes) -> bytes:
        """Append the key to `headers`, or return the query with it. Raises `SecretRefused`."""
        raise NotImplementedError


class Bearer(Placement, frozen=True, tag="bearer"):
    """``Authorization: Bearer KEY`` (RFC 6750), or another scheme of one token, as GitHub's ``token``."""

    option: ClassVar[str] = "bearer"
    scheme: str = "Bearer"

    def __post_init__(self) -> None:
        if not _TOKEN.fullmatch(self.scheme):
            raise InvalidPlacement(f"{self.scheme!r} is no name of a scheme; write one word, as in Bearer.")
        if self.scheme.lower() == "basic":
            raise InvalidPlacement("The Basic scheme encodes its credential; write basic instead.")

    @property
    def places(self) -> frozenset[Place]:
        return frozenset((Place("header", "authorization"),))

    def put_in(self, parts: SecretParts, headers: HeaderList, query: bytes) -> bytes:
        headers.append(("authorization", f"{self.scheme} {_header_value(parts)}"))
        return query


class Header(Placement, frozen=True, tag="header"):
    """``NAME: KEY``, the value alone."""

    option: ClassVar[str] = "header:NAME"
    name: str

    def __post_init__(self) -> None:
        _check_header_name(self.name)

    @property
    def places(self) -> frozenset[Place]:
        return frozenset((Place("header", self.name),))

    def put_in(self, parts: SecretParts, headers: HeaderList, query: bytes) -> bytes:
        headers.append((self.name, _header_value(parts)))
        return query


class Query(Placement, frozen=True, tag="query"):
    """``?NAME=KEY``, after all that the caller sent."""

    option: ClassVar[str] = "query:NAME"
    name: str

    def __post_init__(self) -> None:
        if not _TOKEN.fullmatch(self.name):
            raise InvalidPlacement(
                f"{self.name!r} is no name of a query field; write letters, digits and - _ ."
            )
        if self.name.lower() == "_method":
            raise InvalidPlacement("_method changes the method of a call; a key cannot stand there.")

    @property
    def places(self) -> frozenset[Place]:
        return frozenset((Place("query", self.name.lower()),))

    def put_in(self, parts: SecretParts, headers: HeaderList, query: bytes) -> bytes:
        return attach_query(query, self.name, parts)


class Basic(Placement, frozen=True, tag="basic"):
    """``Authorization: Basic base64(user:password)`` (RFC 7617).

    With ``key_is = "user"`` the key is the user name and the password is empty; a secret that has a colon is
    taken as ``user:password``. With ``key_is = "password"`` the key stands behind `user`, or behind the
    secret's own part ``user``.
    """

    option: ClassVar[str] = "basic"
    key_is: Literal["user", "password"] = "user"
    user: str = ""

    def __post_init__(self) -> None:
        if ":" in self.user or _CONTROL.search(self.user):
            raise InvalidPlacement("A user name has no colon and no control characters; leave them out.")
        if self.user and self.key_is == "user":
            raise InvalidPlacement("The key is the user name here; leave the user name out.")

    @property
    def places(self) -> frozenset[Place]:
        return frozenset((Place("header", "authorization"),))

    def put_in(self, parts: SecretParts, headers: HeaderList, query: bytes) -> bytes:
        key = _plain(parts)
        if self.key_is == "password":
            user = parts.get("user", self.user)
            if ":" in user or _CONTROL.search(user):
                raise SecretRefused("The secret's user name has a colon or control characters; set it anew.")
            pair = f"{user}:{key}"
        else:
            pair = key if ":" in key else f"{key}:"
        headers.append(("authorization", "Basic " + b64encode(_utf8(pair)).decode("ascii")))
        return query


AnyPlacement: TypeAlias = Bearer | Header | Query | Basic
WAYS: Final[tuple[type[Placement], ...]] = (Bearer, Basic, Header, Query)


def parse_auth(text: str) -> AnyPlacement:
    """Read ``bearer | basic | header:NAME | query:NAME``. Raises `InvalidPlacement`."""
    way, colon, name = text.partition(":")
    way = way.strip().lower()
    if way == "bearer" and not colon:
        return Bearer()
    if way == "basic" and not colon:
        return Basic()
    if way == "header" and name:
        return Header(name.lower())
    if way == "query" and name:
        return Query(name)
    known = " | ".join(kind.option for kind in WAYS)
    raise InvalidPlacement(f"{text!r} is no way to put a key in; write one of {known}.")


def accepted_beside(placement: AnyPlacement) -> tuple[AnyPlacement, ...]:
    """Where a caller may put a valet key when nothing else is said: where the real one goes."""
    if isinstance(placement, Basic):
        return (Basic("user"), Basic("password"))
    return (placement,)


def attach_query(query: bytes, name: str, parts: SecretParts) -> bytes:
    """The query with ``name=KEY`` behind it. The only place where a secret enters a URL.

    Whatever fails here is answered by an error of ours with nothing chained to it: the codec's own errors
    carry the text that they could not encode.
    """
    attached: bytes | None = None
    try:
        value = _plain(parts).encode("utf-8")
        pair = quote(name, safe="").encode("ascii") + b"=" + quote(value, safe="").encode("ascii")
        attached = query + b"&" + pair if query else pair
    except Exception:  # noqa: S110 - raised below, outside, so that no context is kept
        pass
    if attached is None:
        raise SecretRefused("The secret cannot be put into a query; set it anew without control characters.")
    return attached


def _plain(parts: SecretParts) -> str:
    key = parts.get(KEY, "")
    if not key or _CONTROL.search(key):
        raise SecretRefused("The secret is empty or has control characters; set it anew.")
    return key


def _header_value(parts: SecretParts) -> str:
    key = parts.get(KEY, "")
    # ASCII only: RFC 9110 leaves the rest undefined, and the client library would send UTF-8 for Latin-1
    if not _FIELD.fullmatch(key):
        raise SecretRefused("The secret cannot stand in a header; set it anew, in printable ASCII.")
    return key


def _utf8(text: str) -> bytes:
    encoded: bytes | None = None
    try:
        encoded = text.encode("utf-8")
    except UnicodeEncodeError:
        pass  # raised below: this error would carry the secret
    if encoded is None:
        raise SecretRefused("The secret is not valid Unicode; set it anew.")
    return encoded


def _check_header_name(name: str) -> None:
    if not _TOKEN.fullmatch(name):
        raise InvalidPlacement(f"{name!r} is no header name (RFC 9110 token); write one as in X-Api-Key.")
    if name != name.lower():
        raise InvalidPlacement(f"Header names are kept in lower case; write {name.lower()!r}.")
    if name in NEVER_A_CREDENTIAL or name.startswith(("x-forwarded-", "proxy-", "sec-")):
        raise InvalidPlacement(
            f"A key cannot go into {name!r}: it frames or routes the call. Choose another."
        )
