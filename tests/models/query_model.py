"""Slow model of relieving a query of its credential fields: every piece looked at letter by letter."""

from __future__ import annotations

HEX = b"0123456789abcdefABCDEF"


def decoded(name: bytes) -> bytes:
    out = []
    index = 0
    while index < len(name):
        byte = name[index]
        if byte == ord("+"):
            out.append(ord(" "))
        elif byte == ord("%") and len(name) > index + 2 and name[index + 1] in HEX and name[index + 2] in HEX:
            out.append(int(name[index + 1 : index + 3], 16))
            index += 2
        else:
            out.append(byte)
        index += 1
    return bytes(out)


def plain(piece: bytes) -> bytes:
    name = decoded(piece.split(b"=")[0]).strip()
    letters = [b"_" if letter in (b".", b" ") else letter for letter in (bytes([b]) for b in name.lower())]
    return b"".join(letters).split(b"[")[0]


def without(query: bytes, names: set[bytes]) -> bytes:
    """The query without the fields of these names, all else byte for byte."""
    return b"&".join(piece for piece in query.split(b"&") if plain(piece) not in names)


def count(query: bytes, name: bytes) -> int:
    return sum(1 for piece in query.split(b"&") if plain(piece) == name)
