"""The networks of one of this machine's interfaces, from the kernel (Linux)."""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
from pathlib import Path

from valetkey.cli.failure import Failure

_SIOCGIFADDR = 0x8915
_SIOCGIFNETMASK = 0x891B
_LONGEST_NAME = 15
"""IFNAMSIZ of linux/if.h, without its NUL."""
_LINK_LOCAL = ipaddress.IPv6Network("fe80::/10")


def networks_of(interface: str) -> tuple[str, ...]:
    """Blocks of the interface's IPv4 address and of its IPv6 addresses, link-local ones left out.

    Raises `Failure` where there is no such interface or it has no address.
    """
    if not sys.platform.startswith("linux"):
        raise Failure("Interfaces can be read on Linux only.", "Give the address blocks themselves.")
    if not interface.isascii() or not 0 < len(interface) <= _LONGEST_NAME or interface not in _names():
        raise Failure("There is no such interface here.", f"There are: {', '.join(sorted(_names()))}.")
    found = (*_version_4(interface), *_version_6(interface))
    if not found:
        raise Failure(f"The interface {interface} has no address.", "Give the address blocks themselves.")
    return found


def _names() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def _version_4(interface: str) -> tuple[str, ...]:
    import fcntl

    request = struct.pack("256s", interface.encode())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            address, mask = (
                socket.inet_ntoa(fcntl.ioctl(probe, question, request)[20:24])
                for question in (_SIOCGIFADDR, _SIOCGIFNETMASK)
            )
        except OSError:
            return ()
    return (str(ipaddress.IPv4Network(f"{address}/{mask}", strict=False)),)


def _version_6(interface: str) -> tuple[str, ...]:
    try:
        lines = Path("/proc/net/if_inet6").read_text("ascii").splitlines()
    except OSError:
        return ()
    blocks = []
    for line in lines:
        address, _, prefix, _, _, name = line.split()
        network = ipaddress.IPv6Network((int(address, 16), int(prefix, 16)), strict=False)
        if name == interface and not network.overlaps(_LINK_LOCAL):
            blocks.append(str(network))
    return tuple(dict.fromkeys(blocks))
