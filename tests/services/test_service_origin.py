"""An origin is scheme, host, port and prefix in one plain form, or it does not exist."""

from __future__ import annotations

import pytest

from valetkey.services.origin import InvalidOrigin, Origin


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("https://api.example.com", "https://api.example.com"),
        ("https://API.Example.COM:443/", "https://api.example.com"),
        ("https://api.example.com:8443/v2/", "https://api.example.com:8443/v2"),
        ("https://api.example.com.", "https://api.example.com"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://[2606:4700:0:0::1111]", "https://[2606:4700::1111]"),
        ("https://1.1.1.1", "https://1.1.1.1"),
    ],
)
def test_an_origin_is_kept_in_one_form(text: str, plain: str) -> None:
    origin = Origin.parse(text)
    assert str(origin) == plain
    assert Origin.parse(plain) == origin


@pytest.mark.parametrize(
    "text",
    [
        "api.example.com",
        "ftp://api.example.com",
        "https://",
        "https://user:word@api.example.com",
        "https://@api.example.com",
        "https://api.example.com?x=1",
        "https://api.example.com/?",
        "https://api.example.com#top",
        "https://api.example.com:0",
        "https://api.example.com:99999",
        "https://api.example.com:x",
        "https://api.example.com/a/../b",
        "https://api.example.com/a//b",
        "https://api.example.com/a//",
        "https://api.example.com/%61",
        "https://api.example.com/a;b",
        "https://api.example.com\\@evil.example",
        "https://api example.com",
        "https://api.example.com\r\nHost: x",
        "https://a..example",
        "https://-",
        "https://[::1",
        "https://[fe80::1%25eth0]",
        "https://127.1",
        "https://0x7f000001",
        "https://2130706433",
        "https://0177.0.0.1",
        "https://1.2.3.4.5",
        "https://xn--\u00df.example\u3002com:x",
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(text: str) -> None:
    with pytest.raises(InvalidOrigin):
        Origin.parse(text, allow_plain=True, allow_private=True)


@pytest.mark.parametrize(
    "text", ["https://127.0.0.1", "https://localhost", "https://10.1.2.3", "https://[::ffff:192.168.0.1]"]
)
def test_private_origins_need_the_permission(text: str) -> None:
    with pytest.raises(InvalidOrigin, match="--allow-private"):
        Origin.parse(text)
    assert Origin.parse(text, allow_private=True)


def test_plain_http_is_for_loopback_or_by_flag() -> None:
    with pytest.raises(InvalidOrigin, match="--allow-plain-upstream"):
        Origin.parse("http://api.example.com")
    with pytest.raises(InvalidOrigin, match="--allow-plain-upstream"):
        Origin.parse("http://10.1.2.3", allow_private=True)
    assert Origin.parse("http://api.example.com", allow_plain=True).port == 80
    assert Origin.parse("http://127.0.0.1:9000", allow_private=True).port == 9000


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[fd00:ec2::254]", "metadata.google.internal", "0.0.0.0"]
)
def test_metadata_is_refused_with_every_flag(host: str) -> None:
    with pytest.raises(InvalidOrigin, match="metadata"):
        Origin.parse(f"http://{host}", allow_plain=True, allow_private=True)


def test_authority_names_the_port_only_when_it_must() -> None:
    assert Origin.parse("https://api.example.com:443").authority == "api.example.com"
    assert Origin.parse("https://api.example.com:80").authority == "api.example.com:80"


def test_an_origin_cannot_be_built_around_the_parser() -> None:
    with pytest.raises(InvalidOrigin):
        Origin("https", "user@host", 443)
    with pytest.raises(InvalidOrigin):
        Origin("https", "127.1", 443)
