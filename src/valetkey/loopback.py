"""Whether a host is this machine itself, by name or address."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether it is ``localhost`` or an address of the loopback interface."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
