"""Endpoint patterns such as ``GET /v1/models/*``, and an index that finds the pattern of a call among many.

Literal segments go through the same canonicaliser as calls do, so that ``/café`` matches ``/caf%C3%A9``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

from valetkey.decision.path import PathRefused, judge_path
from valetkey.decision.restrictions.base import InvalidRestriction
from valetkey.decision.restrictions.hosts import parse_host
from valetkey.decision.restrictions.wording import quoted
from valetkey.nearest import did_you_mean

METHODS: tuple[str, ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""Methods that are known; no pattern matches another."""
KNOWN_METHODS = frozenset(METHODS)

MAX_CACHED_PATTERNS = 4096
"""Parsed patterns remembered by a process: keys of one service mostly share theirs."""

MAX_PATTERN_LENGTH = 2000
"""Characters of a pattern: longer than any API's, and bounds what is remembered."""

MAX_SEGMENTS = 100
"""Segments of a pattern: deeper than any API's paths, and the tree is walked by recursion."""

Segments: TypeAlias = tuple[str, ...]
_Parts: TypeAlias = tuple[str, frozenset[str], "str | None", Segments, bool]


@dataclass(frozen=True, slots=True)
class EndpointPattern:
    """Methods, perhaps a host, and a path; exists only if valid. Raises `InvalidRestriction`.

    ``*`` as method, or none, means every known one; GET includes HEAD. In the path ``*`` is one whole
    segment that is not empty, ``**`` at the end is the rest: ``/v1/**`` matches ``/v1/`` and ``/v1/a/b``, but
    not ``/v1``.
    Matching is case-sensitive.
    """

    text: str
    """Given in any accepted spelling, kept in the usual one: ``GET,POST api.example.com/v1/x``."""
    methods: frozenset[str] = field(init=False)
    """What it matches, HEAD included where GET is."""
    host: str | None = field(init=False)
    segments: Segments = field(init=False)
    slash_inside: bool = field(init=False)
    """Whether a segment holds an encoded or doubled slash, which only some services take."""

    def __post_init__(self) -> None:
        for name, value in zip(
            ("text", "methods", "host", "segments", "slash_inside"), _parse(self.text), strict=True
        ):
            object.__setattr__(self, name, value)

    @property
    def path(self) -> str:
        """The path part alone."""
        return "/" + "/".join(self.segments)

    @property
    def literal(self) -> bool:
        """Whether it holds no wildcard."""
        return "*" not in self.segments and "**" not in self.segments


def covers(wide: EndpointPattern, narrow: EndpointPattern) -> bool:
    """Whether every call that `narrow` matches is one that `wide` matches."""
    if not narrow.methods <= wide.methods or wide.host not in (None, narrow.host):
        return False
    for place, segment in enumerate(wide.segments):
        if place >= len(narrow.segments):
            return False
        other = narrow.segments[place]
        if segment == "**":
            return True
        if other == "**" or not (segment == other or (segment == "*" and other)):
            return False
    return len(wide.segments) == len(narrow.segments)


def overlap(one: EndpointPattern, other: EndpointPattern) -> bool:
    """Whether some call is matched by both."""
    if not one.methods & other.methods or (one.host and other.host and one.host != other.host):
        return False
    for left, right in zip(one.segments, other.segments, strict=False):
        if "**" in (left, right):
            return True
        if left != right and not ("*" in (left, right) and left and right):
            return False
    return len(one.segments) == len(other.segments)


class PatternIndex:
    """Finds which of many patterns matches: a look-up for literal ones, a walk of the tree for the others.

    With several matches the most literal comes first: segment by segment from the left a literal goes before
    ``*`` and ``*`` before ``**``; then one that names the host, then one that names the method.
    `fold` is applied to literal segments, for callers that look up folded ones. `host_may_lack` lets a
    pattern with a host match where the call's host is not known (right for patterns that refuse).
    """

    __slots__ = ("_host_may_lack", "_literal", "_tree")

    def __init__(
        self,
        patterns: Iterable[EndpointPattern],
        *,
        fold: Callable[[str], str] = str,
        host_may_lack: bool = False,
    ) -> None:
        self._host_may_lack = host_may_lack
        self._literal: dict[Segments, list[EndpointPattern]] = {}
        self._tree: _Node | None = None
        for pattern in sorted(dict.fromkeys(patterns), key=_preference):
            if pattern.literal:
                key = tuple(fold(segment) for segment in pattern.segments)
                self._literal.setdefault(key, []).append(pattern)
            else:
                self._tree = self._tree or _Node()
                self._tree.add(pattern, fold)

    def find(self, method: str, host: str | None, segments: Segments) -> EndpointPattern | None:
        """Return the most literal pattern that matches, or None."""
        for pattern in self._literal.get(segments, ()):
            if _fits(pattern, method, host, self._host_may_lack):
                return pattern
        if self._tree is not None:
            return self._tree.first(segments, 0, method, host, self._host_may_lack)
        return None

    def find_all(self, method: str, host: str | None, segments: Segments) -> list[EndpointPattern]:
        """Return every pattern that matches, the most literal first."""
        found = list(self._literal.get(segments, ()))
        if self._tree is not None:
            found += self._tree.walk(segments, 0)
        return [pattern for pattern in found if _fits(pattern, method, host, self._host_may_lack)]


