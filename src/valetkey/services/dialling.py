"""Which addresses a call may be sent to. Every address that a name resolves to is checked, then dialled.

An address is *public*, *private* (a service may allow it) or *never* (metadata services, our own ports, and
what is no host at all), whatever IPv6 form it is wrapped in.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Protocol, TypeAlias

import msgspec

IPAddress: TypeAlias = IPv4Address | IPv6Address


class Reach(Enum):
    """What kind of address it is."""

    PUBLIC = "public"
    PRIVATE = "private"
    NEVER = "never"


class AddressRefused(Exception):
    """A call may not be sent to that address. The message says why and what to change."""


class OwnListeners(msgspec.Struct, frozen=True):
    """Where we listen ourselves; no call is ever sent there."""

    ports: frozenset[int] = frozenset()
    addresses: frozenset[str] = frozenset()
    """Addresses of this machine beside loopback, in their shortest form."""


_NONE: Final = OwnListeners()


class Permits(Protocol):
    """The part of a service that matters here."""

    @property
    def allow_private(self) -> bool: ...


def _networks(*blocks: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(block) for block in blocks)


# Instance metadata, which hands out credentials to whoever can reach it: the common link-local address,
# AWS containers and pods, AWS and Google over IPv6, Alibaba, Oracle, Azure's host agent.
METADATA: Final = _networks(
    "169.254.169.254/32",
    "169.254.170.2/32",
    "169.254.170.23/32",
    "100.100.100.200/32",
    "192.0.0.192/32",
    "168.63.129.16/32",
    "fd00:ec2::254/128",
    "fd00:ec2::23/128",
    "fd20:ce::254/128",
)

# RFC 6890 and the IANA special-purpose registries; kept here because Python's own list changed between
# releases of 3.11.
_PRIVATE: Final = _networks(
    "10.0.0.0/8",
    "100.64.0.0/10",  # carrier-grade NAT, RFC 6598; Tailscale's too
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.2.0/24",  # documentation
    "192.168.0.0/16",
    "198.18.0.0/15",  # benchmarks
    "198.51.100.0/24",
    "203.0.113.0/24",
    "::1/128",
    "2001:db8::/32",
    "3fff::/20",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",  # site-local, deprecated and still in use
)
_NEVER: Final = _networks(
    "0.0.0.0/8",
    "192.0.0.0/24",
    "192.88.99.0/24",  # 6to4 relays
    "224.0.0.0/4",
    "240.0.0.0/4",
    "64:ff9b:1::/48",  # local NAT64, RFC 8215: where the IPv4 address stands is the network's secret
    "100::/64",
    "2001::/23",  # Teredo and other protocol assignments
    "5f00::/16",
    "ff00::/8",
)
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_COMPATIBLE: Final = IPv6Network("::/96")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR: Final = IPv6Network("2002::/16")


def unwrapped(address: IPAddress) -> IPAddress:
    """The IPv4 address inside a mapped, compatible, NAT64 or 6to4 IPv6 address; else the address itself."""
    if isinstance(address, IPv4Address):
        return address
    value = int(address)
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64 or (address in _COMPATIBLE and value > 1):
        return IPv4Address(value & 0xFFFF_FFFF)
    if address in _SIX_TO_FOUR:
        return IPv4Address((value >> 80) & 0xFFFF_FFFF)
    return address


def reach_of(address: IPAddress) -> Reach:
    """Public, private or never. Pure."""
    inner = unwrapped(_without_zone(address))
    if any(inner in block for block in METADATA) or any(inner in block for block in _NEVER):
        return Reach.NEVER
    if any(inner in block for block in _PRIVATE):
        return Reach.PRIVATE
    if isinstance(inner, IPv6Address) and inner not in _GLOBAL_UNICAST:
        return Reach.NEVER
    return Reach.PUBLIC


def address_allowed(address: str | IPAddress, port: int, service: Permits, own: OwnListeners = _NONE) -> None:
    """Return when a call of `service` may be sent to `address`; raise `AddressRefused` when not."""
    try:
        parsed = ip_address(address) if isinstance(address, str) else address
    except ValueError:
        raise AddressRefused("The name did not resolve to an IP address; check the service's host.") from None
    inner = unwrapped(_without_zone(parsed))
    reach = reach_of(parsed)
    if reach is Reach.NEVER:
        raise AddressRefused(f"Calls are never sent to {parsed} (metadata or reserved); change the host.")
    if port in own.ports and (inner.is_loopback or str(inner) in own.addresses):
        raise AddressRefused(f"{parsed} port {port} is this gateway itself; change the service's host.")
    if reach is Reach.PRIVATE and not service.allow_private:
        raise AddressRefused(f"{parsed} is a private address; add --allow-private if that is meant.")


def addresses_allowed(
    addresses: Iterable[str | IPAddress], port: int, service: Permits, own: OwnListeners = _NONE
) -> None:
    """`address_allowed` for all that a name resolved to: one that is refused refuses them all."""
    for address in addresses:
        address_allowed(address, port, service, own)


def _without_zone(address: IPAddress) -> IPAddress:
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return IPv6Address(int(address))
    return address
