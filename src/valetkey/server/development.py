"""A certificate for development (``serve --tls-dev``): an authority of the home's own, and what it signs for its names.

The authority is good for these names alone (RFC 5280, name constraints): whoever trusts it on their machine trusts
nothing else to its key, which lies beside it.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from valetkey.errors import Invalid
from valetkey.settings import Settings
from valetkey.wire.certificate import CertificateRefused, Pair, read_pair

AUTHORITY_DAYS = 3_650
LEAF_DAYS = 397
"""Browsers take no server certificate that is good for longer."""
RENEW_DAYS = 30
"""One that ends within so many days is made anew at start."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class DevelopmentPair:
    """The files of one home's development certificate."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "tls"
        self.authority = self._folder / "ca.pem"
        """What callers are told to trust."""
        self._authority_key = self._folder / "ca.key"
        self.certificate = self._folder / "server.pem"
        self.key = self._folder / "server.key"

    def prepare(self, names: tuple[str, ...]) -> None:
        """Have a good pair for these host names and addresses; what is there and good stays. Raises `Invalid`."""
        wanted = tuple(dict.fromkeys(name.lower().strip("[]") for name in (*_LOOPBACK, *names)))
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            if self._is_good(wanted):
                return
            self._make(wanted)
        except OSError as error:
            raise Invalid(
                f"The development certificate cannot be made in {self._folder} ({error.strerror}).",
                "Correct the rights of that folder, or remove it.",
            ) from None
        except ValueError:
            raise Invalid(
                "A public name cannot stand in a certificate.",
                "Write host names in ASCII.",
                field="public_name",
            ) from None

    def settings(self, settings: Settings) -> Settings:
        """The settings with this pair in them."""
        return msgspec.structs.replace(
            settings, tls_dev=False, tls_cert=str(self.certificate), tls_key=str(self.key)
        )

    def _is_good(self, names: tuple[str, ...]) -> bool:
        try:
            pair = read_pair(self.certificate, self.key)
            authority = x509.load_pem_x509_certificate(self.authority.read_bytes())
        except (CertificateRefused, OSError, ValueError):
            return False
        return (
            pair.ends > time.time() + RENEW_DAYS * 86_400
            and sorted(pair.names) == sorted(_spelled(names))
            and self._signed_by(pair, authority)
        )

    def _signed_by(self, pair: Pair, authority: x509.Certificate) -> bool:
        leaf = x509.load_pem_x509_certificate(pair.place.read_bytes())
        try:
            leaf.verify_directly_issued_by(authority)
        except Exception:  # a signature that is not its
            return False
        return True

    def _make(self, names: tuple[str, ...]) -> None:
        authority, signing = self._authority(names)
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = (
            _certificate("Valetkey development", authority.subject, key, LEAF_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False
            )
            .sign(signing, hashes.SHA256())
        )
        _write(self.key, _private(key))
        _write(self.certificate, leaf.public_bytes(serialization.Encoding.PEM))

    def _authority(self, names: tuple[str, ...]) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """The authority that is there, where it may sign for all these names; otherwise a new one."""
        try:
            kept = read_pair(self.authority, self._authority_key)
            found = x509.load_pem_x509_certificate(self.authority.read_bytes())
            signing = serialization.load_pem_private_key(self._authority_key.read_bytes(), None)
            allowed = found.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees
            if (
                kept.ends > time.time() + LEAF_DAYS * 86_400
                and isinstance(signing, ec.EllipticCurvePrivateKey)
                and {_subtree(name) for name in names} <= set(allowed or ())
            ):
                return found, signing
        except (CertificateRefused, OSError, ValueError, x509.ExtensionNotFound):
            pass
        signing = ec.generate_private_key(ec.SECP256R1())
        called = f"Valetkey development authority {secrets.token_hex(4)}"
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, called)])
        usage = x509.KeyUsage(
            digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        made = (
            _certificate(called, subject, signing, AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.NameConstraints([_subtree(name) for name in names], None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(signing.public_key()), critical=False)
            .sign(signing, hashes.SHA256())
        )
        _write(self._authority_key, _private(signing))
        _write(self.authority, made.public_bytes(serialization.Encoding.PEM))
        return made, signing


def _certificate(
    called: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, called)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _subtree(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_network(name))
    except ValueError:
        return x509.DNSName(name)


def _spelled(names: tuple[str, ...]) -> list[str]:
    """As they are read back from a certificate."""
    return [str(_general(name).value) for name in names]


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes) -> None:
    """0600, whole or not at all."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(content)
    draft.rename(path)
