"""A certificate and its key in two files: checked before they are used, looked at again while they are.

What was checked is what is loaded: both files are read once, and OpenSSL gets those bytes, not the names. The key
stands in no message and no representation.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from valetkey.errors import Invalid

MAX_FILE_BYTES = 1_000_000
"""A chain of certificates has a few thousand; what is larger is something else."""
SOON_SECONDS = 14 * 86_400
"""A certificate that ends within this is worth a warning: renewal should have come by then."""
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2 only what has forward secrecy and no separate padding, as HTTP/2 asks (RFC 9113, section 9.2.2)."""

Stamp = tuple[tuple[int, ...] | None, ...]
"""What tells two states of the files apart; None where there is no file."""


class CertificateRefused(Invalid):
    """The pair cannot be used. Says which file is at fault, never what is in it."""

    code = "CERTIFICATE_REFUSED"


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate chain and the key that belongs to it."""

    place: Path
    """The file of the certificate."""
    begins: float
    ends: float
    """Seconds since the epoch."""
    names: tuple[str, ...]
    """Host names and addresses it is for, lower case."""
    _chain: bytes = field(repr=False)
    _key: bytes = field(repr=False)

    def context(self, protocols: Sequence[str]) -> ssl.SSLContext:
        """What a listener needs: TLS 1.2 or later, `protocols` offered by ALPN. Raises `CertificateRefused`."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        made.set_ciphers(CIPHERS)
        made.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
        made.set_alpn_protocols(list(protocols))
        # The module takes names of files only; this one is memory, and gone when it is closed.
        memory = os.memfd_create("certificate", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(memory), "wb") as file:
                file.write(self._chain + b"\n" + self._key)
            made.load_cert_chain(f"/proc/self/fd/{memory}")
        except (OSError, ValueError):  # OpenSSL finds it too weak, or does not know its kind
            raise CertificateRefused(
                f"OpenSSL does not take the certificate in {self.place}.",
                "Use an ECDSA key (P-256) or an RSA key of 2,048 bits or more.",
            ) from None
        finally:
            os.close(memory)
        return made

    def warnings(self, names: Iterable[str], wall: float) -> list[str]:
        """What callers will trip over, a sentence each. `names`: host names that they use."""
        said = []
        if wall >= self.ends:
            said.append(
                f"The certificate in {self.place} ended on {_day(self.ends)}; callers will refuse it."
            )
        elif wall + SOON_SECONDS > self.ends:
            said.append(f"The certificate in {self.place} ends on {_day(self.ends)}; renew it.")
        if wall < self.begins:
            said.append(f"The certificate in {self.place} begins on {_day(self.begins)} only.")
        said += [
            f"The certificate in {self.place} is not for {name}; callers of that name will refuse it."
            for name in names
            if not self.is_for(name)
        ]
        return said

    def is_for(self, name: str) -> bool:
        """Whether callers that use this host name take it: by the name itself, or ``*`` for its first part."""
        name = name.lower().strip("[]")
        return name in self.names or f"*.{name.partition('.')[2]}" in self.names


def read_pair(certificate: Path, key: Path) -> Pair:
    """Read and check a pair. Raises `CertificateRefused`."""
    chain, secret = _read(certificate), _read(key, private=True)
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
    except ValueError:
        raise CertificateRefused(
            f"{certificate} holds no certificate in PEM form.",
            "Name a file that begins with -----BEGIN CERTIFICATE-----.",
        ) from None
    refusal: CertificateRefused | None = None
    try:
        private = serialization.load_pem_private_key(secret, None)
    except TypeError:
        refusal = CertificateRefused(
            f"The key in {key} is protected by a passphrase.",
            f"Write it without one, readable by you alone: openssl pkey -in '{key}' -out NEW",
        )
    except (ValueError, UnsupportedAlgorithm):
        refusal = CertificateRefused(
            f"{key} holds no private key in PEM form.",
            "Name the file that was made together with the certificate.",
        )
    if refusal is not None:  # raised here, so that no error that may hold a piece of the key is kept
        raise refusal
    if _public(leaf) != _public(private):
        raise CertificateRefused(
            f"The key in {key} does not belong to the first certificate in {certificate}.",
            "Give the two that were made together; the server's own certificate stands first in its file.",
        )
    return Pair(
        certificate,
        leaf.not_valid_before_utc.timestamp(),
        leaf.not_valid_after_utc.timestamp(),
        _names(leaf),
        chain,
        secret,
    )


class WatchedPair:
    """The pair in use. Files that change are taken once they are whole; a bad pair leaves the old one in use."""

    def __init__(self, certificate: Path, key: Path, note: Callable[[str], None] = lambda _: None) -> None:
        """`note` is told in a sentence what became of a change. Raises `CertificateRefused`."""
        self._files = (certificate, key)
        self._note = note
        self._seen = self._candidate = self._stamp()
        self.pair = read_pair(certificate, key)

    def look(self, *, at_once: bool = False) -> bool:
        """Whether there is a new pair since the last look. Files that have just changed wait for the next look,
        because the second may still be on its way; not so with `at_once`."""
        stamp = self._stamp()
        if stamp == self._seen:
            return False
        if stamp != self._candidate and not at_once:
            self._candidate = stamp
            return False
        self._seen = self._candidate = stamp
        try:
            pair = read_pair(*self._files)
            pair.context(())
        except CertificateRefused as refused:
            self._note(
                f"The new certificate is not taken, the old one stays: {refused.sentence} {refused.next_step}"
            )
            return False
        if pair == self.pair:
            return False
        self.pair = pair
        self._note(f"A new certificate is in use, until {_day(pair.ends)}.")
        for warning in pair.warnings((), time.time()):
            self._note(warning)
        return True

    def _stamp(self) -> Stamp:
        return tuple(map(_stamp_of, self._files))


def _stamp_of(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read(path: Path, *, private: bool = False) -> bytes:
    """The content of a file; `private`: one that nobody else may use. What is checked is the open file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise CertificateRefused(
            f"{path} cannot be read ({os.strerror(error.errno or 0)}).",
            "Correct its name, or let the user who runs the server read it.",
        ) from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise CertificateRefused(f"{path} is no file.", "Name a file in PEM form.")
        if private and found.st_uid not in (os.geteuid(), 0):
            raise CertificateRefused(f"{path} belongs to another user.", "Copy the key, or run as that user.")
        if private and stat.S_IMODE(found.st_mode) & 0o077:
            raise CertificateRefused(f"Others than its owner may use {path}.", f"Run: chmod 600 '{path}'")
        with os.fdopen(os.dup(descriptor), "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MAX_FILE_BYTES:
        raise CertificateRefused(f"{path} is too large for a certificate.", "Name a file in PEM form.")
    return content


def _public(owner: object) -> bytes:
    public = owner.public_key()  # type: ignore[attr-defined]
    encoded: bytes = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()  # the common name alone counts for no client any more
    hosts = [name.lower() for name in found.get_values_for_type(x509.DNSName)]
    addresses = found.get_values_for_type(x509.IPAddress)
    return (
        *hosts,
        *(str(a) for a in addresses if isinstance(a, ipaddress.IPv4Address | ipaddress.IPv6Address)),
    )


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