class _Node:
    __slots__ = ("ends", "literal", "rests", "wild")

    def __init__(self) -> None:
        self.literal: dict[str, _Node] = {}
        self.wild: _Node | None = None
        self.ends: list[EndpointPattern] = []
        self.rests: list[EndpointPattern] = []

    def add(self, pattern: EndpointPattern, fold: Callable[[str], str]) -> None:
        node = self
        for segment in pattern.segments:
            if segment == "**":
                node.rests.append(pattern)
                return
            if segment == "*":
                node.wild = node.wild or _Node()
                node = node.wild
            else:
                node = node.literal.setdefault(fold(segment), _Node())
        node.ends.append(pattern)

    # Every node is entered at most once for a call, so that no path can make a walk long.

    def first(
        self, segments: Segments, at: int, method: str, host: str | None, host_may_lack: bool
    ) -> EndpointPattern | None:
        if at == len(segments):
            candidates = self.ends
        else:
            segment = segments[at]
            child = self.literal.get(segment)
            if child is not None:
                found = child.first(segments, at + 1, method, host, host_may_lack)
                if found is not None:
                    return found
            if self.wild is not None and segment:
                found = self.wild.first(segments, at + 1, method, host, host_may_lack)
                if found is not None:
                    return found
            candidates = self.rests
        for pattern in candidates:
            if _fits(pattern, method, host, host_may_lack):
                return pattern
        return None

    def walk(self, segments: Segments, at: int) -> Iterator[EndpointPattern]:
        if at == len(segments):
            yield from self.ends
            return
        segment = segments[at]
        child = self.literal.get(segment)
        if child is not None:
            yield from child.walk(segments, at + 1)
        if self.wild is not None and segment:
            yield from self.wild.walk(segments, at + 1)
        yield from self.rests


def _fits(pattern: EndpointPattern, method: str, host: str | None, host_may_lack: bool) -> bool:
    return method in pattern.methods and (
        pattern.host is None or pattern.host == host or (host is None and host_may_lack)
    )


def _preference(pattern: EndpointPattern) -> tuple[bool, int, str]:
    return (pattern.host is None, len(pattern.methods), pattern.text)


@lru_cache(maxsize=MAX_CACHED_PATTERNS)
def _parse(text: str) -> _Parts:
    if len(text) > MAX_PATTERN_LENGTH or text.count("/") > MAX_SEGMENTS:
        raise InvalidRestriction(
            f"The endpoint {quoted(text)} is too long. Write at most {MAX_PATTERN_LENGTH} characters and"
            f" {MAX_SEGMENTS} segments; '**' at the end stands for the rest."
        )
    words = text.rsplit(None, 1)
    if not words:
        raise InvalidRestriction("The endpoint is empty. Write it as 'GET /v1/models/*'.")
    target = words[-1]
    method_text, methods = _parse_methods(words[0] if len(words) == 2 else "*", text)
    host_text, slash, rest = target.partition("/")
    if not slash:
        raise InvalidRestriction(
            f"The endpoint {quoted(text)} has no path. Begin the path with '/', as in 'GET /v1/models'."
        )
    host = parse_host(host_text) if host_text else None
    segments, slash_inside = _parse_path(f"/{rest}", text)
    return f"{method_text} {host or ''}/{'/'.join(segments)}", methods, host, segments, slash_inside


def _parse_methods(words: str, text: str) -> tuple[str, frozenset[str]]:
    if words.strip() == "*":
        return "*", KNOWN_METHODS
    given = {word.strip().upper() for word in words.split(",")}
    for word in sorted(given):
        if word not in METHODS:
            hint = did_you_mean(word, METHODS) or f"Use '*' or some of {', '.join(METHODS)}."
            raise InvalidRestriction(
                f"The endpoint {quoted(text)} has an unknown method {quoted(word)}. {hint}"
            )
    methods = given | {"HEAD"} if "GET" in given else given
    return ",".join(method for method in METHODS if method in given), frozenset(methods)


def _parse_path(path: str, text: str) -> tuple[Segments, bool]:
    try:
        octets = path.encode("utf-8")
        judged = judge_path(octets, encoded_slash=True)
    except UnicodeEncodeError:
        raise InvalidRestriction(
            f"The endpoint {quoted(text)} is not UTF-8. Write it as valid text."
        ) from None
    except PathRefused as refused:
        raise InvalidRestriction(
            f"The path of the endpoint {quoted(text)} {refused.reason}, and no call with it is ever accepted."
            " Write the path in its plain form."
        ) from None
    *before, _last = judged.segments
    if "**" in before:
        raise InvalidRestriction(
            f"The endpoint {quoted(text)} has '**' in the middle. Put it at the end, or use '*' for one."
        )
    for segment in judged.segments:
        if "*" in segment and segment not in {"*", "**"}:
            raise InvalidRestriction(
                f"The endpoint {quoted(text)} has '*' as part of a segment. Let '*' stand for a whole"
                " segment; a star that is meant as itself is written '%2A'."
            )
    return judged.segments, "//" in judged.text or "%2F" in judged.text
