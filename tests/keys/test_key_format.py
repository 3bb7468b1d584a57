"""A key says what it is, survives no typo, and leaves nothing behind from which it could be found again."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import key_format_model as model
from valetkey.keys import format as key_format
from valetkey.keys.format import (
    BODY_LENGTH,
    MAX_KEY_LENGTH,
    CredentialKind,
    InvalidKey,
    KeyKind,
    check_of,
    generate,
    has_all_classes,
    looks_like_key,
    mask_keys,
    parse,
)
from valetkey.keys.kinds import KIND_OF_SHORT, defaults_by_kind, defaults_of
from valetkey.vault.fingerprint import fingerprint

VECTORS = json.loads((Path(__file__).parents[2] / "docs" / "formats" / "key-vectors.json").read_text())

prefixes = st.from_regex(r"\A[a-z][a-z0-9]{1,9}\Z")
kinds = st.sampled_from([*KeyKind, *CredentialKind])
seeds = st.integers(0, 2**32)


def made(prefix: str = "vk", kind: KeyKind | CredentialKind = KeyKind.PRIVATE, seed: int = 1) -> str:
    return generate(prefix, kind, random.Random(seed).randbytes).reveal_text()


@given(prefixes, kinds, seeds)
def test_a_new_key_is_read_back_as_what_it_was_made(
    prefix: str, kind: KeyKind | CredentialKind, seed: int
) -> None:
    text = made(prefix, kind, seed)
    assert model.is_key(text)
    parsed = parse(text)
    assert (parsed.prefix, parsed.kind, parsed.last4) == (prefix, kind, text[-4:])
    assert parse(text.encode()) == parsed
    assert looks_like_key(b"/v1/" + text.encode())


@given(seeds)
def test_a_body_holds_upper_lower_and_digit(seed: int) -> None:
    body = made(seed=seed).split("_")[2][:BODY_LENGTH]
    assert re.search("[a-z]", body)
    assert re.search("[A-Z]", body)
    assert re.search("[0-9]", body)


def test_a_body_that_lacks_a_class_is_drawn_again() -> None:
    draws = iter([bytes([0] * 64), bytes([10] * 64), bytes([40] * 64), random.Random(2).randbytes(64)])
    body = generate("vk", KeyKind.PUBLIC, lambda _: next(draws)).reveal().split(b"_")[2]
    assert has_all_classes(body[:BODY_LENGTH])
    assert next(draws, None) is None


@given(st.binary(min_size=1, max_size=20).map(lambda raw: bytes(key_format.ALPHABET[b % 62] for b in raw)))
def test_classes_are_those_of_the_characters(body: bytes) -> None:
    text = body.decode()
    wanted = all(any(test(c) for c in text) for test in (str.isupper, str.islower, str.isdigit))
    assert has_all_classes(body) == wanted


def test_every_character_is_drawn_with_the_same_chance() -> None:
    every_byte_once = bytes(range(256))
    counted = Counter(every_byte_once.translate(key_format._TO_BASE62, key_format._UNFAIR))
    assert set(counted) == set(key_format.ALPHABET)
    assert set(counted.values()) == {4}


def test_a_body_holds_256_bits() -> None:
    without = 62**43 - 52**43 - 36**43 - 36**43 + 26**43 + 26**43 + 10**43
    assert without > 2**256  # exact count of the bodies that can be drawn


@given(seeds, st.data())
def test_one_wrong_character_is_noticed(seed: int, data: st.DataObject) -> None:
    text = made(seed=seed)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(model.DIGITS + "_- ").filter(lambda c: c != text[place]))
    with pytest.raises(InvalidKey):
        parse(text[:place] + other + text[place + 1 :])


@given(seeds, st.integers(1, 50))
def test_a_key_cut_short_is_noticed(seed: int, cut: int) -> None:
    with pytest.raises(InvalidKey):
        parse(made(seed=seed)[:-cut])


@given(st.one_of(st.text(max_size=120), st.from_regex(r"\A[a-z]{1,4}_(pub|prv|xyz)_[0-9A-Za-z]{40,60}\Z")))
def test_whatever_comes_is_judged_as_the_slow_reading_judges(text: str) -> None:
    try:
        parse(text)
        well_formed = True
    except InvalidKey as refusal:
        well_formed, said = False, str(refusal) + refusal.next_step
    assert well_formed == model.is_key(text)
    assert well_formed or len(text) < 10 or text not in said


@given(st.binary(max_size=120))
def test_bytes_that_are_no_key_are_refused_without_another_error(raw: bytes) -> None:
    with pytest.raises(InvalidKey):
        parse(raw)


def test_a_long_text_is_refused_before_it_is_looked_at() -> None:
    with pytest.raises(InvalidKey, match="that long"):
        parse("vk_prv_" + "a" * MAX_KEY_LENGTH)


@pytest.mark.parametrize("ending", ["\n", " ", "\r\n", "\x00", "é"])
def test_nothing_may_follow_a_key(ending: str) -> None:
    with pytest.raises(InvalidKey):
        parse(made() + ending)
    with pytest.raises(InvalidKey):
        parse(made().encode() + ending.encode())


@pytest.mark.parametrize("prefix", ["", "v", "Vk", "1vk", "v_k", "v-k", "abcdefghijk", "vk\n", "vé"])
def test_a_prefix_that_cannot_stand_in_a_key_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidKey):
        generate(prefix, KeyKind.PRIVATE)


@given(st.binary(max_size=50))
def test_the_checksum_is_the_slow_ones(text: bytes) -> None:
    assert check_of(text).decode() == model.check(text.decode("latin-1")) or max(text, default=0) > 127


@given(seeds, st.binary(min_size=32, max_size=32))
def test_a_fingerprint_is_the_slow_ones(seed: int, index_key: bytes) -> None:
    value = made(seed=seed).encode()
    assert fingerprint(value, index_key) == model.fingerprint(value.decode(), index_key)


def test_keys_in_a_path_are_masked_whole_cut_or_mistyped() -> None:
    key = made().encode()
    for shown in (key, key[:-9], key[:-1] + b"!", key + b"x"):
        masked = mask_keys(b"/v1/k/" + shown + b"/end")
        assert masked.startswith(b"/v1/k/***")
        assert key[10:20] not in masked
    assert mask_keys(b"/v1/models/gpt_pub_small") == b"/v1/models/gpt_pub_small"


def test_a_key_does_not_print() -> None:
    key = generate("vk", KeyKind.PRIVATE, os.urandom)
    assert key.reveal_text()[7:20] not in f"{key} {key!r} {key:>80}"
    assert key.last4 == key.reveal_text()[-4:]


@pytest.mark.parametrize("vector", VECTORS["keys"], ids=lambda vector: vector["key"][:7])
def test_vectors_of_keys(vector: dict[str, str]) -> None:
    parsed = parse(vector["key"])
    assert (parsed.prefix, parsed.kind.short, parsed.last4) == (
        vector["prefix"],
        vector["kind"],
        vector["last4"],
    )
    assert hashlib.sha256(vector["key"].encode()).hexdigest() == vector["sha256"]
    assert (
        fingerprint(vector["key"].encode(), bytes.fromhex(vector["index_key"])).hex() == vector["fingerprint"]
    )


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["why"])
def test_vectors_of_texts_that_are_no_keys(vector: dict[str, str]) -> None:
    assert not model.is_key(vector["text"])
    with pytest.raises(InvalidKey):
        parse(vector["text"])


# -- kinds


def test_every_kind_has_its_own_three_letters() -> None:
    assert {kind.short: kind for kind in (*KeyKind, *CredentialKind)} == dict(KIND_OF_SHORT)
    assert tuple(KIND_OF_SHORT) == model.KINDS


def test_every_kind_has_defaults() -> None:
    assert set(defaults_by_kind()) == set(KeyKind)
    public, private = defaults_of(KeyKind.PUBLIC), defaults_of(KeyKind.PRIVATE)
    assert (public.rate, public.burst, public.quota) == ("5/s", 10, ("10000/day",))
    assert public.methods == ("GET",)
    assert public.address_rate is not None
    assert (private.rate, private.burst, private.concurrency, private.review) == ("20/s", 40, 8, "90d")
    assert defaults_of(KeyKind.PARTNER) == private
    temporary = defaults_of(KeyKind.TEMPORARY)
    assert (temporary.expires, temporary.uses) == ("1h", 1000)
