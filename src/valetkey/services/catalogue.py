"""What is known of well-known APIs beforehand: one data file each in `catalogue/`, read strictly.

A preset is facts only: hosts, how keys are put in and look, what endpoints are called, which ones carry calls
inside calls or answer with credentials. A service made from one keeps its name, so better facts reach it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import msgspec

from valetkey.decision.restrictions import CompileContext
from valetkey.decision.restrictions.patterns import EndpointPattern
from valetkey.services.origin import Origin
from valetkey.services.placement import AnyPlacement, accepted_beside
from valetkey.services.service import DEFAULT_CEILING, Service

_ENDPOINT_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")


class InvalidPreset(ValueError):
    """A file of the catalogue that cannot be used. The message names the file and what is wrong."""


class UnknownPreset(LookupError):
    """No file of that name. The message lists those there are."""


class Endpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A name for one or more patterns, so that people need not write paths."""

    patterns: tuple[str, ...]
    """``METHOD /path``: ``*`` is one segment, a final ``**`` the rest."""
    text: str


class Closed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Endpoints that no wildcard opens, and what naming them opens."""

    patterns: tuple[str, ...]
    opens: str


class Environment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Environment variables that the vendor's own packages read."""

    key: tuple[str, ...]
    """Variables that take the key, the most common first."""
    base_url: tuple[str, ...] = ()
    """Variables that take the base URL; empty when the packages read none."""
    base_url_value: str = "{gateway}/{service}"
    """What the base URL is, for packages and variables alike."""

    def url(self, gateway: str, service: str) -> str:
        """The base URL a package needs to call `service` through `gateway` (``http://host:port``)."""
        return self.base_url_value.replace("{gateway}", gateway.rstrip("/")).replace("{service}", service)


class Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the vendor's keys look like; a value of another shape is a warning."""

    regex: str
    text: str


class Advice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person is told, and where to do it."""

    text: str
    url: str


class Preset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that is known of one API."""

    name: str
    title: str
    hosts: dict[str, str]
    """Name -> origin; the first is the default."""
    placement: AnyPlacement
    accepts: tuple[AnyPlacement, ...]
    same_key_twice: bool = False
    ceiling: int = DEFAULT_CEILING
    """Largest body in bytes that the vendor takes."""
    encoded_slash: bool = False
    shape: Shape
    environment: Environment
    endpoints: dict[str, Endpoint]
    wide: tuple[Closed, ...] = ()
    """Endpoints that carry calls inside calls."""
    credentials: tuple[Closed, ...] = ()
    """Endpoints that answer with credentials or links that work without one."""
    media: tuple[str, ...] = ()
    """Endpoints that answer with files: Range may pass."""
    rotation: Advice
    usage: Advice | None = None
    sources: tuple[str, ...]
    """Where these facts stand."""

    def origins(self) -> dict[str, Origin]:
        """The hosts, parsed."""
        return {label: Origin.parse(text) for label, text in self.hosts.items()}

    def named_patterns(self) -> Mapping[str, tuple[str, ...]]:
        """Endpoint name -> its patterns."""
        return {name: endpoint.patterns for name, endpoint in self.endpoints.items()}

    def closed_patterns(self) -> tuple[str, ...]:
        """Patterns that no wildcard opens: wide ones and those that answer with credentials."""
        return tuple(pattern for closed in (*self.wide, *self.credentials) for pattern in closed.patterns)

    def service(
        self,
        name: str,
        *,
        base_url: str | None = None,
        allow_private: bool = False,
        allow_plain: bool = False,
        ca_file: str | None = None,
        price_micros: int | None = None,
    ) -> Service:
        """A service of this kind; `base_url` takes the place of the default host's origin.

        Raises `InvalidOrigin` and `InvalidService`.
        """
        hosts = self.origins()
        if base_url is not None:
            # the other hosts are the vendor's: a stand-in or a mirror has one
            default = next(iter(hosts))
            hosts = {default: Origin.parse(base_url, allow_plain=allow_plain, allow_private=allow_private)}
        return Service(
            name=name,
            title=self.title,
            preset=self.name,
            hosts=hosts,
            placement=self.placement,
            accepts=self.accepts,
            same_key_twice=self.same_key_twice,
            ceiling=self.ceiling,
            encoded_slash=self.encoded_slash,
            allow_private=allow_private,
            allow_plain=allow_plain,
            ca_file=ca_file,
            price_micros=price_micros,
        )


