"""Every file of the catalogue loads, strictly, and says what the vendors say."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from valetkey.decision.restrictions.base import CompileContext
from valetkey.decision.restrictions.endpoints import Endpoints
from valetkey.services.catalogue import InvalidPreset, UnknownPreset, load_preset, parse_preset, preset_names
from valetkey.services.placement import Basic, Bearer, Header, Query

NAMES = preset_names()
GATEWAY = "http://127.0.0.1:8300"


def test_the_well_known_ones_are_there() -> None:
    assert {"openai", "anthropic", "stripe", "github", "openweather"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_file_loads_and_makes_a_service(name: str) -> None:
    preset = load_preset(name)
    service = preset.service(name)
    assert service.preset == name
    assert service.origin().scheme == "https"
    assert preset.placement in preset.accepts
    assert preset.environment.key
    assert preset.rotation.url.startswith("https://")
    assert all(source for source in preset.sources)
    re.compile(preset.shape.regex)


@pytest.mark.parametrize("name", NAMES)
def test_no_pattern_is_written_twice_and_closed_ones_have_no_rest(name: str) -> None:
    preset = load_preset(name)
    closed = preset.closed_patterns()
    assert len(closed) == len(set(closed))
    assert not any(pattern.endswith("**") for pattern in closed)
    for endpoint in preset.endpoints.values():
        assert len(endpoint.patterns) == len(set(endpoint.patterns))
        assert endpoint.text.endswith(".")


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_field_in_a_file_is_an_error(name: str) -> None:
    data = files("valetkey.services").joinpath("catalogue", f"{name}.toml").read_bytes()
    parse_preset(name, data)
    with pytest.raises(InvalidPreset, match=f"{name}.toml"):
        parse_preset(name, b'colour = "blue"\n' + data)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"GET /v1/models"', b'"FETCH /v1/models"'),
        (b'"GET /v1/models"', b'"GET v1/models"'),
        (b'"GET /v1/models"', b'"GET /v1/**/models"'),
        (b"https://api.openai.com", b"http://api.openai.com"),
        (b'regex = "sk-', b'regex = "(sk-'),
        (b'"OPENAI_API_KEY"', b'"OPENAI API KEY"'),
        (b'type = "bearer" }', b'type = "bearer", name = "x" }'),
        (b"[endpoints.chat]", b"[endpoints.Chat_1]"),
    ],
)
def test_a_wrong_fact_is_an_error(old: bytes, new: bytes) -> None:
    data = files("valetkey.services").joinpath("catalogue", "openai.toml").read_bytes()
    assert old in data
    with pytest.raises(InvalidPreset):
        parse_preset("openai", data.replace(old, new))


def test_an_unknown_preset_lists_those_there_are() -> None:
    with pytest.raises(UnknownPreset, match="stripe"):
        load_preset("../../etc/passwd")


def test_keys_go_where_the_vendors_want_them() -> None:
    assert load_preset("openai").placement == Bearer()
    anthropic = load_preset("anthropic")
    assert anthropic.placement == Header("x-api-key")
    assert anthropic.accepts == (Header("x-api-key"), Bearer())
    assert anthropic.same_key_twice
    assert load_preset("stripe").accepts == (Bearer(), Basic("user"))
    assert load_preset("github").accepts == (Bearer(), Bearer("token"))
    assert load_preset("openweather").placement == Query("appid")


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("openai", f"{GATEWAY}/openai/v1"),
        ("anthropic", f"{GATEWAY}/anthropic"),
        ("stripe", f"{GATEWAY}/stripe"),
        ("github", f"{GATEWAY}/github"),
    ],
)
def test_base_urls_are_what_each_package_expects(name: str, url: str) -> None:
    assert load_preset(name).environment.url(GATEWAY + "/", name) == url


@pytest.mark.parametrize(
    ("name", "fits", "other"),
    [
        ("openai", "sk-" + "a" * 48, "pk-" + "a" * 48),
        ("openai", "sk-proj-" + "a-_" * 20, "sk-short"),
        ("anthropic", "sk-ant-" + "a" * 90, "sk-" + "a" * 90),
        ("stripe", "rk_" + "test_" + "a" * 24, "pk_" + "test_" + "a" * 24),
        ("github", "ghp_" + "a" * 36, "ghx_" + "a" * 36),
        ("github", "github_pat_" + "a" * 22 + "_" + "a" * 59, "github_" + "a" * 30),
        ("openweather", "0123456789abcdef" * 2, "0123456789ABCDEF" * 2),
    ],
)
def test_shapes_know_their_keys(name: str, fits: str, other: str) -> None:
    shape = re.compile(load_preset(name).shape.regex)
    assert shape.fullmatch(fits)
    assert not shape.fullmatch(other)


@pytest.mark.parametrize("name", NAMES)
def test_a_key_can_be_limited_to_each_named_endpoint(name: str) -> None:
    preset = load_preset(name)
    context = CompileContext(endpoints=preset.named_patterns(), wide=preset.closed_patterns())
    for label in preset.endpoints:
        assert Endpoints(allow=(label,)).compile(context)


def test_endpoints_that_carry_calls_or_credentials_are_closed() -> None:
    assert "POST /v1/batches" in load_preset("openai").closed_patterns()
    assert "POST /v1/messages/batches" in load_preset("anthropic").closed_patterns()
    assert "POST /v1/ephemeral_keys" in load_preset("stripe").closed_patterns()
    assert "POST /graphql" in load_preset("github").closed_patterns()


def test_a_base_url_takes_the_place_of_the_vendors_hosts() -> None:
    service = load_preset("stripe").service("mock", base_url="http://127.0.0.1:9000", allow_private=True)
    assert list(service.hosts) == ["api"]
    assert str(service.origin()) == "http://127.0.0.1:9000"
