"""Weak, wrong and reused values are named when they come in; good ones pass in silence."""

from __future__ import annotations

import base64
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from valetkey.errors import Invalid
from valetkey.vault.plain import PlainSecret
from valetkey.vault.strength import ControlCharacters, WeaknessKind, clean_input, examine

LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def kinds(text: str, shape: str | None = None, reused: bool = False) -> set[str]:
    found = examine(PlainSecret(text), re.compile(shape) if shape else None, reused)
    for weakness in found:
        assert len(text) < 8 or text not in weakness.sentence + weakness.next_step
    return {weakness.kind.value for weakness in found}


@settings(max_examples=300)
@given(st.integers(0, 2**32))
def test_random_keys_pass(seed: int) -> None:
    draw = random.Random(seed)
    for text in (
        "sk-test-" + "".join(draw.choices(LETTERS, k=40)),
        draw.randbytes(20).hex(),
        draw.randbytes(16).hex(),
        base64.b64encode(draw.randbytes(24)).decode(),
        "secret_" + "".join(draw.choices(LETTERS, k=32)),
        "".join(draw.choices(LETTERS, k=20)),
    ):
        assert kinds(text) <= {
            "sequential",
            "repeated",
        }  # these two may come up by chance, about once a million


@pytest.mark.parametrize(
    "text",
    ["changeme", "your-api-key", "YOUR_API_KEY_HERE", "sk-xxxxxxxxxxxxxxxx", "<api key>", "${OPENAI_API_KEY}",
     "{{ token }}", "$API_KEY", "%API_KEY%", "password123", "Secret!", "admin-admin", "AKIDTESTEXAMPLE",
     "replace-me-please-0000", "my-token-1"],
)  # fmt: skip
def test_placeholders_and_common_words_are_named(text: str) -> None:
    assert "placeholder" in kinds(text)


@pytest.mark.parametrize(
    "text", ["k-123456-Zq", "abcdefghijklmnop", "987654321", "Qwertyuiop1", "zz-lkjhgf-9"]
)
def test_sequences_are_named(text: str) -> None:
    assert "sequential" in kinds(text)


@pytest.mark.parametrize("text", ["aaaaaaaaaaaaaaaaaaaa", "abcabcabcabc", "Zq000000000Kx"])
def test_repetitions_are_named(text: str) -> None:
    assert "repeated" in kinds(text)


def test_short_and_guessable_values_are_named() -> None:
    assert {"short", "guessable"} <= kinds("Zq9!")
    assert "guessable" in kinds("abababbbaabbabababbbabab")


def test_shape_and_reuse_are_named() -> None:
    good = "sk-test-9fKq27LmZx03RtVw81YpBn5D"
    assert kinds(good, r"sk-[A-Za-z0-9-]{20,}") == set()
    assert kinds(good, r"ghp_.*") == {"shape"}
    assert kinds(good, reused=True) == {"reused"}
    assert kinds(good + "\n", r"sk-[A-Za-z0-9-]{20,}") == {"shape"}


def test_every_kind_of_weakness_can_come_up() -> None:
    seen = kinds("aaaaaa", "b+", True) | kinds("changeme") | kinds("123456")
    assert seen == {kind.value for kind in WeaknessKind}


@pytest.mark.parametrize("given_", ["k1", "k1\n", "k1\r\n", b"k1\n"])
def test_one_trailing_newline_is_dropped(given_: str | bytes) -> None:
    assert clean_input(given_).reveal() == b"k1"


@pytest.mark.parametrize(
    "text", ["k1\n\n", "k\n1", "k\t1", "k\x001", "k1\r", "k\x7f", "k\x85", "\nk1", "k\u20281"]
)
def test_control_characters_are_refused(text: str) -> None:
    with pytest.raises(ControlCharacters):
        clean_input(text)


def test_line_breaks_may_stand_where_a_secret_has_lines() -> None:
    assert clean_input("-----BEGIN\nabc\n-----END\n", lines=True).reveal() == b"-----BEGIN\nabc\n-----END"
    with pytest.raises(ControlCharacters):
        clean_input("a\nb\x00", lines=True)


@pytest.mark.parametrize("value", ["", "\n", "   ", b"k\xff"])
def test_nothing_and_what_is_no_text_are_refused(value: str | bytes) -> None:
    with pytest.raises(Invalid) as refusal:
        clean_input(value)
    assert refusal.value.__cause__ is None
    assert refusal.value.__context__ is None


def test_spaces_inside_and_around_stay() -> None:
    assert clean_input(" a b ").reveal() == b" a b "
