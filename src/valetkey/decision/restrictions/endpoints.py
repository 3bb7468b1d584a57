"""Which endpoints of a service a key opens, by patterns or by names of the service's catalogue.

What is allowed is compared with the path as it is sent. What is refused (denied patterns, and wide endpoints)
is compared with every way an upstream may read that path, so that no spelling gets around it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar
from urllib.parse import unquote

from msgspec.structs import force_setattr

from valetkey.decision.call import Call
from valetkey.decision.codes import Code
from valetkey.decision.path import JudgedPath
from valetkey.decision.restrictions.base import CompileContext, InvalidRestriction, Restriction
from valetkey.decision.restrictions.patterns import KNOWN_METHODS, EndpointPattern, PatternIndex, Segments
from valetkey.decision.restrictions.wording import (
    NAME,
    checked_entries,
    listed,
    quoted,
    without_repetition,
)
from valetkey.nearest import did_you_mean

_RUN_OF_SLASHES = re.compile(r"(?:/|%2F)+")


class Endpoints(Restriction, frozen=True, tag="endpoints", forbid_unknown_fields=True):
    """The call must match an allowed pattern and no denied one; with none allowed, all but denied pass.

    Wide endpoints of the service (calls inside calls, answers that are credentials) are opened only by an
    allowed entry that names them: the same path template, a name of the catalogue for it, or a path without
    wildcards. Both lists empty is what a key without endpoint restriction is judged by.
    """

    code: ClassVar[Code] = Code.ENDPOINT_DENIED
    options: ClassVar[tuple[str, ...]] = ("--endpoint", "--deny-endpoint")

    allow: tuple[str, ...] = ()
    """Patterns in their usual spelling, or names."""
    deny: tuple[str, ...] = ()
    """As `allow`; a denied pattern wins."""

    def __post_init__(self) -> None:
        for name in ("allow", "deny"):
            entries = checked_entries("endpoints", getattr(self, name), may_be_empty=True)
            kept = (entry if NAME.fullmatch(entry) else EndpointPattern(entry).text for entry in entries)
            force_setattr(self, name, without_repetition(kept))

    def compile(self, context: CompileContext) -> CompiledEndpoints:
        catalogue = [EndpointPattern(text) for texts in context.endpoints.values() for text in texts]
        return CompiledEndpoints(
            allow=_resolve(self.allow, context),
            deny=_resolve(self.deny, context),
            wide=[EndpointPattern(text) for text in context.wide],
            catalogue=catalogue,
        )

    def sentence(self) -> str:
        allowed = f"Only {listed(self.allow)}" if self.allow else ""
        denied = f"{'Never' if not self.allow else 'never'} {listed(self.deny)}" if self.deny else ""
        return ", ".join(part for part in (allowed, denied) if part) or "Every endpoint but wide ones"


class CompiledEndpoints:
    """The judge of `Endpoints`, which can also say which template a call matched."""

    __slots__ = ("_allow", "_deny", "_named", "_open", "_wide")

    def __init__(
        self,
        *,
        allow: Iterable[EndpointPattern],
        deny: Iterable[EndpointPattern],
        wide: Iterable[EndpointPattern],
        catalogue: Iterable[EndpointPattern],
    ) -> None:
        allow = list(allow)
        self._open = not allow
        self._allow = PatternIndex(allow)
        self._deny = _refusing_index(deny)
        self._wide = _refusing_index(wide)
        self._named = PatternIndex(catalogue)

    def __call__(self, call: Call, wall: float) -> bool:
        if call.derives:
            return True
        method, host, path = call.method, call.host, call.path
        if method is None or path is None or method not in KNOWN_METHODS:
            return False
        if not self._open and self._allow.find(method, host, path.segments) is None:
            return False
        if self._deny is None and self._wide is None:
            return True
        readings = possible_readings(path)
        if self._deny is not None:
            for segments in readings:
                if self._deny.find(method, host, segments) is not None:
                    return False
        return self._wide is None or self._wide_opened(self._wide, method, host, path, readings)

    def template(self, call: Call) -> str | None:
        """The allowed pattern that the call matches, or the catalogue's where everything is allowed."""
        if call.method is None or call.path is None:
            return None
        index = self._named if self._open else self._allow
        found = index.find(call.method, call.host, call.path.segments)
        return None if found is None else found.text

    def _wide_opened(
        self,
        wide: PatternIndex,
        method: str,
        host: str | None,
        path: JudgedPath,
        readings: tuple[Segments, ...],
    ) -> bool:
        for segments in readings:
            if wide.find(method, host, segments) is not None:
                break
        else:
            return True
        named = self._allow.find_all(method, host, path.segments)
        if any(pattern.literal for pattern in named):
            return True
        # Each wide endpoint that the call may reach must be named by its own template.
        templates = {_without_last_slash(pattern.segments) for pattern in named}
        return all(
            _without_last_slash(pattern.segments) in templates
            for segments in readings
            for pattern in wide.find_all(method, host, segments)
        )


def possible_readings(path: JudgedPath) -> tuple[Segments, ...]:
    """Every division into decoded segments that an upstream may make of a judged path.

    Upstreams decode escapes such as ``%24``, many drop a slash at the end, and where slashes may stand inside
    a segment some divide there, runs of slashes counting as one.
    """
    text = path.text
    if "%" not in text and text[-1] != "/" and "//" not in text:
        return (path.segments,)
    decoded = tuple(unquote(segment) for segment in path.segments)
    readings = {decoded}
    if any("/" in segment for segment in decoded):
        divided = "/".join(decoded).split("/")
        parts = tuple(part for part in divided if part)
        readings.add(parts if divided[-1] else (*parts, ""))
    readings.update([_without_last_slash(segments) for segments in readings])
    return tuple(readings)


def _without_last_slash(segments: Segments) -> Segments:
    return segments[:-1] if len(segments) > 1 and not segments[-1] else segments


def _refusing_index(patterns: Iterable[EndpointPattern]) -> PatternIndex | None:
    patterns = list(patterns)
    if not patterns:
        return None
    # Readings lack a slash at the end and are divided at inner ones: patterns must match in these forms too.
    shortened = [
        EndpointPattern(p.text[:-1]) for p in patterns if p.segments[-1] == "" and len(p.segments) > 1
    ]
    divided = [EndpointPattern(_RUN_OF_SLASHES.sub("/", p.text)) for p in patterns if p.slash_inside]
    return PatternIndex([*patterns, *shortened, *divided], fold=unquote, host_may_lack=True)


def _resolve(entries: tuple[str, ...], context: CompileContext) -> list[EndpointPattern]:
    patterns: list[EndpointPattern] = []
    for entry in entries:
        if not NAME.fullmatch(entry):
            patterns.append(EndpointPattern(entry))
        elif entry in context.endpoints:
            patterns.extend(EndpointPattern(text) for text in context.endpoints[entry])
        else:
            hint = (
                did_you_mean(entry, context.endpoints)
                or "Write a pattern with a path, as in 'GET /v1/models'."
            )
            raise InvalidRestriction(f"The service has no endpoint named {quoted(entry)}. {hint}")
    for pattern in patterns:
        if pattern.slash_inside and not context.encoded_slash:
            raise InvalidRestriction(
                f"The endpoint {quoted(pattern.text)} has an encoded or doubled slash, which the service does"
                " not take. Write single slashes, or let the service take them."
            )
    return patterns
