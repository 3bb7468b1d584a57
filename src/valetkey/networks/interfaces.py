"""The networks of this machine's interfaces, from the kernel and live (Linux, rtnetlink(7))."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Iterator

from valetkey.decision.restrictions.networks import Network, spell_network

MAX_DUMPS = 10
"""A dump during which addresses changed is asked for anew; on a machine in such a storm the last one has to do."""

_RTM_GETADDR, _RTM_NEWADDR, _ERROR, _DONE = 22, 20, 2, 3
_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_INTERRUPTED = 0x10  # NLM_F_DUMP_INTR
_GROUPS = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_IFA_ADDRESS = 1
_HEADER = struct.Struct("=IHHII")
_ADDRESS = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_LINK_LOCAL = ipaddress.IPv6Network("fe80::/10")
"""On every interface the same, so that it says nothing about which one a call came by."""

InterfaceNetworks = dict[str, tuple[str, ...]]
"""Interface -> blocks of its addresses, in a steady order; interfaces without an address too."""


def read_interfaces() -> InterfaceNetworks:
    """All interfaces as they are now. Raises OSError where the kernel does not tell."""
    for _ in range(MAX_DUMPS):
        names = dict(socket.if_nameindex())
        found: dict[str, set[Network]] = {name: set() for name in names.values()}
        whole = True
        for index, network, steady in _dump():
            whole = whole and steady
            if index in names and network is not None and not _is_link_local(network):
                found[names[index]].add(network)
        if whole:
            break
    return {name: tuple(map(spell_network, sorted(blocks, key=_order))) for name, blocks in found.items()}


def watch_interfaces() -> socket.socket:
    """A socket that can be read whenever an address or an interface came, went or changed. Not blocking."""
    watch = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    watch.setblocking(False)
    watch.bind((0, _GROUPS))
    return watch


def drain(watch: socket.socket) -> None:
    """Take what has come; what it says is read anew as a whole."""
    try:
        while watch.recv(65_536):
            pass
    except BlockingIOError:
        pass
    except OSError:
        pass  # more came than was kept (ENOBUFS): read anew all the same


def _dump() -> Iterator[tuple[int, Network | None, bool]]:
    """Interface, network and whether nothing changed meanwhile, of each address."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as ask:
        size = _HEADER.size + _ADDRESS.size
        ask.send(_HEADER.pack(size, _RTM_GETADDR, _DUMP, 1, 0) + _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0))
        while True:
            data = ask.recv(65_536)
            at = 0
            while at + _HEADER.size <= len(data):
                length, kind, flags, _, _ = _HEADER.unpack_from(data, at)
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    number = -struct.unpack_from("=i", data, at + _HEADER.size)[0]
                    raise OSError(number, os.strerror(number))
                if kind == _RTM_NEWADDR:
                    index, network = _read(data[at + _HEADER.size : at + length])
                    yield index, network, not flags & _INTERRUPTED
                at += _aligned(length)


def _read(message: bytes) -> tuple[int, Network | None]:
    family, prefix, _, _, index = _ADDRESS.unpack_from(message)
    at = _ADDRESS.size
    while at + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, at)
        if kind == _IFA_ADDRESS and family in (socket.AF_INET, socket.AF_INET6):
            # Of a line between two points this is the other end, which is who calls from there.
            octets = message[at + _ATTRIBUTE.size : at + length]
            return index, ipaddress.ip_network((octets, prefix), strict=False)
        at += max(_aligned(length), _ATTRIBUTE.size)
    return index, None


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _is_link_local(network: Network) -> bool:
    return isinstance(network, ipaddress.IPv6Network) and network.overlaps(_LINK_LOCAL)


def _order(network: Network) -> tuple[int, int, int]:
    return network.version, int(network.network_address), network.prefixlen
