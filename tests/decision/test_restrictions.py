"""What holds for every restriction."""

from __future__ import annotations

import typing

import msgspec
import pytest

from valetkey.decision.codes import Code
from valetkey.decision.restrictions import (
    RESTRICTIONS,
    AnyRestriction,
    CompileContext,
    Endpoints,
    Hosts,
    Networks,
    Origins,
    Restriction,
    Schedule,
    Sticky,
)

EXAMPLES: list[Restriction] = [
    Networks(("203.0.113.0/24",)),
    Sticky(),
    Origins(("https://app.example.com",)),
    Hosts(("api.example.com",)),
    Endpoints(("GET /v1/models",)),
    Schedule(("mon-fri 08:00-18:00 Europe/Berlin",)),
]


def test_their_order_is_the_order_of_the_codes() -> None:
    order = list(Code)
    places = [order.index(kind.code) for kind in RESTRICTIONS]
    assert places == sorted(places)


def test_the_union_and_the_list_name_the_same_kinds() -> None:
    assert typing.get_args(AnyRestriction) == RESTRICTIONS
    assert [type(example) for example in EXAMPLES] == list(RESTRICTIONS)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_each_speaks_for_itself_and_comes_back_from_json(
    example: Restriction,
) -> None:
    assert example.code.value.endswith("_DENIED")
    assert example.options
    assert all(option.startswith("--") for option in example.options)
    assert example.sentence()
    assert not example.sentence().endswith(".")
    assert callable(example.compile(CompileContext()))
    assert msgspec.json.decode(msgspec.json.encode(example), type=AnyRestriction) == example
    assert hash(example) == hash(msgspec.json.decode(msgspec.json.encode(example), type=AnyRestriction))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_a_stored_field_of_another_type_is_refused(example: Restriction) -> None:
    stored = msgspec.to_builtins(example)
    for field in set(stored) - {"type"}:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({**stored, field: [1]}, type=AnyRestriction)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_a_stored_field_that_is_not_known_is_refused(example: Restriction) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**msgspec.to_builtins(example), "alow": []}, type=AnyRestriction)
