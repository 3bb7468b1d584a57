"""Words for requests of the wrong shape. They name fields of ours, and of what was sent at most a plain
word as the name of a field."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args, get_type_hints

import msgspec
from litestar.exceptions import ValidationException

from valetkey.errors import Invalid

_SEE = "See what it should be at /api/v1/openapi.json."

# What msgspec says of a value without quoting it; everything else is said in our own words.
_HARMLESS = re.compile(
    r"Expected `[a-z| ]+`(?:, got `[a-z]+`| (?:>=|<=|<|>) -?[0-9.]+)?|Expected `[a-z]+` of length (?:>=|<=) [0-9]+"
)
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_PLACE = re.compile(r" - at `(?:key in )?\$([^`]*)`\Z")
_NAME_IN_PLACE = re.compile(r"[A-Za-z_]\w*")
_UNKNOWN = re.compile(r"Object contains unknown field `([a-z][a-z_-]{0,23})`")
"""A name that may be said again: what was pasted, a key above all, does not look like this."""
_TYPES = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "nothing",
}
"""What JSON calls things, in plain words."""


def wrong_body(error: msgspec.ValidationError, kind: Any, body: bytes = b"{}") -> Invalid:
    """The sentence for a body that is JSON but no `kind`."""
    message = str(error)
    what = message.partition(" - at ")[0]
    place = _PLACE.search(message)
    steps = _NAME_IN_PLACE.findall(place[1]) if place else []
    if not field_names(kind).issuperset(steps):
        # A name in the body can be made to look like a place.
        steps = []
    missing = _MISSING.fullmatch(what)
    if missing is not None and missing[1] in field_names(kind):
        field = ".".join([*steps, missing[1]])
        return Invalid(f"The field {field} is missing.", "Add it to the request.", field=field)
    if what.startswith("Object contains unknown field"):
        named = _UNKNOWN.fullmatch(what)
        return unknown_field(kind, steps, body, None if named is None else named[1])
    field = ".".join(steps)
    subject = f"The field {field}" if field else "The request"
    if _HARMLESS.fullmatch(what):
        sentence = f"{subject} has a wrong value: {_lower(what)}."
        return Invalid(sentence, "Correct it and send it again.", field=field or None)
    return Invalid(f"{subject} has a value that is not accepted.", _SEE, field=field or None)


def unknown_field(
    kind: Any, within: list[str] | None = None, body: bytes = b"{}", name: str | None = None
) -> Invalid:
    """The sentence for a field that nobody reads. `within`: names of the fields around it. Of `body` only the
    names are looked at, for what they may have been meant as."""
    meant = _meant(kind, body)
    guess = f" Did you mean {meant!r}?" if meant is not None else ""
    guess = f"{'.' if name is None else f': {name}.'}{guess}"
    if within:
        field = ".".join(within)
        return Invalid(f"The request has a field within {field} that is not known{guess}", _SEE, field=field)
    struct = struct_of(kind)
    names = () if struct is None else struct.__struct_encode_fields__
    known = f"Known ones: {', '.join(names)}." if names else "Leave the body out."
    return Invalid(f"The request has a field that is not known{guess}", known)


def _meant(kind: Any, body: bytes) -> str | None:
    """The field of ours that a field of the body may stand for: in another place, in the singular, as a flag."""
    paths = field_paths(kind)
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    given = list(_names(decoded))
    for name in given:
        if name in paths:
            continue
        plain = name.rpartition(".")[2].replace("-", "_").lower()
        for path in sorted(paths, key=len):
            if path not in given and path.rpartition(".")[2] in (plain, f"{plain}s"):
                return path
    return None


def _names(decoded: Any, before: str = "") -> Iterator[str]:
    if isinstance(decoded, dict):
        for name, value in decoded.items():
            yield f"{before}{name}"
            yield from _names(value, f"{before}{name}.")


def wrong_parameter(error: ValidationException) -> Invalid:
    """The sentence for a parameter in the query or a header."""
    extra = error.extra if isinstance(error.extra, list) else []
    first = extra[0] if extra and isinstance(extra[0], dict) else {}
    name = first.get("key")
    field = name if isinstance(name, str) and re.fullmatch(r"[\w-]{1,40}", name) else None
    message = str(first.get("message", ""))
    if field is None:
        return Invalid("The request is incomplete or wrong.", _SEE)
    if field == "data":
        return Invalid("This request needs a JSON body.", _SEE)
    if _HARMLESS.fullmatch(message):
        return Invalid(
            f"{field} has a wrong value: {_lower(message)}.", "Correct it and try again.", field=field
        )
    return Invalid(f"{field} has a value that is not accepted.", _SEE, field=field)


def struct_of(annotation: Any) -> type[msgspec.Struct] | None:
    """The struct that an annotation is or may be."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return kind
    return None


@cache
def field_paths(annotation: Any) -> frozenset[str]:
    """All fields of a struct and of the structs within it, each with the names of those around it."""
    struct = struct_of(annotation)
    if struct is None:
        return frozenset()
    found = set(struct.__struct_encode_fields__)
    for name, hint in get_type_hints(struct).items():
        found |= {f"{name}.{inner}" for inner in field_paths(hint)}
    return frozenset(found)


@cache
def field_names(annotation: Any) -> frozenset[str]:
    """Names of all fields of a struct and of the structs within it."""
    struct = struct_of(annotation)
    if struct is None:
        return frozenset()
    names = set(struct.__struct_encode_fields__)
    for hint in get_type_hints(struct).values():
        names |= field_names(hint)
    return frozenset(names)


def _lower(text: str) -> str:
    return re.sub(r"`([a-z| ]+)`", _plainly, text[0].lower() + text[1:])


def _plainly(found: re.Match[str]) -> str:
    return " or ".join(_TYPES.get(name, name) for name in found[1].split(" | "))
