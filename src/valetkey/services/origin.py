"""Where an API is: scheme, host, port and a fixed prefix of the path. Exists only if valid.

The authority of a call comes from here alone, never from the caller.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from valetkey.services.dialling import IPAddress, Reach, reach_of, unwrapped

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,=:@-]+)*")  # RFC 3986 segments, no escapes, no semicolon
_DEFAULT_PORT: Final = {"http": 80, "https": 443}
_METADATA_NAMES: Final = frozenset(("metadata", "metadata.google.internal", "instance-data"))
_MAX_HOST: Final = 253  # RFC 1035, section 2.3.4, in text


class InvalidOrigin(ValueError):
    """An address of an API that cannot be used. The message says what to write."""


class Origin(msgspec.Struct, frozen=True):
    """``scheme://host[:port][/prefix]``; build it with `Origin.parse`."""

    scheme: Literal["http", "https"]
    host: str
    """Lower case, A-labels; an IPv6 address without brackets."""
    port: int
    prefix: str = ""
    """Begins with a slash and does not end with one, or is empty."""

    def __post_init__(self) -> None:
        if self.host != _checked_host(self.host):
            raise InvalidOrigin(f"{self.host!r} is no host name in plain form; write it in lower case.")
        if not 1 <= self.port <= 65535:
            raise InvalidOrigin(f"{self.port} is no port; write one from 1 to 65535.")
        if not _PREFIX.fullmatch(self.prefix) or any(part in (".", "..") for part in self.prefix.split("/")):
            raise InvalidOrigin("The path of a base URL is plain segments; leave out escapes, dots and //.")

    @classmethod
    def parse(cls, text: str, *, allow_plain: bool = False, allow_private: bool = False) -> Origin:
        """Read a base URL. Raises `InvalidOrigin`.

        Plain ``http`` is for loopback or `allow_plain`; loopback and private addresses need `allow_private`.
        """
        if any(ord(letter) <= 0x20 or ord(letter) == 0x7F or letter == "\\" for letter in text):
            raise InvalidOrigin("A base URL has no spaces, control characters or backslashes; remove them.")
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise InvalidOrigin(
                "The base URL cannot be read; write it as https://host or https://host:port."
            ) from None
        scheme = parts.scheme
        if scheme not in ("http", "https") or not parts.hostname:
            raise InvalidOrigin("A base URL begins with https:// and a host name; write it so.")
        if "@" in parts.netloc:
            raise InvalidOrigin("A base URL has no user name or password; set the key with `secret set`.")
        if "?" in text or "#" in text:
            raise InvalidOrigin("A base URL has no query and no fragment; leave them out.")
        origin = cls(
            "https" if scheme == "https" else "http",
            _checked_host(parts.hostname),
            _DEFAULT_PORT[scheme] if port is None else port,
            parts.path.rstrip("/") if not parts.path.endswith("//") else parts.path,
        )
        origin.check(allow_plain=allow_plain, allow_private=allow_private)
        return origin

    def check(self, *, allow_plain: bool, allow_private: bool) -> None:
        """Raise `InvalidOrigin` when this origin needs a permission that is not given."""
        literal = self.literal
        if self.host in _METADATA_NAMES or (literal is not None and reach_of(literal) is Reach.NEVER):
            raise InvalidOrigin(f"{self.host} is a metadata or reserved address; no service can be there.")
        private = self.is_loopback or (literal is not None and reach_of(literal) is Reach.PRIVATE)
        if private and not allow_private:
            raise InvalidOrigin(f"{self.host} is private; add --allow-private if that is meant.")
        if self.scheme == "http" and not (self.is_loopback or allow_plain):
            raise InvalidOrigin(
                "http:// sends the key in the clear; write https:// or add --allow-plain-upstream."
            )

    @property
    def literal(self) -> IPAddress | None:
        """The IP address, when the host is one."""
        try:
            return ip_address(self.host)
        except ValueError:
            return None

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine by its very name."""
        literal = self.literal
        if literal is not None:
            return unwrapped(literal).is_loopback
        return self.host == "localhost" or self.host.endswith(".localhost")  # RFC 6761, section 6.3

    @property
    def authority(self) -> str:
        """Value of the Host header: the port stands there only when it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORT[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.prefix}"


def _checked_host(host: str) -> str:
    """The host in lower case and A-labels. Raises `InvalidOrigin` for what resolvers read differently."""
    if "%" in host:
        raise InvalidOrigin("A host name has no percent signs or zones; write it plainly.")
    if ":" in host:
        try:
            return str(IPv6Address(host))
        except ValueError:
            raise InvalidOrigin(
                f"{host!r} is no IPv6 address; write it in brackets, as [2001:db8::1]."
            ) from None
    name = host.lower()
    if not name.isascii():
        name = _to_ascii(name)
    name = name[:-1] if name.endswith(".") else name
    labels = name.split(".")
    if len(name) > _MAX_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        raise InvalidOrigin(f"{host!r} is no host name; write letters, digits, dots and hyphens.")
    if _NUMBER.fullmatch(labels[-1]):
        # 127.1, 0x7f000001 and 2130706433 are 127.0.0.1 to many resolvers: four plain numbers or nothing
        try:
            return str(IPv4Address(name))
        except ValueError:
            raise InvalidOrigin(f"{host!r} is no IPv4 address; write four numbers, as 192.0.2.1.") from None
    return name


def _to_ascii(name: str) -> str:
    import idna  # only for names beyond ASCII; comes with the HTTP client

    try:
        return idna.encode(name, uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        raise InvalidOrigin("The host is no international name (IDNA 2008); write its xn-- form.") from None
