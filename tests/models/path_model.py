"""The path rules octet by octet, slow and obvious: what the canonicaliser is compared with."""

from __future__ import annotations

HEX = b"0123456789abcdefABCDEF"
LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
UNRESERVED = LETTERS + b"0123456789-._~"
MAY_STAND = UNRESERVED + b"!$&'()*+,=:@"


def canonical(raw: bytes, encoded_slash: bool = False) -> tuple[str, tuple[str, ...]] | None:
    """Text and segments of the judged path, or None where it is refused."""
    if raw[:1] != b"/" or len(raw) > 8192:
        return None
    tokens: list[tuple[int, bool]] = []  # (octet, came as an escape)
    at = 0
    while at < len(raw):
        octet = raw[at]
        if octet == ord("%"):
            digits = raw[at + 1 : at + 3]
            if len(digits) < 2 or any(digit not in HEX for digit in digits):
                return None
            tokens.append((int(digits, 16), True))
            at += 3
        else:
            if octet < 0x21 or octet == 0x7F or octet in b"\\;?#":
                return None
            tokens.append((octet, False))
            at += 1
    pieces: list[str] = []  # each a character as it is, or an escape
    for octet, escaped in tokens:
        if escaped and (octet < 0x20 or octet in (0x7F, 0x5C)):
            return None
        if escaped and octet == 0x2F and not encoded_slash:
            return None
        stays = octet in UNRESERVED if escaped else octet in MAY_STAND or octet == 0x2F
        pieces.append(chr(octet) if stays else f"%{octet:02X}")
    for first, second, third in zip(pieces, pieces[1:], pieces[2:], strict=False):
        if first == "%25" and second in _hex_characters() and third in _hex_characters():
            return None
    for octets in (raw, bytes(octet for octet, _ in tokens)):
        try:
            octets.decode("utf-8")
        except UnicodeDecodeError:
            return None
    for place in range(len(pieces) - 1):
        if pieces[place] == pieces[place + 1] == "/" and (place == 0 or not encoded_slash):
            return None
    parts: list[list[str]] = [[]]
    for piece in pieces:
        if piece in ("/", "%2F"):
            parts.append([])
        else:
            parts[-1].append(piece)
    if any(part in (["."], [".", "."]) for part in parts):
        return None
    return "".join(pieces), tuple(_segments(pieces))


def _hex_characters() -> set[str]:
    return {chr(digit) for digit in HEX}


def _segments(pieces: list[str]) -> list[str]:
    segments = [""]
    for place in range(1, len(pieces)):
        neighbours = (pieces[place - 1], pieces[place + 1] if place + 1 < len(pieces) else "")
        if pieces[place] == "/" and "/" not in neighbours:
            segments.append("")
        else:
            segments[-1] += pieces[place]
    return segments
