"""The address a call comes from, in one form: IPv4 inside IPv6 is unmapped before anything is matched."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TypeAlias

import msgspec

MAX_ADDRESS_LENGTH = len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255")
"""Characters of the longest spelling; longer texts are not even read."""

MAX_CACHED_ADDRESSES = 8192
"""Parsed addresses remembered by a process: callers come back, and an entry takes about 300 bytes."""

_BITS = {4: 32, 6: 128}
_MAPPED = 0xFFFF  # the upper 96 bits of ::ffff:0:0/96, RFC 4291 section 2.5.5.2


Place: TypeAlias = tuple[int, int]
"""An IPv4 address or an IPv6 /64: version, and its first 32 or 64 bits."""


class Address(msgspec.Struct, frozen=True, gc=False):
    """One IPv4 or IPv6 address; never an IPv4 address dressed as IPv6."""

    version: int
    """4 or 6."""
    value: int
    """The address as an unsigned number, network order."""

    def __post_init__(self) -> None:
        bits = _BITS.get(self.version)
        if bits is None or not 0 <= self.value < 1 << bits:
            raise ValueError("An address is version 4 or 6 with a number of 32 or 128 bits.")
        if self.version == 6 and self.value >> 32 == _MAPPED:
            raise ValueError("An IPv4-mapped address must be given as the IPv4 address it stands for.")

    @property
    def place(self) -> Place:
        """What a caller keeps: of an IPv6 address the network that it was given, of which it changes the rest."""
        return self.version, self.value if self.version == 4 else self.value >> 64

    @property
    def text(self) -> str:
        """The usual spelling (RFC 5952)."""
        return _spelled(self.version, self.value)


@lru_cache(maxsize=MAX_CACHED_ADDRESSES)
def _spelled(version: int, value: int) -> str:
    return str((ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address)(value))


def place_text(place: Place) -> str:
    """``203.0.113.7`` or ``2001:db8:1:2::/64``."""
    version, value = place
    return _spelled(4, value) if version == 4 else f"{_spelled(6, value << 64)}/64"


def parse_place(text: str) -> Place:
    """What `place_text` gave. Raises ValueError."""
    return parse_address(text.removesuffix("/64")).place


@lru_cache(maxsize=MAX_CACHED_ADDRESSES)
def parse_address(text: str) -> Address:
    """Return the address that `text` spells. Raises ValueError.

    IPv4 is four decimal octets without leading zeros and nothing else; IPv6 any spelling of RFC 4291 without
    a zone, brackets or port; an IPv4-mapped address becomes the IPv4 address.
    """
    if "%" in text:
        raise ValueError("An address with a zone means something on one machine only; leave the zone out.")
    try:
        if len(text) > MAX_ADDRESS_LENGTH:
            raise ValueError
        parsed = ipaddress.ip_address(text)
    except ValueError:
        # The cause is left out: its message repeats what the caller sent.
        raise ValueError("That is not an IPv4 or IPv6 address in its usual spelling.") from None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return Address(parsed.version, int(parsed))
