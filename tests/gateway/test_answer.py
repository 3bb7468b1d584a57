"""What of an upstream's headers reaches the caller: never our key, never our own voice, nothing a browser runs."""

from __future__ import annotations

import base64

import msgspec
import pytest

from gateway_world import upstream_service
from valetkey.gateway.answer import sieve
from valetkey.gateway.facts import SecretVersion
from valetkey.gateway.refusal import HeaderPairs
from valetkey.gateway.runtime import needles_of
from valetkey.gateway.scrub import scrub_bytes
from valetkey.services.placement import Basic

KEY = "Real-Key-" + "aB3" * 9
SERVICE = upstream_service()
NEEDLES = needles_of(SERVICE, [SecretVersion("ver_1", {"key": KEY})])
SANDBOXED = {b"content-security-policy": b"sandbox", b"x-content-type-options": b"nosniff"}


def sieved(*headers: tuple[bytes, bytes]) -> HeaderPairs:
    return sieve(headers, SERVICE, b"http://localhost:8300/weather", NEEDLES)


def test_a_header_named_after_the_key_is_left_out_whatever_stands_around_it() -> None:
    json = (b"Content-Type", b"application/json")
    for name in (KEY, f"X-{KEY}", f"{KEY}-Left", KEY.encode().hex(), KEY.encode().hex().swapcase()):
        assert sieved(json, (name.encode(), b"1"), (b"X-Other", b"2")) == [
            (b"content-type", b"application/json"),
            (b"x-other", b"2"),
        ]


@pytest.mark.parametrize("form", [KEY.encode(), KEY.encode().hex().encode(), base64.b64encode(KEY.encode())])
def test_a_key_in_a_headers_value_is_masked_also_in_an_address(form: bytes) -> None:
    headers = sieved(
        (b"Content-Type", b"text/plain"),
        (b"X-Echo", b"key=" + form + b";"),
        (b"Location", b"https://a.example/?k=" + form),
    )
    stars = b"*" * len(form)
    assert headers == [
        (b"content-type", b"text/plain"),
        (b"x-echo", b"key=" + stars + b";"),
        (b"location", b"https://a.example/?k=" + stars),
    ]


def test_a_key_in_lower_case_is_found_in_a_name_of_any_case() -> None:
    needles = needles_of(SERVICE, [SecretVersion("ver_1", {"key": KEY.lower()})])
    for name in (KEY.lower(), KEY.upper(), KEY, f"x-{KEY.upper()}"):
        raw = [(b"Content-Type", b"text/plain"), (name.encode(), b"1")]
        assert sieve(raw, SERVICE, b"http://x", needles) == [(b"content-type", b"text/plain")]


@pytest.mark.parametrize(
    "types",
    [
        [],
        [b""],
        [b"text/html"],
        [b"TEXT/HTML; charset=utf-8"],
        [b"image/svg+xml"],
        [b"application/xhtml+xml"],
        [b"application/rss+xml"],
        [b"text/xsl"],
        [b"*/*"],
        [b"application/json, text/html"],
        [b"text/html", b"text/plain"],
        [b"text/plain", b"text/html"],
        [b"application/json", b"application/json"],
    ],
)
def test_what_a_browser_might_run_is_sandboxed(types: list[bytes]) -> None:
    # What the upstream says of itself does not count.
    own = [(b"Content-Security-Policy", b"default-src *"), (b"X-Content-Type-Options", b"sniff")]
    out = sieved(*((b"Content-Type", kind) for kind in types), *own)
    assert [pair for pair in out if pair[0] in SANDBOXED] == list(SANDBOXED.items())


@pytest.mark.parametrize(
    "kind", [b"application/json", b"text/event-stream; charset=utf-8", b"image/png", b"text/plain"]
)
def test_one_passive_type_passes_as_it_is(kind: bytes) -> None:
    assert sieved((b"Content-Type", kind)) == [(b"content-type", kind)]


def test_a_type_that_the_upstream_has_removed_by_connection_is_no_type() -> None:
    out = sieved((b"Content-Type", b"text/html"), (b"Connection", b"content-type"))
    assert dict(out) == SANDBOXED


def test_nobody_but_the_gateway_speaks_as_the_gateway() -> None:
    headers = sieved(
        (b"X-Valetkey-Code", b"REVOKED"), (b"x-valetkey-anything", b"1"), (b"Content-Type", b"text/plain")
    )
    assert headers == [(b"content-type", b"text/plain")]


@pytest.mark.parametrize("side", ["user", "password"])
def test_either_side_of_a_basic_secret_is_masked(side: str) -> None:
    service = msgspec.structs.replace(SERVICE, placement=Basic(side))
    needles = needles_of(service, [SecretVersion("ver_1", {"key": "alice-smith:" + KEY})])
    echoed = f'{{"user":"alice-smith","password":"{KEY}"}}'.encode()
    clean = scrub_bytes(echoed, needles)
    assert len(clean) == len(echoed)
    assert clean == b'{"user":"***********","password":"%b"}' % (b"*" * len(KEY))