def custom_service(
    name: str,
    base_url: str,
    placement: AnyPlacement,
    *,
    allow_private: bool = False,
    allow_plain: bool = False,
    ca_file: str | None = None,
    price_micros: int | None = None,
) -> Service:
    """A service of no preset. Raises `InvalidOrigin` and `InvalidService`."""
    return Service(
        name=name,
        hosts={"api": Origin.parse(base_url, allow_plain=allow_plain, allow_private=allow_private)},
        placement=placement,
        accepts=accepted_beside(placement),
        allow_private=allow_private,
        allow_plain=allow_plain,
        ca_file=ca_file,
        price_micros=price_micros,
    )


def compile_context(
    service: Service, networks: Mapping[str, tuple[str, ...]], listeners: Mapping[str, str]
) -> CompileContext:
    """What restrictions on keys of this service are compiled with. Raises `UnknownPreset`."""
    preset = load_preset(service.preset) if service.preset else None
    return CompileContext(
        networks=networks,
        listeners=listeners,
        endpoints=preset.named_patterns() if preset else {},
        wide=preset.closed_patterns() if preset else (),
        encoded_slash=service.encoded_slash,
    )


@cache
def preset_names() -> tuple[str, ...]:
    """Names of all presets, sorted."""
    found = (entry.name for entry in files("valetkey.services").joinpath("catalogue").iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml")))


@cache
def load_preset(name: str) -> Preset:
    """The preset of that name. Raises `UnknownPreset`, and `InvalidPreset` for a file that is wrong."""
    if name not in preset_names():
        raise UnknownPreset(f"There is no preset {name!r}; there are {', '.join(preset_names())}.")
    data = files("valetkey.services").joinpath("catalogue", f"{name}.toml").read_bytes()
    return parse_preset(name, data)


def parse_preset(name: str, data: bytes) -> Preset:
    """Read one file of the catalogue, strictly: an unknown field is an error. Raises `InvalidPreset`."""
    try:
        table = tomllib.loads(data.decode("utf-8"))
        preset = msgspec.convert({"name": name, **table}, Preset)
        _check(preset)
    except (ValueError, re.error) as error:
        raise InvalidPreset(f"{name}.toml: {error}") from error
    return preset


def _check(preset: Preset) -> None:
    re.compile(preset.shape.regex)
    patterns = list(preset.media)
    for label, endpoint in preset.endpoints.items():
        if not _ENDPOINT_NAME.fullmatch(label):
            raise InvalidPreset(f"{label!r} is no endpoint name; write words joined by hyphens.")
        patterns += endpoint.patterns
    for closed in (*preset.wide, *preset.credentials):
        patterns += closed.patterns
    for pattern in patterns:
        parsed = EndpointPattern(pattern)
        if parsed.text != pattern or pattern.startswith("/"):
            raise InvalidPreset(f"{pattern!r} is not in the usual spelling; write METHOD /path.")
        if parsed.host is not None and parsed.host not in preset.hosts:
            raise InvalidPreset(f"{pattern!r} names a host that the service does not have.")
    for variable in (*preset.environment.key, *preset.environment.base_url):
        if not _VARIABLE.fullmatch(variable):
            raise InvalidPreset(f"{variable!r} is no name of an environment variable.")
    if not preset.sources:
        raise InvalidPreset("sources is empty; say where the facts stand.")
    preset.service("check")  # hosts, placement and limits are valid together
