"""The restriction to web origins: what passes, what only looks alike, and the judge against a slow model."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import origin_model
from valetkey.decision.call import Call
from valetkey.decision.path import judge_path
from valetkey.decision.restrictions import AnyRestriction, CompileContext, InvalidRestriction, Origins


def allows(origins: Origins, origin: str | None) -> bool:
    return origins.compile(CompileContext())(Call("GET", judge_path(b"/"), origin=origin), 0.0)


def test_the_named_origin_passes_in_every_spelling() -> None:
    origins = Origins(("https://app.example.com",))
    for sent in ("https://app.example.com", "https://app.example.com:443", "HTTPS://App.Example.COM"):
        assert allows(origins, sent)


@pytest.mark.parametrize(
    "sent",
    [
        None,
        *("", "null", "https://", "app.example.com", "//app.example.com", "http://app.example.com"),
        *(
            "https://app.example.com:8443",
            "https://app.example.com:80",
            "https://app.example.com.",
            "https://example.com",
        ),
        *("https://x.app.example.com", "https://evilapp.example.com", "https://app.example.com.evil.com"),
        *(
            "https://app.example.com/",
            "https://app.example.com/x",
            "https://app.example.com?x",
            "https://app.example.com#x",
        ),
        *(
            "https://user@app.example.com",
            "https://user:pw@app.example.com",
            "https://evil.com@app.example.com",
        ),
        *(
            "https://app.example.com@evil.com",
            "https://app.example.com:0443",
            "https://app.example.com:",
            "https:app.example.com",
        ),
        *(
            " https://app.example.com",
            "https://app.example.com\n",
            "https://app.example.com https://evil.com",
        ),
        *(
            "https://app.example.com,https://evil.com",
            "https://app．example.com",
            "https://app.example.com:99999",
        ),
        *(
            "wss://app.example.com",
            "file://app.example.com",
            "https://app%2eexample.com",
            "https://*.example.com",
        ),
    ],
)
def test_what_only_looks_like_the_named_origin_does_not_pass(sent: str | None) -> None:
    assert not allows(Origins(("https://app.example.com",)), sent)


def test_the_kelvin_sign_is_not_the_letter_k() -> None:
    assert not allows(Origins(("https://kelvin.example.com",)), "https://\u212aelvin.example.com")


def test_a_wildcard_holds_every_name_below_and_nothing_else() -> None:
    origins = Origins(("https://*.example.com",))
    for sent in ("https://app.example.com", "https://a.b.example.com", "https://APP.example.com:443"):
        assert allows(origins, sent)
    for sent in (
        *("https://example.com", "https://evilexample.com", "https://.example.com", "https://a..example.com"),
        *("https://*.example.com", "http://app.example.com", "https://app.example.com:8443"),
        *("https://app.example.com.evil.com", "https://-.example.com", f"https://{'a' * 64}.example.com"),
    ):
        assert not allows(origins, sent)


def test_a_port_must_be_the_named_one() -> None:
    origins = Origins(("https://*.example.com:8443", "http://localhost:3000"))
    assert allows(origins, "https://app.example.com:8443")
    assert allows(origins, "http://localhost:3000")
    assert not allows(origins, "https://app.example.com")
    assert not allows(origins, "http://localhost")


def test_origins_may_be_addresses() -> None:
    origins = Origins(("http://127.0.0.1:3000", "http://[::1]:3000"))
    assert allows(origins, "http://127.0.0.1:3000")
    assert allows(origins, "http://[0:0:0:0:0:0:0:1]:3000")
    assert not allows(origins, "http://127.0.0.01:3000")
    assert not allows(origins, "http://127.1:3000")


def test_rules_are_kept_in_their_usual_spelling() -> None:
    rules = ("HTTPS://App.Example.com:443", "http://app.example.com:80", "https://*.Example.com:8443")
    assert Origins(rules).allow == (
        "https://app.example.com",
        "http://app.example.com",
        "https://*.example.com:8443",
    )


@pytest.mark.parametrize(
    ("entry", "advice"),
    [
        ("https://*.com", "at least two names"),
        ("http://*.localhost", "at least two names"),
        ("https://*.0.0.1", "does not exist"),
        ("https://*.127.0.0.1", "at least two names"),
        ("https://*", "Write it as"),
        ("*", "Write it as"),
        ("https://a*.example.com", "Write it as"),
        ("https://app.*.com", "Write it as"),
        ("https://*.*.example.com", "Write it as"),
        ("https://app.example.com/", "without path"),
        ("https://user@app.example.com", "without path or user"),
        ("https://app.example.com.", "Write it as"),
        ("https://app.example.com:*", "Write it as"),
        ("https://app.example.com:0", "Write it as"),
        ("https://app.example.com:65536", "Correct the address or the port"),
        ("https://1.2.3", "Correct the address or the port"),
        ("wss://app.example.com", "Write it as"),
        ("app.example.com", "Write it as"),
        ("https://bücher.example", "punycode"),
        ("null", "can be made by anyone"),
        ("", "Write it as"),
    ],
)
def test_a_rule_that_cannot_be_is_an_error_that_says_what_to_write(entry: str, advice: str) -> None:
    with pytest.raises(InvalidRestriction, match=advice):
        Origins((entry,))


def test_it_comes_back_from_json_as_it_was() -> None:
    origins = Origins(("https://app.example.com", "https://*.example.com"))
    assert msgspec.json.decode(msgspec.json.encode(origins), type=AnyRestriction) == origins
    assert origins.sentence() == "Only from the web origins https://app.example.com or https://*.example.com"


label = st.sampled_from(
    ["app", "example", "com", "evilexample", "a", "APP", "-", "", "x-y", "xn--a", "*", "é"]
)
host = st.lists(label, min_size=1, max_size=5).map(".".join)
port = st.sampled_from(["", ":443", ":80", ":8443", ":", ":0", ":0443", ":65536", ":x"])
scheme = st.sampled_from(["https://", "http://", "HTTPS://", "https:/", "ftp://", "", "https://x@"])
tail = st.sampled_from(["", "", "", "", ".", "/", "?", "@example.com", ".example.com", "\n"])
sent_origins = st.builds(lambda *parts: "".join(parts), scheme, host, port, tail) | st.text(max_size=20)
RULES = [
    *("https://app.example.com", "https://example.com", "https://*.example.com", "http://*.example.com:8443"),
    *("https://*.app.example.com", "http://example.com", "https://a:8443", "https://*.example.a"),
]


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.sampled_from(RULES), min_size=1, max_size=4), sent_origins)
def test_the_judge_agrees_with_the_slow_model(rules: list[str], sent: str) -> None:
    assert allows(Origins(tuple(rules)), sent) == origin_model.allowed(rules, sent)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "b", "evil", "x-y", "com"]), min_size=1, max_size=4),
    st.sampled_from(RULES),
)
def test_a_wildcard_holds_exactly_what_ends_in_a_dot_and_its_host(labels: list[str], rule: str) -> None:
    scheme, _, name = rule.partition("://")
    for joint in (".", "", "-"):
        sent = f"{scheme}://{'.'.join(labels)}{joint}{name.removeprefix('*.')}"
        assert allows(Origins((rule,)), sent) == origin_model.allowed([rule], sent)
        if joint == "." and name.startswith("*."):
            assert allows(Origins((rule,)), sent)
