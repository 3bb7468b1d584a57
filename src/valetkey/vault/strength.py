"""What can be said of a secret when it is imported: clean, weak, reused, of another shape than expected.

Control characters are an error; everything else is a warning, for the vendor decides what its keys look like.
No sentence repeats any part of the value.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from enum import StrEnum
from itertools import pairwise
from typing import Final

import msgspec

from valetkey.errors import Invalid
from valetkey.vault.plain import PlainSecret

SHORT_LENGTH: Final = 16
"""Fewer characters are called short: NIST SP 800-63B asks for 64 bits of look-up secrets, 16 hex digits."""
LOW_BITS: Final = 44.0
"""Estimated bits below which a value is called guessable. Sixteen random hex digits seldom fall below."""
RUN_LENGTH: Final = 6
"""A run such as ``abcdef`` this long comes up by chance in one of a million random keys."""

_UNMISTAKABLE: Final = (
    *(
        "changeme",
        "changethis",
        "replaceme",
        "replacethis",
        "yourapikey",
        "yourkey",
        "yourtoken",
        "yoursecret",
    ),
    *(
        "apikeyhere",
        "keyhere",
        "tokenhere",
        "secrethere",
        "inserthere",
        "insertkey",
        "insertyour",
        "enteryour",
    ),
    *("placeholder", "example", "dummykey", "samplekey", "xxxxxxxx", "notarealkey", "fakekey"),
)
"""Words, without separators, that no generator puts into a key."""
_COMMON: Final = (
    *(
        "password",
        "passwort",
        "passw0rd",
        "secret",
        "admin",
        "letmein",
        "qwerty",
        "welcome",
        "default",
        "dummy",
    ),
    *(
        "sample",
        "token",
        "apikey",
        "monkey",
        "dragon",
        "master",
        "login",
        "access",
        "test",
        "demo",
        "root",
        "user",
    ),
    *(
        "hello",
        "sunshine",
        "iloveyou",
        "football",
        "valetkey",
        "openai",
        "stripe",
        "github",
        "temp",
        "todo",
        "key",
    ),
)
"""Words that real keys may carry as a prefix: they count only when little is left without them."""
_LITTLE_LEFT: Final = 10
_TEMPLATE: Final = re.compile(r"\A(?:<.*>|\$\{.*\}|\{\{.*\}\}|%[A-Z_]+%|\$[A-Z_]+|\[.*\])\Z")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CONTROL_BUT_LINES: Final = re.compile(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")
_ROWS: Final = ("qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiop", "azertyuiop")


class ControlCharacters(Invalid):
    """The value holds characters that no header can carry."""

    def __init__(self) -> None:
        super().__init__(
            "The value holds control characters or line breaks.",
            "Paste only the key itself, on one line.",
            field="value",
        )


class WeaknessKind(StrEnum):
    """What a warning is about; the value is what programs see."""

    SHORT = "short"
    GUESSABLE = "guessable"
    PLACEHOLDER = "placeholder"
    SEQUENTIAL = "sequential"
    REPEATED = "repeated"
    SHAPE = "shape"
    REUSED = "reused"


class Weakness(msgspec.Struct, frozen=True):
    """One warning about a value."""

    kind: WeaknessKind
    sentence: str
    next_step: str


_DRAW_ANOTHER = "Have the vendor make a new key, and import that."
_WEAKNESSES: dict[WeaknessKind, Weakness] = {
    weakness.kind: weakness
    for weakness in (
        Weakness(WeaknessKind.SHORT, f"It has fewer than {SHORT_LENGTH} characters.", _DRAW_ANOTHER),
        Weakness(WeaknessKind.GUESSABLE, "It can be guessed: its characters vary too little.", _DRAW_ANOTHER),
        Weakness(
            WeaknessKind.PLACEHOLDER,
            "It looks like a placeholder or a common password.",
            "Paste the real key instead.",
        ),
        Weakness(WeaknessKind.SEQUENTIAL, "It holds a sequence such as 123456 or qwerty.", _DRAW_ANOTHER),
        Weakness(WeaknessKind.REPEATED, "It repeats the same characters.", _DRAW_ANOTHER),
        Weakness(
            WeaknessKind.SHAPE,
            "It does not look like a key of this service.",
            "Check that it is the right key, copied whole.",
        ),
        Weakness(
            WeaknessKind.REUSED,
            "The same value is kept for another secret already.",
            "Use one key for one purpose, so that each can be replaced alone.",
        ),
    )
}


def clean_input(value: str | bytes, *, lines: bool = False) -> PlainSecret:
    """What was pasted or piped, as a secret: one trailing newline dropped, the rest unchanged.

    `lines` lets line breaks stand (PEM, JSON). Raises `ControlCharacters`; `Invalid` when nothing is left or
    the bytes are not UTF-8.
    """
    text = _as_text(value)
    for ending in ("\r\n", "\n"):
        if text.endswith(ending):
            text = text[: -len(ending)]
            break
    if not text.strip():
        raise Invalid("The value is empty.", "Paste the key.", field="value")
    if (_CONTROL_BUT_LINES if lines else _CONTROL).search(text):
        raise ControlCharacters
    return PlainSecret(text)


def _as_text(value: str | bytes) -> str:
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        pass  # the original exception carries the value: it must not be chained
    raise Invalid("The value is not UTF-8 text.", "Encode it as text, for instance in base64.", field="value")


def examine(value: PlainSecret, shape: re.Pattern[str] | None = None, reused: bool = False) -> list[Weakness]:
    """Warnings about a value, the most telling first. `shape` is what a whole key of the service matches."""
    text = value.reveal_text()
    lowered = text.lower()
    found = []
    if reused:
        found.append(WeaknessKind.REUSED)
    if shape is not None and not shape.fullmatch(text):
        found.append(WeaknessKind.SHAPE)
    if is_placeholder(lowered):
        found.append(WeaknessKind.PLACEHOLDER)
    if has_sequence(lowered):
        found.append(WeaknessKind.SEQUENTIAL)
    if is_repetitive(text):
        found.append(WeaknessKind.REPEATED)
    if len(text) < SHORT_LENGTH:
        found.append(WeaknessKind.SHORT)
    if estimated_bits(text) < LOW_BITS:
        found.append(WeaknessKind.GUESSABLE)
    return [_WEAKNESSES[kind] for kind in found]


def estimated_bits(text: str) -> float:
    """Shannon entropy of the characters' own frequencies, times length: generous to what looks random."""
    length = len(text)
    return -sum(count * math.log2(count / length) for count in Counter(text).values())


