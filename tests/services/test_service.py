"""A service exists only if valid, and survives storage."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from valetkey.services.catalogue import custom_service
from valetkey.services.placement import Bearer, Header
from valetkey.services.service import InvalidService, Kind, Origin, Service


def service(**changes: Any) -> Service:
    fields: dict[str, Any] = {
        "name": "weather",
        "hosts": {"api": Origin.parse("https://api.example.com")},
        "placement": Bearer(),
        "accepts": (Bearer(),),
    }
    return Service(**{**fields, **changes})


@pytest.mark.parametrize("name", ["ab", "openai", "a1-b", "a" * 31])
def test_names_are_short_and_plain(name: str) -> None:
    assert service(name=name).name == name


@pytest.mark.parametrize(
    "name",
    ["", "a", "A1", "1a", "-a", "a_b", "a.b", "a" * 32, "ab\n", "v1", "api", "healthz", "readyz", "metrics"],
)
def test_other_names_and_the_gateways_own_are_refused(name: str) -> None:
    with pytest.raises(InvalidService):
        service(name=name)


@pytest.mark.parametrize(
    "changes",
    [
        {"hosts": {}},
        {"placement": None},
        {"accepts": ()},
        {"hosts": {"Bad Name": Origin.parse("https://api.example.com")}},
        {"ceiling": 0},
        {"price_micros": -1},
        {"hosts": {"api": Origin.parse("https://10.0.0.1", allow_private=True)}},
        {"hosts": {"api": Origin.parse("http://api.example.com", allow_plain=True)}},
        {"kind": Kind.OWN},
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"[.]$"):
        service(**changes)


def test_an_own_service_has_no_upstream() -> None:
    own = Service(name="orders", kind=Kind.OWN)
    with pytest.raises(InvalidService):
        own.origin()


def test_the_first_host_is_the_default_and_others_go_by_name() -> None:
    hosts = {
        "api": Origin.parse("https://api.example.com"),
        "files": Origin.parse("https://files.example.com"),
    }
    made = service(hosts=hosts)
    assert made.origin() == hosts["api"]
    assert made.origin("files") == hosts["files"]
    with pytest.raises(InvalidService, match="api, files"):
        made.origin("other")


def test_a_service_survives_storage_and_is_checked_again() -> None:
    made = service(allow_private=True, hosts={"api": Origin.parse("https://10.0.0.1", allow_private=True)})
    stored = msgspec.json.encode(made)
    assert msgspec.json.decode(stored, type=Service) == made
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(stored.replace(b'"allow_private":true', b'"allow_private":false'), type=Service)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(stored.replace(b'"locked"', b'"lokced"'), type=Service)


def test_a_service_of_no_preset_takes_keys_where_it_puts_them() -> None:
    made = custom_service("mine", "https://api.example.com/v2", Header("x-key"))
    assert made.accepts == (Header("x-key"),)
    assert made.origin().prefix == "/v2"
