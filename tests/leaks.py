"""Looks for secrets wherever they may have got to, in every form that software writes things down in.

A secret is looked for in pieces of `PIECE` octets that begin every `STEP` octets, so that no stretch of `PIECE + STEP`
octets of it goes unseen: raw, in hex, base64 (both alphabets, all three alignments), percent-encoded, UTF-16, and all
of that again in whatever gzip or zlib stream the searched octets hold.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

PIECE = 14
STEP = 6
MOST_UNPACKED = 4 << 20
"""Octets of one compressed stream that are looked at."""
_GZIP = b"\x1f\x8b\x08"
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")


def forms(piece: bytes) -> dict[str, bytes]:
    """One piece in every form, by the form's name."""
    percent = "".join(f"%{octet:02X}" for octet in piece)
    found = {
        "raw": piece,
        "hex": piece.hex().encode(),
        "HEX": piece.hex().upper().encode(),
        "percent": percent.encode(),
        "percent, small": percent.lower().encode(),
    }
    for alignment in range(3):
        # What precedes and follows is not known: only characters that stand for octets of the piece alone.
        text = base64.b64encode(bytes(alignment) + piece)
        known = text[(alignment * 8 + 5) // 6 : (alignment + len(piece)) * 8 // 6]
        found[f"base64, {alignment}"] = known
        found[f"base64 for URLs, {alignment}"] = known.translate(bytes.maketrans(b"+/", b"-_"))
    if piece.isascii():
        text_piece = piece.decode("ascii")
        found["UTF-16, little end first"] = text_piece.encode("utf-16-le")
        found["UTF-16, big end first"] = text_piece.encode("utf-16-be")
    return found


class Leaks:
    """Secrets by name, ready to be looked for."""

    def __init__(self, secrets: Mapping[str, str | bytes]) -> None:
        self._needles: dict[bytes, tuple[str, str]] = {}
        for name, secret in secrets.items():
            octets = secret.encode() if isinstance(secret, str) else secret
            assert len(octets) >= PIECE + STEP, f"{name} is too short to be told from chance"
            for start in range(0, len(octets) - PIECE + 1, STEP):
                for form, needle in forms(octets[start : start + PIECE]).items():
                    self._needles.setdefault(needle, (name, form))

    def within(self, octets: bytes) -> set[tuple[str, str]]:
        """Names of the secrets that stand there, each with its form."""
        found = self._plainly_within(octets)
        for kind, unpacked in _unpacked(octets):
            found |= {(name, f"{form} in {kind}") for name, form in self._plainly_within(unpacked)}
        return found

    def _plainly_within(self, octets: bytes) -> set[tuple[str, str]]:
        return {what for needle, what in self._needles.items() if needle in octets}

    def in_files(self, paths: Iterable[Path]) -> dict[str, set[tuple[str, str]]]:
        """What stands in files, and in their names, by path."""
        found = {}
        for path in paths:
            octets = path.name.encode() + b"\n" + (path.read_bytes() if path.is_file() else b"")
            if seen := self.within(octets):
                found[str(path)] = seen
        return found


def _unpacked(octets: bytes) -> Iterator[tuple[str, bytes]]:
    for mark, kind, bits in ((_GZIP, "gzip", 31), *((mark, "zlib", 15) for mark in _ZLIB)):
        at = octets.find(mark)
        while at >= 0:
            try:
                yield kind, zlib.decompressobj(bits).decompress(octets[at:], MOST_UNPACKED)
            except zlib.error:
                pass
            at = octets.find(mark, at + 1)
