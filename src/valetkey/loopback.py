"""Whether a host is this machine itself, by name or address."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether it is ``localhost`` or an address of the loopback interface, also an IPv4 one in IPv6's clothes."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
