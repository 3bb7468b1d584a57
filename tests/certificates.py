"""Authorities and certificates for tests, made as they are needed and kept in a folder of the test."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAMES = ("localhost", "127.0.0.1")


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _called(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def write_key(path: Path, key: ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> Path:
    """The key in PEM form, 0600, in a file that takes the place of another at once."""
    sealing = (
        serialization.NoEncryption()
        if passphrase is None
        else serialization.BestAvailableEncryption(passphrase)
    )
    draft = path.with_suffix(".draft")
    draft.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealing)
    )
    draft.chmod(0o600)
    draft.rename(path)
    return path


@dataclass
class Files:
    """A certificate and its key."""

    certificate: Path
    key: Path
    serial: int

    @property
    def flags(self) -> dict[str, str]:
        """For `serve`."""
        return {"tls_cert": str(self.certificate), "tls_key": str(self.key)}


class Authority:
    """Signs certificates; `file` is what callers trust."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _called(f"test {name}")
        now = datetime.datetime.now(datetime.UTC)
        own = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=400))
            .not_valid_after(now + datetime.timedelta(days=400))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(own.public_bytes(serialization.Encoding.PEM))

    def sign(
        self,
        name: str = "server",
        *,
        names: tuple[str, ...] = NAMES,
        begins: float = -1,
        ends: float = 90,
        key: ec.EllipticCurvePrivateKey | None = None,
        called: str | None = None,
        alone: bool = False,
    ) -> Files:
        """A pair under `name` in the folder; `begins` and `ends` in days from now. Overwrites what is there.

        `called`: its common name, the first of `names` unless given. `alone`: signed by itself.
        """
        key = key or ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(_called(called or names[0]))
            .issuer_name(_called(called or names[0]) if alone else self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=begins))
            .not_valid_after(now + datetime.timedelta(days=ends))
        )
        if names:
            made = made.add_extension(x509.SubjectAlternativeName(list(map(_general, names))), critical=False)
        signed = made.sign(key if alone else self._key, hashes.SHA256())
        certificate = self._folder / f"{name}.pem"
        draft = certificate.with_suffix(".draft")
        draft.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        draft.rename(certificate)
        return Files(certificate, write_key(self._folder / f"{name}.key", key), signed.serial_number)
