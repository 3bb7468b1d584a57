"""The restriction to networks: what it takes, what it refuses, and its judge against a model of bits."""

from __future__ import annotations

import ipaddress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import address_model
from valetkey.decision.address import parse_address
from valetkey.decision.call import Call
from valetkey.decision.listener import parse_listener
from valetkey.decision.path import judge_path
from valetkey.decision.restrictions import AnyRestriction, CompileContext, InvalidRestriction, Networks

NOWHERE = CompileContext()


def from_address(address: str | None) -> Call:
    return Call("GET", judge_path(b"/"), address=None if address is None else parse_address(address))


def allows(networks: Networks, address: str | None, context: CompileContext = NOWHERE) -> bool:
    return networks.compile(context)(from_address(address), 0.0)


def test_a_call_from_inside_passes_and_from_outside_does_not() -> None:
    office = Networks(("203.0.113.0/24", "2001:db8::/32", "198.51.100.7"))
    assert allows(office, "203.0.113.255")
    assert allows(office, "2001:db8:ffff::1")
    assert allows(office, "198.51.100.7")
    assert not allows(office, "203.0.114.0")
    assert not allows(office, "2001:db9::1")
    assert not allows(office, "198.51.100.8")


def test_a_listener_takes_what_arrives_there_and_nothing_else() -> None:
    inside = CompileContext(
        networks={"office": ("203.0.113.0/24",)},
        listeners={"inside": "10.0.0.1", "door": "[2001:db8::1]:8300"},
    )

    def arrives(networks: Networks, at: str | None, address: str | None = "192.0.2.1") -> bool:
        call = from_address(address)
        listener = None if at is None else parse_listener(at)
        return networks.compile(inside)(msgspec.structs.replace(call, listener=listener), 0.0)

    assert arrives(Networks(("inside",)), "10.0.0.1:8300")
    assert arrives(Networks(("inside",)), "10.0.0.1:1")
    assert not arrives(Networks(("inside",)), "10.0.0.2:8300")
    assert not arrives(Networks(("inside",)), None)
    assert not arrives(Networks(("inside",)), "10.0.0.1:8300", address=None)
    assert arrives(Networks(("door",)), "[2001:db8::1]:8300")
    assert not arrives(Networks(("door",)), "[2001:db8::1]:8301")
    assert not arrives(Networks(("door",)), "2001:db8::1")
    assert arrives(Networks(("door", "office")), "10.0.0.1:8300", address="203.0.113.9")
    with pytest.raises(InvalidRestriction, match="'inside'"):
        Networks(("insde",)).compile(inside)


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("10.0.0.1:8300", "10.0.0.1:8300"),
        ("2001:DB8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "[2001:db8::1]:443"),
        ("[::ffff:10.0.0.1]:443", "10.0.0.1:443"),
    ],
)
def test_a_listener_is_read_and_spelled_in_one_form(written: str, means: str) -> None:
    assert parse_listener(written).text == means
    assert parse_listener(means) == parse_listener(written)


@pytest.mark.parametrize(
    "written", ["", ":80", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:080", "10.0.0.1:65536", "[::1", "[10.0.0.1]:80",
                "[::1]80", "[::1]:", "10.0.0.1:8:9", "here:80", "fe80::1%eth0", "10.0.0.1:\u0661"],
)  # fmt: skip
def test_what_is_no_listener_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match=r"port|address"):
        parse_listener(written)


def test_a_call_without_address_is_refused_even_where_all_are_allowed() -> None:
    everywhere = Networks(("0.0.0.0/0", "::/0"))
    assert allows(everywhere, "192.0.2.1")
    assert allows(everywhere, "2001:db8::1")
    assert not allows(everywhere, None)


def test_all_of_ipv6_does_not_hold_ipv4() -> None:
    assert not allows(Networks(("::/0",)), "::ffff:192.0.2.1")


def test_a_dressed_ipv4_address_is_judged_as_ipv4() -> None:
    assert allows(Networks(("192.0.2.0/24",)), "::ffff:192.0.2.9")


def test_a_dressed_block_is_kept_as_the_ipv4_block() -> None:
    assert Networks(("::ffff:192.0.2.0/120",)).allow == ("192.0.2.0/24",)
    assert Networks(("::ffff:192.0.2.9",)).allow == ("192.0.2.9",)
    assert Networks(("::ffff:0:0/96",)).allow == ("0.0.0.0/0",)
    assert Networks(("::fffe:0:0/95",)).allow == ("::fffe:0:0/95",)


