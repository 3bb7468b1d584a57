"""Forwarding headers count only from trusted proxies, and one that is unclear is not believed at all."""

from __future__ import annotations

import pytest

from valetkey.gateway.client_address import AddressUnclear, ClientAddress

PROXY, CALLER = "10.0.0.1", "203.0.113.7"
BEHIND = ClientAddress(["10.0.0.0/8"])


def forwarded(value: str, peer: str = PROXY) -> str:
    return BEHIND.find(peer, None, value.encode()).text


def forwarded_for(value: str, peer: str = PROXY) -> str:
    return BEHIND.find(peer, value.encode(), None).text


@pytest.mark.parametrize(
    "value",
    [
        f"for={CALLER}, proto=https",
        f"proto=https, for={CALLER}",
        f"for={CALLER}, by=10.0.0.1",
        f"for={CALLER},",
        f"for={CALLER}, ,for=10.1.1.1",
        f"for={CALLER};for=198.51.100.9",
        f"for={CALLER}, for=unknown",
        f"for={CALLER}, for=_hidden",
        f"for={CALLER}, for=",
        "proto=https",
    ],
)
def test_a_hop_that_does_not_say_whom_it_speaks_for_makes_the_header_unclear(value: str) -> None:
    with pytest.raises(AddressUnclear):
        forwarded(value)


@pytest.mark.parametrize(
    ("value", "address"),
    [
        (f"for={CALLER}", CALLER),
        (f"For={CALLER};proto=https;by=10.0.0.1", CALLER),
        (f'for="{CALLER}:8080"', CALLER),
        ('for="[2001:db8::1]:80"', "2001:db8::1"),
        (f"for=198.51.100.9, for={CALLER}", CALLER),
        (f"for={CALLER}, for=10.1.1.1", CALLER),
        ("for=10.2.2.2, for=10.1.1.1", "10.2.2.2"),
    ],
)
def test_the_first_stranger_from_the_right_is_the_caller(value: str, address: str) -> None:
    assert forwarded(value) == address


def test_two_kinds_of_headers_at_once_are_unclear() -> None:
    with pytest.raises(AddressUnclear):
        BEHIND.find(PROXY, CALLER.encode(), f"for={CALLER}".encode())


@pytest.mark.parametrize("value", ["unknown", "203.000.113.7", "9.9.9.9:203.0.113.7:1", "a, 10.1.1.1"])
def test_what_is_no_address_is_unclear(value: str) -> None:
    with pytest.raises(AddressUnclear):
        forwarded_for(value)


def test_a_stranger_may_send_what_it_likes() -> None:
    for value in (f"for={CALLER}", f"for={CALLER}, proto=https", "nonsense"):
        assert forwarded(value, peer="198.51.100.9") == "198.51.100.9"
    assert ClientAddress([]).find(PROXY, CALLER.encode(), b"proto=x").text == PROXY


def test_an_address_written_as_ipv6_is_the_same_caller() -> None:
    assert forwarded_for(f"::ffff:{CALLER}") == CALLER
