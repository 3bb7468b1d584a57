"""A secret in the clear never shows itself by accident."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import msgspec
import pytest

from valetkey.vault.plain import PlainKey, PlainSecret, PlainSecretNotText

VALUE = "sk-test-A1b2C3"


@dataclasses.dataclass
class Holder:
    secret: PlainSecret


@pytest.mark.parametrize("make", [PlainSecret, PlainKey])
def test_a_secret_prints_as_stars_however_it_is_printed(make: type[PlainSecret]) -> None:
    secret = make(VALUE)
    shown = [
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret:>40}",
        f"{secret!r}",
        "{} {!r:>9}".format(*[secret] * 2),
    ]
    shown += [repr([secret]), repr(Holder(secret)), str({"a": secret})]
    for text in shown:
        assert "***" in text
        assert "A1b2C3" not in text


def test_a_secret_comes_out_only_when_asked() -> None:
    assert PlainSecret(VALUE).reveal() == VALUE.encode()
    assert PlainSecret(VALUE.encode()).reveal_text() == VALUE


@pytest.mark.parametrize(
    "encode", [pickle.dumps, json.dumps, msgspec.json.encode, msgspec.msgpack.encode, bytes, list]
)
def test_a_secret_cannot_be_encoded_by_accident(encode: object) -> None:
    with pytest.raises(TypeError) as refusal:
        encode(PlainSecret(VALUE))  # type: ignore[operator]
    assert VALUE not in str(refusal.value)
    with pytest.raises(TypeError):
        msgspec.json.encode(Holder(PlainSecret(VALUE)))


def test_bytes_that_are_no_text_are_not_in_the_error() -> None:
    with pytest.raises(PlainSecretNotText) as refusal:
        PlainSecret(VALUE.encode() + b"\xff").reveal_text()
    assert refusal.value.__context__ is None  # a UnicodeDecodeError would carry the value along
    assert VALUE not in str(refusal.value)


def test_a_secret_cannot_be_changed_hashed_or_compared_with_text() -> None:
    secret = PlainSecret(VALUE)
    with pytest.raises(AttributeError):
        secret._value = b""
    with pytest.raises(AttributeError):
        del secret._value
    with pytest.raises(TypeError):
        hash(secret)
    assert secret == PlainSecret(VALUE.encode())
    assert secret != PlainSecret("other")
    assert secret != VALUE
    assert copy.deepcopy(secret) is copy.copy(secret) is secret
    assert not PlainSecret("")


def test_last_four_of_a_key() -> None:
    assert PlainKey(VALUE).last4 == "b2C3"