def is_placeholder(lowered: str) -> bool:
    """Whether a lower-case text says that it stands for something else."""
    if _TEMPLATE.match(lowered) or _TEMPLATE.match(lowered.upper()):
        return True
    bare = re.sub(r"[^a-z0-9]", "", lowered)
    if any(word in bare for word in _UNMISTAKABLE):
        return True
    rest = bare
    for word in _COMMON:
        rest = rest.replace(word, "")
    return rest != bare and len(rest) < _LITTLE_LEFT


def has_sequence(lowered: str) -> bool:
    """Whether characters climb, fall or follow a keyboard row for `RUN_LENGTH` places."""
    for row in _ROWS:
        for start in range(len(row) - RUN_LENGTH + 1):
            piece = row[start : start + RUN_LENGTH]
            if piece in lowered or piece[::-1] in lowered:
                return True
    run, step = 1, 0
    for before, after in pairwise(lowered):
        difference = ord(after) - ord(before)
        run = run + 1 if difference == step else 2
        step = difference
        if run >= RUN_LENGTH and step in (1, -1):
            return True
    return False


def is_repetitive(text: str) -> bool:
    """Whether the text is one piece over and over, or holds one character `RUN_LENGTH` times in a row."""
    if len(text) > 1 and (text + text).find(text, 1) < len(text):
        return True
    return re.search(rf"(.)\1{{{RUN_LENGTH - 1}}}", text) is not None
