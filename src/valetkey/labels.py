"""Text that people give to be kept and shown: labels, names, agreements. A key that is pasted there by a slip of
the hand would stand in lists, in the audit and in backups: it is refused, and the refusal does not repeat it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from valetkey.errors import Invalid
from valetkey.keys.format import looks_like_key

MAX_LABEL = 120
"""Characters; as many as a party's name may have."""


def check_label(label: str) -> str:
    """The label as it is. Raises `Invalid` for one that is too long, would break or steer what shows it, or holds
    a key."""
    if len(label) > MAX_LABEL or not label.isprintable() or label != label.strip():
        raise Invalid(
            "That cannot be a label.",
            f"Use at most {MAX_LABEL} printable characters on one line, such as laptop or nightly run.",
            field="label",
        )
    refuse_keys("label", label)
    return label


def refuse_keys(field: str, *texts: str) -> None:
    """Raise `Invalid` where a text holds what can be a key: one of ours, or one shaped like a known vendor's."""
    if any(holds_key(text) for text in texts):
        raise Invalid(
            f"The {field} holds what looks like a plain key, and would be stored and shown.",
            "Leave the key out. If it is a real one, take it as exposed: revoke it, or have the vendor replace it.",
            field=field,
        )


def holds_key(text: str) -> bool:
    """Whether anything in `text` could be a key."""
    # Whoever splits a key by what cannot be seen has still written it down.
    joined = "".join(filter(str.isprintable, text))
    return looks_like_key(joined.encode("utf-8", "replace")) or _vendor_shapes().search(joined) is not None


@cache
def _vendor_shapes() -> re.Pattern[str]:
    return re.compile(
        "|".join(rf"(?<![0-9A-Za-z_-])(?:{shape})(?![0-9A-Za-z_-])" for shape in sorted(set(_shapes())))
    )


def _shapes() -> Iterable[str]:
    # The catalogue's data, without its code: this stands below every room.
    for file in files("valetkey.services").joinpath("catalogue").iterdir():
        if file.name.endswith(".toml"):
            yield str(tomllib.loads(file.read_text("utf-8"))["shape"]["regex"])
