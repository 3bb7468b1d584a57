"""Settings of the server with their defaults. Each stands in `config.toml` under its name and is a flag of `serve`."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from valetkey.loopback import is_loopback

MAX_WORKERS = 16
"""Concurrency counters have a cell for so many workers."""

Port = Annotated[int, Meta(ge=0, le=65535)]


def is_url(place: str) -> bool:
    """Whether a witness is named by a URL, else it is a file."""
    return "://" in place


def check_witness(place: str) -> None:
    """Raise ValueError unless checkpoints can be sent there: an absolute path, or a URL that is https or loopback."""
    if not is_url(place):
        if not place.startswith("/") or place.endswith("/"):
            raise ValueError(f"the witness {place!r} is neither a file with its whole path nor a URL")
        return
    parts = urlsplit(place)
    port = parts.port  # raises ValueError for one that is none
    if parts.scheme not in ("https", "http") or not parts.hostname or port == 0:
        raise ValueError("a witness has a URL with https and a host")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("the URL of a witness has neither user, password nor fragment")
    if not place.isascii() or any(sign <= " " for sign in place):
        raise ValueError("the URL of a witness is plain ASCII without blanks")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("a witness that is not on this machine needs https")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings with their defaults. Every one has an effect; none is decoration."""

    listen: str = "127.0.0.1"
    """Address that both ports listen on."""
    control_port: Port = 8200
    gateway_port: Port = 8300
    workers: Annotated[int, Meta(ge=1, le=MAX_WORKERS)] = 1
    """Gateway worker processes."""
    public_name: tuple[str, ...] = ()
    """Host names callers use, beside loopback names: any other Host is refused."""
    allow_plain: bool = False
    """Whether keys may come in plain HTTP from other machines: behind a TLS proxy."""
    tls_cert: str | None = None
    """File of the certificate that both ports speak TLS with, in PEM form, the chain behind it."""
    tls_key: str | None = None
    """File of the certificate's key, which nobody but its owner may use."""
    tls_dev: bool = False
    """Whether to speak TLS with a certificate made here, for loopback and the public names."""
    trusted_proxy: tuple[str, ...] = ()
    """Networks whose forwarding headers are believed."""
    fsync_interval_ms: Annotated[int, Meta(ge=0, le=10_000)] = 100
    """A loss of power costs at most so much of the journal; 0: nothing, and every call waits for the disk."""
    personal_days: Annotated[int, Meta(ge=1, le=36_500)] = 400
    """Addresses, user agents and origins of calls are erased after so many days; the proof still holds."""
    witness: tuple[str, ...] = ()
    """Files on another disk, or https URLs: each gets the signed checkpoints, as a proof outside this machine."""
    database_url: str | None = None
    """Another database than the home's own SQLite file."""
    root_key_file: str | None = None
    """Where the root key lies, when not in the configuration folder."""
    max_body_mb: Annotated[int, Meta(ge=1, le=1_000_000)] = 5_000
    """Largest request body in megabytes, where the service sets none."""
    body_timeout: Annotated[float, Meta(gt=0)] = 60.0
    """Seconds a caller may take for the next piece of a body, and all of it comes at 250 bytes a second or faster."""
    connect_timeout: Annotated[float, Meta(gt=0)] = 5.0
    """Seconds for reaching an upstream."""
    first_byte_timeout: Annotated[float, Meta(gt=0)] = 600.0
    """Seconds until an upstream must have begun to answer."""
    idle_timeout: Annotated[float, Meta(gt=0)] = 600.0
    """Seconds an answer may stall between two pieces."""
    log_format: Literal["text", "json"] = "text"
    """How messages to the operator are written."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Messages below it are left out."""

    def __post_init__(self) -> None:
        try:
            ipaddress.ip_address(self.listen)
            for network in self.trusted_proxy:
                ipaddress.ip_network(network)
            for place in self.witness:
                check_witness(place)
        except ValueError as error:
            raise ValueError(f"{error}") from None
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together")
        if self.tls_dev and self.tls_cert is not None:
            raise ValueError("tls_dev makes a certificate of its own, beside tls_cert it means nothing")

    @property
    def tls(self) -> bool:
        """Whether both ports speak TLS."""
        return self.tls_cert is not None or self.tls_dev

    @property
    def scheme(self) -> str:
        return "https" if self.tls else "http"

    @property
    def host_names(self) -> frozenset[str]:
        """Every host name this server answers to, lower case."""
        names = {
            "localhost",
            "127.0.0.1",
            "[::1]",
            self.listen.lower(),
            *(n.lower() for n in self.public_name),
        }
        if ":" in self.listen:
            names.add(f"[{self.listen.lower()}]")
        return frozenset(names - {"0.0.0.0", "::", "[::]"})  # noqa: S104
