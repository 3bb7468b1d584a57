"""Pairs of certificate and key: what is refused, what is warned of, when a new one is taken."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from certificates import Authority, Files, write_key
from valetkey.wire.certificate import CertificateRefused, WatchedPair, read_pair

DAY = 86_400


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_a_good_pair_is_read_and_its_key_shown_nowhere(authority: Authority) -> None:
    files = authority.sign(names=("localhost", "*.Example.com", "127.0.0.1", "::1"))
    pair = read_pair(files.certificate, files.key)
    assert isinstance(pair.context(("http/1.1",)), ssl.SSLContext)
    assert "PRIVATE" not in repr(pair) and "CERTIFICATE" not in repr(pair)
    names = ("localhost", "127.0.0.1", "[::1]", "keys.example.com")
    assert pair.warnings(names, time.time()) == []
    assert not pair.is_for("example.com") and not pair.is_for("a.b.example.com")


def swap_key(files: Files) -> None:
    write_key(files.key, ec.generate_private_key(ec.SECP256R1()))


def swap_files(files: Files) -> None:
    content = files.certificate.read_bytes()
    files.certificate.write_bytes(files.key.read_bytes())
    files.key.write_bytes(content)


WRONG: dict[str, tuple[Callable[[Files], object], str, str]] = {
    "no certificate file": (lambda f: f.certificate.unlink(), "certificate", "cannot be read (No such file"),
    "no key file": (lambda f: f.key.unlink(), "key", "cannot be read (No such file"),
    "a folder": (lambda f: (f.key.unlink(), f.key.mkdir()), "key", "is no file"),
    "empty certificate": (lambda f: f.certificate.write_bytes(b""), "certificate", "holds no certificate"),
    "certificate of noise": (
        lambda f: f.certificate.write_bytes(
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        ),
        "certificate",
        "holds no certificate",
    ),
    "empty key": (lambda f: f.key.write_bytes(b""), "key", "holds no private key"),
    "huge key": (lambda f: f.key.write_bytes(b"x" * 1_000_001), "key", "too large"),
    "swapped": (swap_files, "certificate", "holds no certificate"),
    "another key": (swap_key, "key", "does not belong to the first certificate"),
    "with a passphrase": (
        lambda f: write_key(f.key, ec.generate_private_key(ec.SECP256R1()), b"word"),
        "key",
        "protected by a passphrase",
    ),
    "readable by others": (lambda f: f.key.chmod(0o644), "key", "Others than its owner"),
    "readable by the group": (lambda f: f.key.chmod(0o640), "key", "Others than its owner"),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_pair_that_cannot_be_used_is_refused_with_the_file_at_fault(authority: Authority, how: str) -> None:
    files = authority.sign()
    secret = files.key.read_text().splitlines()[1]
    spoil, which, why = WRONG[how]
    spoil(files)
    with pytest.raises(CertificateRefused) as refused:
        read_pair(files.certificate, files.key)
    assert why in refused.value.sentence and str(getattr(files, which)) in refused.value.sentence
    assert refused.value.next_step
    told = repr((refused.value, refused.value.__context__, refused.value.__cause__))
    assert secret not in told + refused.value.next_step


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_key_of_another_user_is_refused(authority: Authority) -> None:
    files = authority.sign()
    os.chown(files.key, 1234, 1234)
    with pytest.raises(CertificateRefused, match="belongs to another user"):
        read_pair(files.certificate, files.key)


@pytest.mark.parametrize(
    ("begins", "ends", "said"),
    [(-30, -1, "ended on"), (-30, 3, "renew it"), (2, 90, "begins on"), (-1, 90, "not for keys.example.com")],
)
def test_what_callers_will_trip_over_is_a_warning(
    authority: Authority, begins: float, ends: float, said: str
) -> None:
    files = authority.sign(begins=begins, ends=ends)
    warnings = read_pair(files.certificate, files.key).warnings(("keys.example.com",), time.time())
    assert [said in warning for warning in warnings].count(True) == 1


def test_a_new_pair_is_taken_when_both_files_stand_still(authority: Authority) -> None:
    files, said = authority.sign(), []
    watched = WatchedPair(files.certificate, files.key, said.append)
    first = watched.pair
    assert not watched.look()
    authority.sign()
    assert not watched.look()
    assert watched.look() and watched.pair != first
    assert not watched.look()
    assert len(said) == 1 and "A new certificate is in use" in said[0]


def test_half_a_new_pair_is_waited_with(authority: Authority) -> None:
    files, said = authority.sign(), []
    watched = WatchedPair(files.certificate, files.key, said.append)
    old_key = files.key.read_bytes()
    authority.sign()
    new_key = files.key.read_bytes()
    files.key.write_bytes(old_key)
    assert not watched.look()
    files.key.write_bytes(new_key)
    assert not watched.look()
    assert watched.look()
    assert len(said) == 1


def test_a_bad_pair_leaves_the_old_one_and_is_said_once(authority: Authority) -> None:
    files, said = authority.sign(), []
    watched = WatchedPair(files.certificate, files.key, said.append)
    first = watched.pair
    swap_key(files)
    assert [watched.look() for _ in range(5)] == [False] * 5
    assert watched.pair is first
    assert len(said) == 1 and "does not belong" in said[0] and "the old one stays" in said[0]
    files.key.unlink()
    assert [watched.look() for _ in range(5)] == [False] * 5
    assert len(said) == 2 and "cannot be read" in said[1]
    authority.sign()
    assert watched.look(at_once=True) and watched.pair != first


def test_whoever_asks_for_it_gets_the_new_pair_at_once(authority: Authority) -> None:
    files = authority.sign()
    watched = WatchedPair(files.certificate, files.key)
    authority.sign()
    assert watched.look(at_once=True)
