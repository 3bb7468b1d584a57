"""Who calls: the socket's address, or what configured proxies say, walked from the right to the first stranger."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

from valetkey.decision.address import Address, parse_address


class AddressUnclear(ValueError):
    """Forwarding headers that cannot be believed: two kinds at once, or unreadable."""


class ClientAddress:
    """Finds the address of the caller. Without trusted proxies, forwarding headers mean nothing."""

    def __init__(self, trusted: Sequence[str]) -> None:
        self._trusted = tuple(ipaddress.ip_network(network) for network in trusted)

    @property
    def believes_headers(self) -> bool:
        """Whether forwarding headers have to be looked at."""
        return bool(self._trusted)

    def peer(self, peer: str) -> Address:
        """The socket's own address."""
        return _parse(peer)

    def find(self, peer: str, forwarded_for: bytes | None, forwarded: bytes | None) -> Address:
        """The caller's address. Raises `AddressUnclear`."""
        address = _parse(peer)
        if not self._trusted or not self._is_trusted(address):
            return address
        if forwarded_for is not None and forwarded is not None:
            raise AddressUnclear("Two kinds of forwarding headers at once.")
        hops = _hops(forwarded_for) if forwarded_for is not None else _forwarded(forwarded or b"")
        for hop in reversed(hops):
            address = _parse(hop)
            if not self._is_trusted(address):
                break
        return address

    def _is_trusted(self, address: Address) -> bool:
        parsed = (ipaddress.IPv4Address if address.version == 4 else ipaddress.IPv6Address)(address.value)
        return any(parsed.version == network.version and parsed in network for network in self._trusted)


@lru_cache(maxsize=4096)
def address_bytes(address: Address) -> bytes:
    """The octets that address rates are counted by."""
    return address.value.to_bytes(4 if address.version == 4 else 16, "big")


def _parse(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError:
        raise AddressUnclear("A forwarding header names something that is no address.") from None


def _hops(value: bytes) -> list[str]:
    return [_without_port(part.strip().decode("latin-1")) for part in value.split(b",") if part.strip()]


def _forwarded(value: bytes) -> list[str]:
    """The ``for`` parameters of a Forwarded header (RFC 7239), in order."""
    hops = []
    for element in value.decode("latin-1").split(",") if value else ():
        named = [
            text.strip().strip('"')
            for pair in element.split(";")
            for name, _, text in [pair.strip().partition("=")]
            if name.lower() == "for"
        ]
        if len(named) != 1:
            raise AddressUnclear("A hop of the Forwarded header does not say whom it speaks for.")
        hops.append(_without_port(named[0]))
    return hops


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
