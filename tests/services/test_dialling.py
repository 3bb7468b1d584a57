"""Calls go to public addresses, to private ones by permission, to metadata and ourselves never."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import dialling_model
from valetkey.services.dialling import AddressRefused, OwnListeners, address_allowed, addresses_allowed


@dataclass
class Permit:
    allow_private: bool = False


OPEN, SHUT = Permit(True), Permit(False)

EDGES_4 = sorted(
    {
        min(max(dialling_model.v4(edge) + step, 0), 2**32 - 1)
        for pair in (*dialling_model.NEVER_4, *dialling_model.PRIVATE_4)
        for edge in pair
        for step in (-1, 0, 1)
    }
    | set(dialling_model.METADATA_4)
)
ANY_4 = st.sampled_from(EDGES_4) | st.integers(0, 2**32 - 1)
WRAPPED = st.builds(
    lambda prefix, inner: (prefix << 32) | inner,
    st.sampled_from([0, 0xFFFF, 0x0064_FF9B << 64]),
    ANY_4,
)
SIX_TO_FOUR = st.builds(
    lambda inner, low: (0x2002 << 112) | (inner << 80) | low, ANY_4, st.integers(0, 2**80 - 1)
)
HEADS = [
    0x0064,
    0x0100,
    0x2000,
    0x2001,
    0x2002,
    0x3FFE,
    0x3FFF,
    0x4000,
    0x5F00,
    0xFBFF,
    0xFC00,
    0xFD00,
    0xFD20,
]
HEADS += [0xFDFF, 0xFE00, 0xFE7F, 0xFE80, 0xFEBF, 0xFEC0, 0xFEFF, 0xFF02]
HEADED = st.builds(
    lambda first, second, low: (first << 112) | (second << 96) | low,
    st.sampled_from(HEADS),
    st.sampled_from([0, 1, 0xCE, 0xDB8, 0xEC2, 0x1FF, 0x200, 0xFFF, 0x1000, 0xFF9B, 0xFFFF]),
    st.sampled_from([0, 1, 0x23, 0x254]) | st.integers(0, 2**96 - 1),
)
ANY_6 = WRAPPED | SIX_TO_FOUR | HEADED | st.integers(0, 2**128 - 1)


def passes(address: str | IPv4Address | IPv6Address, permit: Permit, **own: frozenset) -> bool:
    try:
        address_allowed(address, 443, permit, OwnListeners(**own))
    except AddressRefused:
        return False
    return True


@given(ANY_4, st.booleans())
def test_every_ipv4_address_is_judged_as_the_model_says(value: int, allow_private: bool) -> None:
    expected = dialling_model.allowed(4, value, allow_private)
    assert passes(IPv4Address(value), Permit(allow_private)) == expected


@given(ANY_6, st.booleans())
def test_every_ipv6_address_is_judged_as_the_model_says(value: int, allow_private: bool) -> None:
    expected = dialling_model.allowed(6, value, allow_private)
    assert passes(IPv6Address(value), Permit(allow_private)) == expected


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "::169.254.169.254",
        "fd00:ec2::254",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
    ],
)
def test_metadata_and_what_is_no_host_are_refused_with_any_permission(address: str) -> None:
    assert not passes(address, OPEN)


def test_private_addresses_need_the_permission_and_the_refusal_names_it() -> None:
    assert passes("192.168.1.20", OPEN)
    with pytest.raises(AddressRefused, match="--allow-private"):
        address_allowed("192.168.1.20", 443, SHUT)


def test_one_refused_address_of_a_name_refuses_them_all() -> None:
    addresses_allowed(["1.1.1.1", "2606:4700:4700::1111"], 443, SHUT)
    with pytest.raises(AddressRefused):
        addresses_allowed(["1.1.1.1", "127.0.0.1"], 443, SHUT)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "10.0.0.5"])
def test_our_own_ports_are_refused_even_with_permission(address: str) -> None:
    own = OwnListeners(ports=frozenset({8200, 8300}), addresses=frozenset({"10.0.0.5"}))
    with pytest.raises(AddressRefused, match="gateway itself"):
        address_allowed(address, 8300, OPEN, own)
    address_allowed(address, 9000, OPEN, own)


def test_anothers_private_host_may_use_the_same_port_as_ours() -> None:
    address_allowed("10.0.0.6", 8200, OPEN, OwnListeners(ports=frozenset({8200})))


def test_a_zone_does_not_hide_an_address() -> None:
    assert not passes("fe80::1%eth0", SHUT)
    assert passes("fe80::1%eth0", OPEN)


def test_what_is_no_address_is_refused() -> None:
    assert not passes("localhost", OPEN)
