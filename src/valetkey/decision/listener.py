"""The address of ours at which a call arrives: of a machine with several, it says by which way a caller came."""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from valetkey.decision.address import Address, parse_address

MAX_PORT = 65_535
_PORT = re.compile(r"[1-9][0-9]{0,4}")


class Listener(msgspec.Struct, frozen=True, gc=False):
    """One local address, with a port or with any."""

    address: Address
    port: int | None = None

    def takes(self, arrived: Listener) -> bool:
        """Whether what arrived there arrived here."""
        return self.address == arrived.address and self.port in (None, arrived.port)

    @property
    def text(self) -> str:
        """``192.0.2.1``, ``192.0.2.1:8300`` or ``[2001:db8::1]:8300``."""
        if self.port is None:
            return self.address.text
        shown = f"[{self.address.text}]" if self.address.version == 6 else self.address.text
        return f"{shown}:{self.port}"


@lru_cache(maxsize=256)
def listener_of(local: tuple[str, int] | None) -> Listener | None:
    """Our own end of a connection, as sockets name it."""
    if local is None:
        return None
    # A zone says which interface a link-local address is of; which one it is shows in none of our names.
    return Listener(parse_address(local[0].partition("%")[0]), local[1])


@lru_cache(maxsize=1024)
def parse_listener(text: str) -> Listener:
    """Return what `text` spells, an address with or without a port. Raises ValueError."""
    address, colon, port = text, "", ""
    if text.startswith("["):
        address, closed, rest = text[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        if not closed or (rest and colon != ":") or ":" not in address:
            raise ValueError(
                "Brackets stand around an IPv6 address, and a port behind them: [2001:db8::1]:8300."
            )
    elif text.count(":") == 1:
        address, colon, port = text.partition(":")
    if not colon:
        return Listener(parse_address(address))
    if not _PORT.fullmatch(port) or int(port) > MAX_PORT:
        raise ValueError(f"A port is a number from 1 to {MAX_PORT:,}.")
    return Listener(parse_address(address), int(port))