def test_a_name_stands_for_its_blocks() -> None:
    context = CompileContext(networks={"office": ("203.0.113.0/24", "2001:db8::/32")})
    assert allows(Networks(("office",)), "203.0.113.9", context)
    assert not allows(Networks(("office",)), "192.0.2.1", context)


def test_a_name_without_blocks_opens_nothing() -> None:
    assert not allows(Networks(("empty",)), "192.0.2.1", CompileContext(networks={"empty": ()}))


def test_a_name_that_does_not_exist_is_an_error_with_the_nearest_one() -> None:
    with pytest.raises(InvalidRestriction, match="Did you mean 'office'"):
        Networks(("ofice",)).compile(CompileContext(networks={"office": ("203.0.113.0/24",)}))
    with pytest.raises(InvalidRestriction, match="valetkey network add"):
        Networks(("office",)).compile(NOWHERE)


@pytest.mark.parametrize(
    ("entry", "advice"),
    [
        ("203.0.113.9/24", r"Write '203\.0\.113\.0/24'"),
        ("2001:db8::1/32", "Write '2001:db8::/32'"),
        ("203.0.113.0/33", "at most /32"),
        ("203.0.113.0/255.255.255.0", "such as '/24'"),
        ("203.0.113.0/024", "such as '/24'"),
        ("203.0.113.0/", "such as '/24'"),
        ("203.0.113.0/-1", "such as '/24'"),
        ("203.0.0113.0/24", "such as"),
        ("203.0.113/24", "such as"),
        ("fe80::1%eth0", "without '%'"),
        ("Office", "lower-case"),
        ("203.0.113.0/24,192.0.2.1", "such as"),
        ("", "such as"),
    ],
)
def test_a_network_that_cannot_be_is_an_error_that_says_what_to_write(entry: str, advice: str) -> None:
    with pytest.raises(InvalidRestriction, match=advice):
        Networks((entry,))


def test_an_empty_list_is_an_error() -> None:
    with pytest.raises(InvalidRestriction, match="empty"):
        Networks(())


def test_a_text_instead_of_a_list_is_an_error() -> None:
    with pytest.raises(InvalidRestriction, match="list"):
        Networks("203.0.113.0/24")  # type: ignore[arg-type]


def test_it_comes_back_from_json_as_it_was() -> None:
    networks = Networks(("203.0.113.0/24", "office", "203.0.113.0/24"))
    stored = msgspec.json.encode(networks)
    assert stored == b'{"type":"networks","allow":["203.0.113.0/24","office"]}'
    assert msgspec.json.decode(stored, type=AnyRestriction) == networks


def test_stored_json_that_is_not_valid_does_not_come_back() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"type":"networks","allow":["203.0.113.9/24"]}', type=AnyRestriction)


def test_its_sentence_names_the_networks() -> None:
    assert Networks(("203.0.113.0/24",)).sentence() == "Only from 203.0.113.0/24"
    assert Networks(("a", "b", "c")).sentence() == "Only from a, b or c"
    assert Networks(tuple("abcdefgh")).sentence() == "Only from a, b, c, d, e, f or 2 more"


def block(version: int) -> st.SearchStrategy[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    bits, kind = (32, ipaddress.IPv4Network) if version == 4 else (128, ipaddress.IPv6Network)
    near = st.integers(0, (1 << bits) - 1) | st.sampled_from([0xC0000200, 0xC0000201, 0])
    return st.builds(lambda value, length: kind((value, length), strict=False), near, st.integers(0, bits))


@settings(max_examples=500, deadline=None)
@given(st.lists(block(4) | block(6), min_size=1, max_size=6), st.data())
def test_the_judge_agrees_with_the_model_of_bits(
    blocks: list[ipaddress.IPv4Network | ipaddress.IPv6Network], data: st.DataObject
) -> None:
    inside = st.sampled_from(blocks).flatmap(lambda chosen: st.ip_addresses(network=chosen))
    address = str(data.draw(inside | st.ip_addresses()))
    bits = address_model.bits(address)
    assert bits is not None
    expected = False
    for chosen in blocks:
        head = address_model.bits(str(chosen.network_address))
        assert head is not None
        length = chosen.prefixlen
        if chosen.version == 6 and len(head) == 32:
            # A block that begins with an IPv4-mapped address: IPv4 from /96 on, before that it holds no call.
            length -= 96
            if length < 0:
                continue
        expected = expected or address_model.in_block(bits, head, length)
    assert allows(Networks(tuple(map(str, blocks))), address) == expected
