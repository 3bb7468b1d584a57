"""What is sealed opens only with its own key, in its own place, unchanged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from valetkey.errors import Invalid
from valetkey.vault.plain import PlainSecret
from valetkey.vault.sealing import (
    MAX_PLAIN_BYTES,
    IssuedKeyContext,
    KeyContext,
    RootKey,
    SealBroken,
    SealedKey,
    SealedSecret,
    SecretContext,
    WorkspaceKey,
    WrongWrappingKey,
    open_key,
    open_sealed,
    open_workspace_key,
    rewrap,
    seal,
    seal_key,
    seal_workspace_key,
)

VECTORS = json.loads((Path(__file__).parents[2] / "docs" / "formats" / "sealing-vectors.json").read_text())

ROOT, OTHER_ROOT = RootKey(b"r" * 32), RootKey(b"R" * 32)
KEY, OTHER_KEY = WorkspaceKey(b"w" * 32), WorkspaceKey(b"W" * 32)
CONTEXT = SecretContext("ws_1", "svc_1", "env_1", "main", 1, "text")
SECRET = PlainSecret("sk-test-A1b2C3")

contexts = st.builds(
    SecretContext, st.text(max_size=4), st.text(max_size=4), st.text(max_size=4), st.text(max_size=4),
    st.integers(1, 300), st.sampled_from(["text", "json"]),
)  # fmt: skip


def counted() -> Callable[[int], bytes]:
    """Randomness that can be read: 00 01 02 …, going on from draw to draw."""
    place = 0

    def draw(size: int) -> bytes:
        nonlocal place
        place += size
        return bytes(number % 256 for number in range(place - size, place))

    return draw


@given(st.binary(max_size=300), contexts)
def test_what_is_sealed_opens(value: bytes, context: SecretContext) -> None:
    sealed = seal(PlainSecret(value), context, KEY)
    assert open_sealed(sealed, context, KEY).reveal() == value
    assert len(value) < 8 or value not in sealed


@given(contexts, contexts)
def test_a_value_moved_to_another_record_does_not_open(own: SecretContext, other: SecretContext) -> None:
    sealed = seal(SECRET, own, KEY)
    if own == other:
        assert open_sealed(sealed, other, KEY) == SECRET
    else:
        with pytest.raises(SealBroken):
            open_sealed(sealed, other, KEY)


@pytest.mark.parametrize("field", ["workspace", "service", "environment", "name", "version", "format"])
def test_every_part_of_the_identity_counts(field: str) -> None:
    other = msgspec.structs.replace(CONTEXT, **{field: 2 if field == "version" else "x"})
    with pytest.raises(SealBroken):
        open_sealed(seal(SECRET, CONTEXT, KEY), other, KEY)


def test_neighbouring_fields_cannot_trade_characters() -> None:
    assert SecretContext("ab", "c", "", "", 1).canonical() != SecretContext("a", "bc", "", "", 1).canonical()
    assert (
        IssuedKeyContext("a", "b", "c", "d").canonical() != SecretContext("a", "b", "c", "d", 1).canonical()
    )


def test_any_changed_bit_is_noticed() -> None:
    sealed = seal(SECRET, CONTEXT, KEY)
    for place in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises((SealBroken, WrongWrappingKey)):
            open_sealed(SealedSecret(bytes(changed)), CONTEXT, KEY)


def test_a_value_cut_short_is_noticed() -> None:
    sealed = seal(SECRET, CONTEXT, KEY)
    for size in range(len(sealed)):
        with pytest.raises(SealBroken):
            open_sealed(SealedSecret(sealed[:size]), CONTEXT, KEY)


def test_another_key_is_told_from_a_broken_value() -> None:
    with pytest.raises(WrongWrappingKey, match=f"{KEY.id}.*{OTHER_KEY.id}"):
        open_sealed(seal(SECRET, CONTEXT, KEY), CONTEXT, OTHER_KEY)
    with pytest.raises(WrongWrappingKey, match=f"root key {ROOT.id}.*{OTHER_ROOT.id}"):
        open_workspace_key(seal_workspace_key(KEY, "ws_1", ROOT), "ws_1", OTHER_ROOT)


def test_a_workspace_key_opens_only_for_its_workspace() -> None:
    sealed = seal_workspace_key(KEY, "ws_1", ROOT)
    assert open_workspace_key(sealed, "ws_1", ROOT) == KEY
    with pytest.raises(SealBroken):
        open_workspace_key(sealed, "ws_2", ROOT)


def test_a_key_opens_only_for_its_purpose() -> None:
    index_key = PlainSecret(b"i" * 32)
    sealed = seal_key(index_key, KeyContext("ws_1", "index"), KEY)
    assert open_key(sealed, KeyContext("ws_1", "index"), KEY) == index_key
    for other in (KeyContext("ws_1", "index:svc_1"), KeyContext("ws_2", "index")):
        with pytest.raises(SealBroken):
            open_key(sealed, other, KEY)
    with pytest.raises(Invalid):
        seal_key(index_key, KeyContext("ws_1", "workspace"), KEY)


def test_envelopes_and_keys_are_not_taken_for_one_another() -> None:
    with pytest.raises(SealBroken):
        open_key(SealedKey(seal(SECRET, CONTEXT, KEY)), KeyContext("ws_1", "index"), KEY)
    with pytest.raises(SealBroken):
        open_sealed(SealedSecret(seal_key(SECRET, KeyContext("ws_1", "index"), KEY) * 2), CONTEXT, KEY)


def test_rewrapping_changes_the_key_and_not_the_value() -> None:
    sealed = seal(SECRET, CONTEXT, KEY)
    moved = rewrap(sealed, CONTEXT, KEY, OTHER_KEY)
    assert open_sealed(moved, CONTEXT, OTHER_KEY) == SECRET
    assert moved[-len(SECRET.reveal()) - 28 :] == sealed[-len(SECRET.reveal()) - 28 :]
    with pytest.raises(WrongWrappingKey):
        open_sealed(moved, CONTEXT, KEY)


def test_an_issued_key_can_be_sealed_to_be_given_again() -> None:
    context = IssuedKeyContext("ws_1", "svc_1", "env_1", "key_1")
    assert open_sealed(seal(SECRET, context, KEY), context, KEY) == SECRET


def test_two_sealings_of_one_value_differ() -> None:
    assert seal(SECRET, CONTEXT, KEY)[9:] != seal(SECRET, CONTEXT, KEY)[9:]


def test_a_value_too_large_and_a_key_of_another_length_are_refused() -> None:
    with pytest.raises(Invalid):
        seal(PlainSecret(bytes(MAX_PLAIN_BYTES + 1)), CONTEXT, KEY)
    with pytest.raises(Invalid, match="32 bytes"):
        WorkspaceKey(b"short")


def test_wrapping_keys_print_their_id_alone() -> None:
    assert repr(ROOT) == f"RootKey(id='{ROOT.id}', ***)"
    assert ROOT.id != WorkspaceKey(b"r" * 32).id


# -- vectors: sealed by us with given randomness, opened here by the words of docs/formats/sealing.md


def associated(fields: list[str]) -> bytes:
    return b"valetkey" + b"".join(len(f.encode()).to_bytes(4, "big") + f.encode() for f in fields)


@pytest.mark.parametrize("vector", VECTORS["secrets"], ids=lambda vector: vector["name"])
def test_vectors_of_secrets(vector: dict[str, object]) -> None:
    key = bytes.fromhex(str(vector["workspace_key"]))
    fields = [str(field) for field in vector["identity"]]  # type: ignore[attr-defined]
    sealed = bytes.fromhex(str(vector["sealed"]))
    assert sealed[0] == 1
    assert sealed[1:9].hex() == vector["workspace_key_id"]
    data_key = AESGCM(key).decrypt(sealed[9:21], sealed[21:69], b"data key" + associated(fields))
    plain = AESGCM(data_key).decrypt(sealed[69:81], sealed[81:], b"\x01" + associated(fields))
    assert plain.hex() == vector["plain"]
    context = SecretContext(*fields[1:5], int(fields[5]), fields[6])
    assert seal(PlainSecret(plain), context, WorkspaceKey(key), counted()) == sealed
    assert open_sealed(SealedSecret(sealed), context, WorkspaceKey(key)).reveal() == plain


@pytest.mark.parametrize("vector", VECTORS["keys"], ids=lambda vector: vector["name"])
def test_vectors_of_keys(vector: dict[str, object]) -> None:
    wrapping = bytes.fromhex(str(vector["wrapping_key"]))
    fields = [str(field) for field in vector["identity"]]  # type: ignore[attr-defined]
    sealed = bytes.fromhex(str(vector["sealed"]))
    assert sealed[0] == 2
    assert sealed[1:9].hex() == vector["wrapping_key_id"]
    key = AESGCM(wrapping).decrypt(sealed[9:21], sealed[21:], b"\x02" + associated(fields))
    assert key.hex() == vector["key"]
    if fields[2] == "workspace":
        assert seal_workspace_key(WorkspaceKey(key), fields[1], RootKey(wrapping), counted()) == sealed
    else:
        context = KeyContext(fields[1], fields[2])
        assert seal_key(PlainSecret(key), context, WorkspaceKey(wrapping), counted()) == sealed
