"""What comes in by management: addresses in disguise, and names and secrets that would become headers of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any

import pytest

from attack.target import LAST, SECRET, Target, assert_ours, request, target_of
from running_server import Refused, RunningServer

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def target(attacked: RunningServer) -> Iterator[Target]:
    with target_of(attacked) as made:
        yield made


def refused(server: RunningServer, path: str, body: dict[str, Any], method: str = "POST") -> dict[str, Any]:
    """The problem that such a request is refused with."""
    with pytest.raises(Refused) as caught:
        server.manage(method, path, body)
    assert caught.value.status in (400, 404, 409)
    problem: dict[str, Any] = caught.value.problem
    assert problem["code"] in ("INVALID", "NOT_FOUND", "CONFLICT") and problem["next_step"]
    return problem


# -- base URLs


LOOPBACK = [
    "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0X7F.1", "0177.0.0.1",
    "017700000001",
    "127.0.0.01", "127.0.0.1.", "0", "0.0.0.0", "0x0", "[::]", "[::1]", "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]", "[::ffff:0:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]",
    "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::1]", "[2001:0:7f00:1::1]", "[::1%25lo]", "[fe80::1%25eth0]", "[fe80::1]", "localhost",
    "localhost.",
    "LOCALHOST", "a.localhost", "①②⑦.⓪.⓪.①", "１２７．０．０．１", "127。0。0。1", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "loca\u00adlhost", "127.0.0.1%2eevil",
    "%31%32%37.0.0.1", "127.0.0.1%00.example.com", "10.0.0.1", "012.0.0.1", "0xa000001", "167772161",
    "192.168.257", "[fd00::1]",
    "[::ffff:c0a8:1]", "169.254.1.1", "[v1.fe80::a]", "[127.0.0.1]", "127.0.0.1:80@example.com",
    "example.com@127.0.0.1",
    "example.com#@127.0.0.1", "127.0.0.1\\@example.com", "example.com\\.127.0.0.1", "example.com:80:443",
    "example.com:0",
    "example.com:99999", "example.com:８0", "exa mple.com", "example.com\r\nX: y",
    "example.com\t", "example..com", "-example.com",
    "", ".", "..", "*.example.com", "example.com/../x", "example.com/a//b", "example.com/%2e%2e",
    "example.com/a;b", "example.com/?q",
    "example.com/#f", "example.com/a b", "example.com/\r\nX:y",
]  # fmt: skip


@pytest.mark.parametrize("host", LOOPBACK)
def test_no_spelling_of_a_private_address_becomes_a_base_url(attacked: RunningServer, host: str) -> None:
    for scheme in ("https", "http"):
        refused(
            attacked, "/services", {"name": "spelled", "base_url": f"{scheme}://{host}", "auth": "bearer"}
        )
    assert "spelled" not in {one["name"] for one in attacked.manage("GET", "/services")["items"]}


METADATA = [
    "169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::]", "[::169.254.169.254]", "169.254.170.2",
    "100.100.100.200", "168.63.129.16",
    "192.0.0.192", "[fd00:ec2::254]", "[fd20:ce::254]", "metadata.google.internal",
    "METADATA.google.internal.", "metadata",
    "instance-data", "①⑥⑨.②⑤④.①⑥⑨.②⑤④", "224.0.0.1", "255.255.255.255", "0.0.0.0",
    "[::]", "[ff02::1]", "240.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize("host", METADATA)
def test_no_permission_makes_a_metadata_address_a_base_url(attacked: RunningServer, host: str) -> None:
    allowed = {"allow_private": True, "allow_plain_upstream": True, "auth": "bearer"}
    refused(attacked, "/services", {"name": "spelled", "base_url": f"http://{host}", **allowed})
    service = attacked.open_service(SECRET, base_url="http://127.0.0.1:1")
    refused(attacked, f"/services/{service}", {"base_url": f"http://{host}"}, "PATCH")
    attacked.manage("DELETE", f"/services/{service}")


# -- names and secrets


BREAKS = ["a\r\nX: y", "a\nX: y", "a\rX: y", "a\0b", "a\x1b[31mb", "a\x7fb", "\x0ba", "a\n\n"]


@pytest.mark.parametrize("value", BREAKS)
@pytest.mark.parametrize("auth", ["bearer", "basic", "header:x-key", "query:key"])
def test_a_secret_with_a_line_break_is_not_imported(attacked: RunningServer, value: str, auth: str) -> None:
    service = attacked.open_service(SECRET, base_url="http://127.0.0.1:1", auth=auth)
    said = refused(attacked, "/secrets", {"service": service, "value": value})
    assert "X: y" not in str(said)
    for wrapped in (f"user:{value}", f"{value}:password", f"user={value}"):
        refused(attacked, "/secrets", {"service": service, "value": wrapped})
    attacked.manage("DELETE", f"/services/{service}")


def test_a_secret_that_no_header_can_hold_is_not_imported(target: Target) -> None:
    for value in ("sécret-" * 5, "秘密" * 12, "\u2028" + "a1B2" * 8, "x" * 20 + "\u00a0y", " x" * 20 + " "):
        refused(target.server, "/secrets", {"service": target.service, "value": value})
    assert target.send(request())[0].status == 200
    assert_ours(target.upstream.heads[-1], target)


WAYS = [
    "header:x\r\ny: z", "header:x y", "header:x:y", "header:", "header:x\0",
    "header:é", "header:host", "header:Content-Length",
    "header:transfer-encoding", "header:connection", "header:cookie", "header:x-forwarded-for",
    "header:proxy-authorization",
    "header:sec-fetch-site", "header:expect", "header:te", "header:upgrade", "query:", "query:a\r\nb",
    "query:a b",
    "query:a=b", "query:_method", "query:_METHOD", "query:é", "bearer:x",
    "basic:x", "cookie:x", "",
]  # fmt: skip


@pytest.mark.parametrize("auth", WAYS)
def test_a_key_goes_into_no_header_or_field_that_would_be_two(attacked: RunningServer, auth: str) -> None:
    refused(attacked, "/services", {"name": "placed", "base_url": "https://example.com", "auth": auth})


NAMES = [
    "", "a", "A1", "v1", "api", "healthz", "readyz", "metrics", "a/b", "../a", "a..b", "a%2fb", "a:b",
    "a b", "a\r\nb", "a\0b",
    "é" * 3, "a" * 32, "-ab", "1ab", "~ab", "a;b", "a?b", "a#b", "ab\n", "\u202eab",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_no_name_of_a_service_or_its_hosts_leads_elsewhere(attacked: RunningServer, name: str) -> None:
    refused(attacked, "/services", {"name": name, "base_url": "https://example.com", "auth": "bearer"})
    if name not in (
        "a",
        "v1",
        "api",
        "healthz",
        "readyz",
        "metrics",
    ):  # as names of hosts these lead nowhere else
        hosts = {name: "https://example.org"}
        body = {"name": "with-hosts", "base_url": "https://example.com", "auth": "bearer", "hosts": hosts}
        refused(attacked, "/services", body)


def test_names_that_people_read_hold_nothing_that_a_terminal_obeys(target: Target) -> None:
    server = target.server
    for bad in ("a\x1b[31m", "a\r\nb", "a\x07", "\u202egnp.exe", "a\u2066b", "a\x9b31m", "\u200b", "a\x00"):
        for path, body in (
            ("/parties", {"name": bad, "kind": "person"}),
            ("/keys", {"service": target.service, "holder": bad}),
            ("/keys", {"service": target.service, "holder": "fine", "label": bad}),
            ("/tokens", {"party": bad}),
            ("/networks", {"name": bad, "networks": ["192.0.2.0/24"]}),
        ):
            refused(server, path, body)


# -- what a terminal sees


ESCAPES = [
    "\x1b[2J",
    "\x1b]0;owned\x07",
    "\x9b31m",
    "\u009b31m",
    "\u202e",
    "\u2066",
    "\u200b",
    "\r\nFAKE",
    "\x08\x08",
    "\x00",
]


def test_nothing_that_a_caller_sends_moves_a_terminal(target: Target) -> None:
    """Every place of a call whose text is kept, shown by each command that shows it."""
    markup = "[bold red]x[/] [link=http://evil.example]y[/link]"
    for number, escape in enumerate(ESCAPES):
        quoted = "".join(f"%{octet:02X}" for octet in escape.encode())
        raw = escape.encode("utf-8" if number % 2 else "latin-1", "replace")
        for attack in (
            request(f"GET /SERVICE/seen{quoted}?{quoted}=x HTTP/1.1"),
            request(f"GET /SERVICE/seen?{quoted}name=x&[red]=y HTTP/1.1"),
            request(
                "GET /SERVICE/seen HTTP/1.1",
                f"User-Agent: {markup} ESCAPE",
                "Origin: http://ESCAPE",
                "Referer: ESCAPE",
            ),
            request("GET /SERVICE/seenESCAPE HTTP/1.1"),
            request("GETESCAPE /SERVICE/a HTTP/1.1"),
            request(host="127.0.0.1ESCAPE"),
            request("GET /ESCAPE/a HTTP/1.1"),
        ):
            target.raw(target.fill(attack).replace(b"ESCAPE", raw) + LAST)
    target.server.events()
    for command in (
        ["events", "--limit", "200"],
        ["events", "--limit", "200", "--json"],
        ["key", "list"],
        ["audit", "list"],
    ):
        for colour in ({}, {"FORCE_COLOR": "1", "TERM": "xterm-256color"}):
            shown = subprocess.run(
                [sys.executable, "-m", "valetkey", *command],
                env={**os.environ, **target.server.environment, "COLUMNS": "400", **colour},
                capture_output=True, check=True,
            ).stdout.decode()  # fmt: skip
            assert_harmless(shown, coloured=bool(colour))
            if "events" in command:
                assert "/seen" in shown
    assert_harmless(target.server.errors)


def assert_harmless(shown: str, *, coloured: bool = False) -> None:
    """Nothing but text and line breaks; and our own colours, where they are asked for."""
    for letter in set(shown) - {"\n"}:
        if letter == "\x1b" and coloured:
            continue
        assert unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Zl", "Zp"), f"U+{ord(letter):04X}"
    for place in range(len(shown)):
        if shown[place] == "\x1b":
            assert shown[place + 1] == "[" and shown[place + 2].isdigit(), "only colours"
    assert "owned\x07" not in shown and "[2J" not in shown and "\nFAKE" not in shown
    assert "]8;" not in shown, "no link"
