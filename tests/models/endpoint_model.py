"""Endpoint rules by trying every pattern in turn: what the compiled matcher is compared with.

Works on canonical pattern parts: (methods or None, host or None, segments).
"""

from __future__ import annotations

from typing import NamedTuple

KNOWN = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class Rule(NamedTuple):
    methods: frozenset[str] | None
    host: str | None
    segments: tuple[str, ...]


def path_matches(pattern: tuple[str, ...], segments: tuple[str, ...]) -> bool:
    if not pattern:
        return not segments
    if pattern == ("**",):
        return len(segments) >= 1
    if not segments:
        return False
    fits = segments[0] != "" if pattern[0] == "*" else pattern[0] == segments[0]
    return fits and path_matches(pattern[1:], segments[1:])


def method_matches(rule: Rule, method: str) -> bool:
    if method not in KNOWN:
        return False
    if rule.methods is None or method in rule.methods:
        return True
    return method == "HEAD" and "GET" in rule.methods


def matches(rule: Rule, method: str, host: str | None, segments: tuple[str, ...]) -> bool:
    return (
        method_matches(rule, method)
        and (rule.host is None or rule.host == host)
        and path_matches(rule.segments, segments)
    )


def decoded(segment: str) -> str:
    octets = bytearray()
    at = 0
    while at < len(segment):
        if segment[at] == "%":
            octets.append(int(segment[at + 1 : at + 3], 16))
            at += 3
        else:
            octets.append(ord(segment[at]))
            at += 1
    return octets.decode("utf-8")


def bare(segments: tuple[str, ...]) -> tuple[str, ...]:
    return segments[:-1] if len(segments) > 1 and segments[-1] == "" else segments


def touches(rule: Rule, method: str, host: str | None, segments: tuple[str, ...]) -> bool:
    """Whether a refusing rule catches a call, escapes and a slash at the end making no difference."""
    if not method_matches(rule, method) or (rule.host is not None and host not in (None, rule.host)):
        return False
    plain = tuple(decoded(segment) for segment in segments)
    # Wildcards are kept apart from an escaped star by a mark that no decoded text holds.
    pattern = tuple(s if s in ("*", "**") else "\0" + decoded(s) for s in rule.segments)
    for read in (plain, bare(plain)):
        for shape in (pattern, bare(rule.segments) and pattern[: len(bare(rule.segments))]):
            if _marked_matches(shape, read):
                return True
    return False


def _marked_matches(pattern: tuple[str, ...], segments: tuple[str, ...]) -> bool:
    if pattern == ("**",):
        return len(segments) >= 1
    if not pattern or not segments:
        return not pattern and not segments
    fits = segments[0] != "" if pattern[0] == "*" else pattern[0] == "\0" + segments[0]
    return fits and _marked_matches(pattern[1:], segments[1:])


def allowed(
    allow: list[Rule],
    deny: list[Rule],
    wide: list[Rule],
    method: str,
    host: str | None,
    segments: tuple[str, ...],
) -> bool:
    if method not in KNOWN:
        return False
    if any(touches(rule, method, host, segments) for rule in deny):
        return False
    opened = [rule for rule in allow if matches(rule, method, host, segments)]
    if allow and not opened:
        return False
    for rule in wide:
        if touches(rule, method, host, segments) and not any(_names(entry, rule) for entry in opened):
            return False
    return True


def _names(entry: Rule, rule: Rule) -> bool:
    literal = not any(segment in ("*", "**") for segment in entry.segments)
    return literal or bare(entry.segments) == bare(rule.segments)


def specificity(rule: Rule) -> tuple[object, ...]:
    """Sorts the most literal rule first, among rules that match the same call."""
    ranks = tuple({"*": 1, "**": 2}.get(segment, 0) for segment in rule.segments)
    methods = KNOWN if rule.methods is None else rule.methods | ({"HEAD"} if "GET" in rule.methods else set())
    return (ranks, rule.host is None, len(methods))
