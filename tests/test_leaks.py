"""The search for leaks finds a planted secret in each form, and nothing where there is none."""

from __future__ import annotations

import base64
import gzip
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from leaks import PIECE, STEP, Leaks, forms

SECRET = "sk-planted-" + "aB3dE6gH9" * 5
PLANTS: dict[str, Callable[[bytes], bytes]] = {
    "raw": lambda secret: secret,
    "hex": lambda secret: secret.hex().encode(),
    "HEX": lambda secret: secret.hex().upper().encode(),
    "percent": lambda secret: "".join(f"%{octet:02X}" for octet in secret).encode(),
    "percent, small": lambda secret: "".join(f"%{octet:02x}" for octet in secret).encode(),
    "percent where needed": lambda secret: quote(secret).encode(),
    "base64": base64.b64encode,
    "base64 behind a name": lambda secret: base64.b64encode(b"u:" + secret),
    "base64 behind another": lambda secret: base64.b64encode(b"user:" + secret + b"!"),
    "base64 for URLs": lambda secret: base64.urlsafe_b64encode(b"x" + secret),
    "UTF-16": lambda secret: secret.decode().encode("utf-16"),
    "UTF-16, big end first": lambda secret: secret.decode().encode("utf-16-be"),
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "zlib, fast": lambda secret: zlib.compress(secret, 1),
    "hex in gzip": lambda secret: gzip.compress(b"[" + secret.hex().encode() + b"]"),
    "base64 in zlib": lambda secret: zlib.compress(b"Basic " + base64.b64encode(b"a:" + secret), 9),
}


@pytest.mark.parametrize("form", PLANTS)
def test_a_planted_secret_is_found_in_each_form(form: str) -> None:
    planted = os.urandom(5_000) + PLANTS[form](SECRET.encode()) + os.urandom(5_000)
    assert {name for name, _ in Leaks({"planted": SECRET}).within(planted)} == {"planted"}


@pytest.mark.parametrize("form", ["raw", "hex", "base64", "UTF-16", "gzip"])
def test_a_part_of_it_is_found_wherever_it_was_cut(form: str) -> None:
    leaks = Leaks({"planted": SECRET})
    for start in range(len(SECRET) - PIECE - STEP + 1):
        part = SECRET[start : start + PIECE + STEP].encode()
        assert leaks.within(PLANTS[form](part)), (form, start)


def test_a_binary_secret_is_found_and_chance_is_not() -> None:
    key = bytes(range(100, 132))
    leaks = Leaks({"key": key, "planted": SECRET})
    assert leaks.within(b"{" + base64.b64encode(b"k" + key)) == {("key", "base64, 1")}
    assert leaks.within(os.urandom(1 << 20)) == set()
    assert leaks.within(SECRET[: PIECE - 1].encode()) == set()


def test_files_and_their_names_are_searched(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(SECRET.encode("utf-16-le"))
    (tmp_path / SECRET).touch()
    (tmp_path / "b").write_bytes(b"nothing")
    found = Leaks({"planted": SECRET}).in_files(tmp_path.iterdir())
    assert {Path(path).name for path in found} == {"a", SECRET}


def test_every_form_is_another_one() -> None:
    made = forms(b"\xfb\xff>?" + b"a1B2c3D4e5")
    assert len(set(made.values())) == len(made)
