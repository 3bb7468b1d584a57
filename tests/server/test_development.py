"""The development certificate: made once, kept, made anew when it has to be, and good for its own names alone."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from unittest import mock

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certificates import NAMES
from valetkey.errors import Invalid
from valetkey.server import development
from valetkey.server.development import DevelopmentPair
from valetkey.settings import Settings
from valetkey.wire.certificate import read_pair


def taken(pair: DevelopmentPair, host: str) -> bool:
    """Whether a caller that trusts the authority takes the server for `host`."""
    here, there = socket.socketpair()
    server = read_pair(pair.certificate, pair.key).context(())

    def serve() -> None:
        with suppress(OSError), server.wrap_socket(there, server_side=True) as end:
            end.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        caller = ssl.create_default_context(cafile=str(pair.authority))
        with caller.wrap_socket(here, server_hostname=host):
            return True
    except ssl.SSLCertVerificationError:
        return False
    finally:
        here.close()
        thread.join(5)


def test_it_is_made_for_loopback_and_the_names_and_kept_by_the_owner_alone(tmp_path: Path) -> None:
    pair = DevelopmentPair(tmp_path)
    pair.prepare(("Keys.Example.com", "192.0.2.7"))
    assert all(
        taken(pair, host) for host in ("localhost", "127.0.0.1", "::1", "keys.example.com", "192.0.2.7")
    )
    assert not taken(pair, "example.com")
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "tls").iterdir()} == {0o600}
    assert (tmp_path / "tls").stat().st_mode & 0o777 == 0o700
    settings = pair.settings(Settings(tls_dev=True))
    assert (settings.tls_cert, settings.tls, settings.tls_dev) == (str(pair.certificate), True, False)


def test_it_stays_as_long_as_it_is_good(tmp_path: Path) -> None:
    pair = DevelopmentPair(tmp_path)
    pair.prepare(("keys.example.com", "2001:DB8::1"))
    before = {file: file.read_bytes() for file in (tmp_path / "tls").iterdir()}
    pair.prepare(("keys.example.com", "2001:db8::1"))
    assert {file: file.read_bytes() for file in (tmp_path / "tls").iterdir()} == before


@pytest.mark.parametrize("how", ["lost key", "spoilt", "nearly over", "fewer names"])
def test_a_pair_that_is_no_longer_good_is_signed_anew_by_the_same_authority(tmp_path: Path, how: str) -> None:
    pair = DevelopmentPair(tmp_path)
    names = ("keys.example.com",)
    with mock.patch.object(development, "LEAF_DAYS", 20 if how == "nearly over" else 397):
        pair.prepare(names)
    authority, certificate = pair.authority.read_bytes(), pair.certificate.read_bytes()
    if how == "lost key":
        pair.key.unlink()
    elif how == "spoilt":
        pair.certificate.write_bytes(b"no")
    elif how == "fewer names":
        names = ()
    pair.prepare(names)
    assert pair.authority.read_bytes() == authority
    assert pair.certificate.read_bytes() != certificate
    assert taken(pair, "localhost")


@pytest.mark.parametrize("how", ["another name", "lost key", "lost"])
def test_an_authority_that_may_not_sign_for_all_names_is_made_anew(tmp_path: Path, how: str) -> None:
    pair = DevelopmentPair(tmp_path)
    pair.prepare(())
    before = pair.authority.read_bytes()
    if how == "lost":
        pair.authority.unlink()
    elif how == "lost key":
        (tmp_path / "tls" / "ca.key").unlink()
    pair.prepare(("keys.example.com",))
    assert pair.authority.read_bytes() != before
    assert taken(pair, "keys.example.com")


def test_the_authority_is_trusted_for_no_other_name(tmp_path: Path) -> None:
    """Whoever gets its key can pretend to be nobody else."""
    pair = DevelopmentPair(tmp_path)
    pair.prepare(())
    authority = x509.load_pem_x509_certificate(pair.authority.read_bytes())
    signing = serialization.load_pem_private_key((tmp_path / "tls" / "ca.key").read_bytes(), None)
    assert isinstance(signing, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    forged = (
        development._certificate("forged", authority.subject, key, 30)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("bank.example"), x509.DNSName(NAMES[0])]), False
        )
        .sign(signing, hashes.SHA256())
    )
    pair.certificate.write_bytes(forged.public_bytes(serialization.Encoding.PEM))
    pair.key.write_bytes(development._private(key))
    assert not taken(pair, "bank.example")


def test_a_name_that_no_certificate_can_hold_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot stand in a certificate"):
        DevelopmentPair(tmp_path).prepare(("schlüssel.example",))
