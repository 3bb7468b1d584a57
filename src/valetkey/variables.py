"""The environment variables of this product, and what is said of a name that is nearly one of them."""

from __future__ import annotations

from collections.abc import Iterable

from valetkey.nearest import nearest

PREFIX = "VALETKEY_"
KNOWN = frozenset(
    ("VALETKEY_HOME", "VALETKEY_URL", "VALETKEY_TOKEN_FILE", "VALETKEY_CONTROL_PORT", "VALETKEY_GATEWAY_PORT",
     "VALETKEY_ROOT_KEY_FILE", "VALETKEY_DATABASE_URL",
     "VALETKEY_DEBUG", "VALETKEY_KEY")
)  # fmt: skip
"""What anything of this product reads; a test holds it to the source."""


def unknown_variables(names: Iterable[str]) -> list[str]:
    """Those with our prefix that nothing reads, sorted."""
    return sorted(name for name in names if name.startswith(PREFIX) and name not in KNOWN)


def about_unknown(name: str) -> str:
    """One sentence on a variable that nothing reads, with the one that may be meant. Never with its value."""
    from valetkey.keys.format import mask_keys

    near = nearest(name.removeprefix(PREFIX), (known.removeprefix(PREFIX) for known in KNOWN))
    meant = f"{PREFIX}{near} may be meant" if near else "docs/reference/settings.md names those that are read"
    return f"Nothing reads the variable {mask_keys(name.encode()).decode()}; {meant}."
