"""Labels of keys and tokens: a few words of a person's, which lists and terminals show."""

from __future__ import annotations

from valetkey.errors import Invalid

MAX_LABEL = 120
"""Characters; as many as a party's name may have."""


def check_label(label: str) -> str:
    """The label as it is. Raises `Invalid` for one that is too long, or would break or steer what shows it."""
    if len(label) > MAX_LABEL or not label.isprintable() or label != label.strip():
        raise Invalid(
            "That cannot be a label.",
            f"Use at most {MAX_LABEL} printable characters on one line, such as laptop or nightly run.",
            field="label",
        )
    return label
