"""The one wrapper in which a secret travels in the clear.

It shows itself as ``***`` wherever Python would print it, and cannot be pickled, iterated, hashed or encoded
by accident: the value comes out through `reveal` alone, so that a search for that word finds every place.
"""

from __future__ import annotations

import hmac
from typing import Any, NoReturn, final

from valetkey.errors import Invalid

MASK = "***"
"""What stands in place of every secret that is printed."""


class PlainSecret:
    """A secret or key in the clear. Immutable; compares in constant time; prints as ``***``."""

    __slots__ = ("_value",)
    _value: bytes
    __hash__ = None  # type: ignore[assignment]  # a hash table of secrets is a place nobody looks for them

    def __init__(self, value: str | bytes) -> None:
        object.__setattr__(self, "_value", value.encode() if isinstance(value, str) else bytes(value))

    @final
    def reveal(self) -> bytes:
        """The value. Whoever calls this answers for where it goes."""
        return self._value

    @final
    def reveal_text(self) -> str:
        """The value as text. Raises `PlainSecretNotText` for bytes that are not UTF-8."""
        try:
            return self.reveal().decode()
        except UnicodeDecodeError:
            pass  # the original exception carries the value: it must not be chained
        raise PlainSecretNotText

    def __repr__(self) -> str:
        return f"{type(self).__name__}({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, specification: str) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PlainSecret):
            return NotImplemented
        return hmac.compare_digest(self.reveal(), other.reveal())

    def __bool__(self) -> bool:
        return bool(self.reveal())

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} cannot be changed.")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} cannot be changed.")

    def __copy__(self) -> PlainSecret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> PlainSecret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} cannot be pickled: seal it instead.")


class PlainKey(PlainSecret):
    """A key that Valetkey issued, in the clear: at issue, and while a call that carries it is judged."""

    __slots__ = ()

    @property
    def last4(self) -> str:
        """The four characters that lists show. They belong to the checksum, not to the random body."""
        return self.reveal()[-4:].decode("ascii", "replace")


class PlainSecretNotText(Invalid):
    """The secret is not UTF-8 text."""

    def __init__(self) -> None:
        super().__init__("The secret is not UTF-8 text.", "Encode it as text first, for instance in base64.")
