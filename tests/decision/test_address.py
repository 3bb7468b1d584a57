"""Addresses: one form for each, by example and against a model of bits."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models import address_model
from valetkey.decision.address import Address, parse_address


def test_an_ipv4_address_inside_ipv6_is_the_ipv4_address() -> None:
    assert parse_address("::ffff:192.0.2.7") == parse_address("192.0.2.7")
    assert parse_address("::FFFF:c000:207") == Address(4, 0xC0000207)


def test_every_spelling_of_an_ipv6_address_is_one_address() -> None:
    spellings = ("2001:db8::1", "2001:DB8:0:0:0:0:0:1", "2001:0db8::0.0.0.1")
    assert {parse_address(text).text for text in spellings} == {"2001:db8::1"}


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "localhost", "192.0.2", "192.0.2.7.1", "192.0.2.256", "192.0.2.-1", "3221225991"),
        *(
            "192.0.02.7",
            "0300.0.2.7",
            "0xc0.0.2.7",
            "192.0.2.7 ",
            " 192.0.2.7",
            "192.0.2.7\n",
            "192.0.2.7:80",
        ),
        *(
            "192.0.2.7/32",
            "[2001:db8::1]",
            "2001:db8::1/128",
            "fe80::1%eth0",
            "::1%",
            "1::2::3",
            ":::",
            "12345::",
        ),
        *("::ffff:192.0.2.07", "１９２.0.2.7", "192.0.2.٧", "unknown", "_hidden", "1:" * 99),
    ],
)
def test_anything_but_a_usual_spelling_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"address") as refused:
        parse_address(text)
    assert len(text) < 6 or text not in str(refused.value)


@pytest.mark.parametrize(
    ("version", "value"), [(4, 1 << 32), (4, -1), (6, 1 << 128), (5, 1), (6, 0xFFFF << 32)]
)
def test_an_address_that_does_not_exist_cannot_be_built(version: int, value: int) -> None:
    with pytest.raises(ValueError, match="address"):
        Address(version, value)


octet = st.one_of(
    st.integers(0, 255).map(str), st.sampled_from(["00", "01", "256", "", "0x1", "-1", "1e1", "١"])
)
group = st.one_of(
    st.integers(0, 0xFFFF).map(lambda n: format(n, "x")), st.sampled_from(["", "0000", "FFFF", "g"])
)
texts = st.one_of(
    st.ip_addresses().map(str),
    st.ip_addresses(v=4).map(lambda address: f"::ffff:{address}"),
    st.ip_addresses(v=6).map(lambda address: address.exploded.upper()),
    st.lists(octet, min_size=3, max_size=5).map(".".join),
    st.lists(group, min_size=2, max_size=9).map(":".join),
    st.tuples(st.lists(group, max_size=6), st.lists(octet, min_size=4, max_size=4)).map(
        lambda parts: ":".join([*parts[0], ".".join(parts[1])])
    ),
    st.text(alphabet="0123456789abf:.%/ []", max_size=16),
)


@settings(max_examples=1000, deadline=None)
@example("::")
@example("::ffff:0:0")
@given(texts)
def test_parsing_agrees_with_the_model_of_bits(text: str) -> None:
    expected = address_model.bits(text)
    try:
        address = parse_address(text)
    except ValueError:
        assert expected is None
    else:
        assert format(address.value, f"0{32 if address.version == 4 else 128}b") == expected


@given(st.ip_addresses())
def test_the_text_of_an_address_spells_it(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    parsed = parse_address(str(address))
    assert parse_address(parsed.text) == parsed
