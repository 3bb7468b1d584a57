"""From which networks a key may be used: CIDR blocks, single addresses, named networks."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable
from typing import ClassVar, TypeAlias

from msgspec.structs import force_setattr

from valetkey.decision.address import parse_address
from valetkey.decision.call import Call
from valetkey.decision.codes import Code
from valetkey.decision.listener import Listener, parse_listener
from valetkey.decision.restrictions.base import CompileContext, InvalidRestriction, Judge, Restriction
from valetkey.decision.restrictions.wording import (
    NAME,
    checked_entries,
    listed,
    quoted,
    without_repetition,
)
from valetkey.nearest import did_you_mean

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Prefixes: TypeAlias = tuple[tuple[int, frozenset[int]], ...]

_MAPPED_BITS = 96  # length of ::ffff:0:0/96, where IPv4 addresses are dressed as IPv6


class Networks(Restriction, frozen=True, tag="networks", forbid_unknown_fields=True):
    """The call must come from one of these networks. A call whose address is not known is refused."""

    code: ClassVar[Code] = Code.NETWORK_DENIED
    options: ClassVar[tuple[str, ...]] = ("--network",)

    allow: tuple[str, ...]
    """CIDR blocks, addresses or names; kept in their usual spelling."""

    def __post_init__(self) -> None:
        entries = checked_entries("networks", self.allow)
        kept = (entry if NAME.fullmatch(entry) else spell_network(parse_network(entry)) for entry in entries)
        force_setattr(self, "allow", without_repetition(kept))

    def compile(self, context: CompileContext) -> Judge:
        networks: list[Network] = []
        listeners: list[Listener] = []
        for entry in self.allow:
            if not NAME.fullmatch(entry):
                networks.append(parse_network(entry))
            elif entry in context.networks:
                networks.extend(parse_network(block) for block in context.networks[entry])
            elif entry in context.listeners:
                listeners.append(parse_listener(context.listeners[entry]))
            else:
                hint = (
                    did_you_mean(entry, {*context.networks, *context.listeners})
                    or "Add it with 'valetkey network add'."
                )
                raise InvalidRestriction(f"There is no network named {quoted(entry)}. {hint}")
        version_4, version_6 = _prefixes(networks, 4), _prefixes(networks, 6)

        def judge(call: Call, wall: float) -> bool:
            address = call.address
            if address is None:
                return False
            value = address.value
            for shift, heads in version_4 if address.version == 4 else version_6:  # noqa: SIM110 - twice as fast
                if value >> shift in heads:
                    return True
            return False

        return _or_arrived(judge, listeners) if listeners else judge

    def sentence(self) -> str:
        return f"Only from {listed(self.allow)}"


def _or_arrived(judge: Judge, listeners: list[Listener]) -> Judge:
    """Also what arrived at one of our own addresses; what arrived nobody knows where did not."""

    def judge_both(call: Call, wall: float) -> bool:
        arrived = call.listener
        if arrived is not None and call.address is not None:
            for listener in listeners:
                if listener.takes(arrived):
                    return True
        return judge(call, wall)

    return judge_both


def parse_network(text: str) -> Network:
    """Return the block that a CIDR or an address spells, IPv4 unmapped. Raises `InvalidRestriction`."""
    address_text, slash, length_text = text.partition("/")
    if "%" in address_text:
        raise InvalidRestriction(f"The network {quoted(text)} has a zone. Write it without '%' and the zone.")
    try:
        address = ipaddress.ip_address(address_text)
    except ValueError:
        raise InvalidRestriction(
            f"{quoted(text)} is neither a network nor a name of one. Write an IPv4 or IPv6 network such as"
            " '203.0.113.0/24' or '2001:db8::/32', or a name of lower-case letters and digits."
        ) from None
    bits = address.max_prefixlen
    if slash and not (
        length_text.isascii() and length_text.isdigit() and str(int(length_text)) == length_text
    ):
        raise InvalidRestriction(
            f"The length of the network {quoted(text)} cannot be read. Write it as a number such as '/24'."
        )
    length = int(length_text) if slash else bits
    if length > bits:
        raise InvalidRestriction(f"The network {quoted(text)} is too long. Its length is at most /{bits}.")
    of_kind = ipaddress.IPv4Network if address.version == 4 else ipaddress.IPv6Network
    block: Network = of_kind((int(address), length), strict=False)
    if block.network_address != address:
        raise InvalidRestriction(
            f"The network {quoted(text)} has bits set beyond its length. Write {spell_network(block)!r} for"
            f" the whole network or {str(address)!r} for the one address."
        )
    return _unmapped(block)


def spell_network(network: Network) -> str:
    """The usual spelling: a CIDR block, or the bare address where it is only one."""
    single = network.prefixlen == network.max_prefixlen
    return str(network.network_address) if single else str(network)


def everywhere(blocks: Iterable[str]) -> tuple[str, ...]:
    """``IPv4``, ``IPv6``, both or none: of which the blocks together hold every address."""
    parsed = [parse_network(block) for block in blocks]
    return tuple(
        f"IPv{version}"
        for version in (4, 6)
        if any(
            block.prefixlen == 0
            for block in ipaddress.collapse_addresses([one for one in parsed if one.version == version])  # type: ignore[type-var]
        )
    )


def _unmapped(network: Network) -> Network:
    if isinstance(network, ipaddress.IPv4Network) or network.prefixlen < _MAPPED_BITS:
        return network
    address = parse_address(str(network.network_address))
    if address.version == 6:
        return network
    return ipaddress.IPv4Network((address.value, network.prefixlen - _MAPPED_BITS))


def _prefixes(networks: list[Network], version: int) -> Prefixes:
    """Blocks by length: an address is in one if it begins with its head. Time grows with lengths alone."""
    heads: dict[int, set[int]] = defaultdict(set)
    for network in networks:
        if network.version == version:
            shift = network.max_prefixlen - network.prefixlen
            heads[shift].add(int(network.network_address) >> shift)
    return tuple((shift, frozenset(heads[shift])) for shift in sorted(heads))
