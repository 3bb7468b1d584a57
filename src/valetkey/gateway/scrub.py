"""Answers are scrubbed of the real key, in every form that an upstream is likely to echo it in.

`Needles` are those forms, `Scrubber` masks them in a stream, `Decoder` opens a compressed answer before.
What a scrubber holds back is only the longest end that may yet become a needle, so events never stall.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NoReturn
from urllib.parse import quote_from_bytes

from valetkey.errors import Invalid

MASK: Final = b"*"
MIN_NEEDLE: Final = 6
"""A shorter needle would mask ordinary text everywhere; `Needles.dropped` says that there was one."""
MAX_PIECE: Final = 64 * 1024
"""Most bytes that a decoder hands on at once."""
MAX_RATIO: Final = 200
"""Bytes out for one byte in. JSON and HTML stay under 50; DEFLATE's limit, and a bomb's, is 1,032."""
RATIO_FREE: Final = 1024 * 1024
"""Bytes that may come out before the ratio counts: small answers may compress as they like."""

_HTML_SAFE: Final = ("", "<>&", "<>&'", "<>&'=", "<>&'\"", "<>&'\"+", "<>&'\"+`", "<>&'\"+=/")
"""Sets of characters that common JSON writers escape beyond the required (Go, Rails, Gson, .NET, …)."""
_KEPT_IN_URLS: Final = ("-._~", "-._", "-_.!~*'()", "-_.*", "", "/-._~", "-._~:/?#[]@!$&'()*+,;=")
"""Sets of characters, beside letters and digits, that common writers leave alone in a URL."""


class CodingRefused(Invalid):
    """The answer's content coding cannot be read, so the answer cannot be scrubbed."""

    code = "CODING_REFUSED"


# -- forms of a secret ------------------------------------------------------------------------------------


def forms_of(secret: bytes) -> set[bytes]:
    """`secret` raw, percent-encoded, JSON-escaped, in hex, and in base64 wherever it stands."""
    return {
        secret,
        *_percent_forms(secret),
        *_json_forms(secret),
        *_hex_forms(secret),
        *_base64_forms(secret),
    }


def _hex_forms(secret: bytes) -> Iterator[bytes]:
    yield secret.hex().encode()
    yield secret.hex().upper().encode()


def _percent_forms(secret: bytes) -> Iterator[bytes]:
    forms = [quote_from_bytes(secret, safe).encode() for safe in _KEPT_IN_URLS]
    # The standard library never encodes the four unreserved marks; some writers do.
    forms.append(re.sub(rb"[^A-Za-z0-9]", lambda found: b"%%%02X" % found[0][0], secret))
    forms.append(re.sub(rb"[^A-Za-z0-9*._-]", lambda found: b"%%%02X" % found[0][0], secret))
    forms.append(b"".join(b"%%%02X" % byte for byte in secret))
    for form in forms:
        for spaced in (form, form.replace(b"%20", b"+")):
            yield spaced
            yield re.sub(rb"%[0-9A-F]{2}", lambda found: found[0].lower(), spaced)


def _json_forms(secret: bytes) -> Iterator[bytes]:
    try:
        text = secret.decode()
    except UnicodeDecodeError:
        text = secret.decode("latin-1")
    everything = "".join(_escape_units(text))
    for form in (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]):
        for escaped in _HTML_SAFE:
            written = form
            if '"' in escaped:
                written = written.replace('\\"', "\\u0022")
            for character in escaped.replace('"', ""):
                written = written.replace(character, f"\\u{ord(character):04x}")
            for slashed in (written, written.replace("/", "\\/")):
                yield from _both_cases(slashed)
    yield from _both_cases(everything)


def _escape_units(text: str) -> Iterator[str]:
    units = text.encode("utf-16-be", "surrogatepass")
    for place in range(0, len(units), 2):
        yield f"\\u{units[place]:02x}{units[place + 1]:02x}"


def _both_cases(escaped: str) -> Iterator[bytes]:
    yield escaped.encode()
    yield re.sub(r"\\u[0-9a-f]{4}", lambda found: "\\u" + found[0][2:].upper(), escaped).encode()


def _base64_forms(secret: bytes, before: bytes = b"", after: bytes = b"") -> Iterator[bytes]:
    """What `secret` always becomes inside longer base64, at each of the three places it can start at.

    Only characters made of its own bits and those of `before` and `after` (its known neighbours) count.
    """
    known = before + secret + after
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + known)
        first = -(-offset * 8 // 6)
        last = (offset + len(known)) * 8 // 6
        yield from _both_alphabets(encoded[first:last])
        yield from _both_alphabets(encoded[first:].rstrip(b"="))  # the same where it ends the text


def _both_alphabets(encoded: bytes) -> Iterator[bytes]:
    yield encoded
    yield encoded.translate(bytes.maketrans(b"+/", b"-_"))


# -- needles ----------------------------------------------------------------------------------------------


class Needles:
    """All forms of the parts of one or several secrets, ready to be looked for. Prints without them."""

    __slots__ = (
        "_alphabet",
        "_ends",
        "_gated",
        "_open",
        "_trigrams",
        "_words",
        "dropped",
        "longest",
    )

    def __init__(self, words: Iterable[bytes], dropped: Iterable[str] = ()) -> None:
        self._words = tuple(sorted(set(words), key=len, reverse=True))
        self.longest = max(map(len, self._words), default=0)
        self.dropped = tuple(dropped)
        """Why some form is not looked for, one sentence each."""
        # A needle that holds another one need not be looked for first: the other one is found with it.
        minimal: list[bytes] = []
        for word in reversed(self._words):
            if not any(other in word for other in minimal):
                minimal.append(word)
        # Looked for as text, byte for byte: `in` of a str is four times faster to call than `in` of bytes.
        texts = [word.decode("latin-1") for word in minimal]
        # Needles with a rare byte form a group, which one scan at memory speed for that byte rules out.
        percent = tuple(text for text in texts if "%" in text)
        escaped = tuple(text for text in texts if "\\" in text and "%" not in text)
        self._open = tuple(text for text in texts if "\\" not in text and "%" not in text)
        self._gated = tuple((gate, group) for gate, group in (("%", percent), ("\\", escaped)) if group)
        prefixes = [word[:-1] for word in self._words]
        self._alphabet = frozenset(byte for prefix in prefixes for byte in prefix)
        """Bytes that the end of an unfinished needle can be."""
        self._ends = frozenset(prefix[:size] for prefix in prefixes for size in (1, 2) if len(prefix) >= size)
        self._trigrams = frozenset(
            prefix[place : place + 3] for prefix in prefixes for place in range(len(prefix) - 2)
        )

    @classmethod
    def build(cls, parts: Sequence[bytes], basic_users: Sequence[bytes] = ()) -> Needles:
        """Needles of every part, alone and as the password or user of basic authentication."""
        words: set[bytes] = set()
        dropped: list[str] = []
        for number, part in enumerate(parts, 1):
            forms = forms_of(part)
            forms.update(_base64_forms(part, after=b":"), _base64_forms(part, before=b":"))
            for user in basic_users:
                forms.update(_both_alphabets(base64.b64encode(user + b":" + part).rstrip(b"=")))
            kept = {form for form in forms if len(form) >= MIN_NEEDLE}
            if len(kept) < len(forms):
                dropped.append(
                    f"Part {number} has forms under {MIN_NEEDLE} bytes, which would mask ordinary text."
                )
            words |= kept
        return cls(words, dropped)

    def __repr__(self) -> str:
        return f"Needles(count={len(self._words)}, ***)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("Needles cannot be pickled: build them where they are used.")

    def __len__(self) -> int:
        return len(self._words)

    def occur_in(self, data: bytes) -> bool:
        """Whether any needle occurs."""
        text = data.decode("latin-1")
        for word in self._open:
            if word in text:
                return True
        for gate, group in self._gated:
            if gate in text:
                for word in group:
                    if word in text:
                        return True
        return False

    def open_end(self, data: bytes) -> int:
        """Length of the longest end of `data` that is the beginning, not the whole, of a needle."""
        if not data or data[-1] not in self._alphabet:
            return 0
        if data[-3:] in self._trigrams:
            last = data[-3:]
            best = 0
            for word in self._words:
                if len(word) - 1 <= best:
                    break
                place = word.rfind(last, 0, min(len(word) - 1, len(data)))
                while place >= 0 and place + 3 > best:
                    if data.endswith(word[: place + 3]):
                        best = place + 3
                        break
                    place = word.rfind(last, 0, place + 2)
            if best:
                return best
        if data[-2:] in self._ends and len(data) > 1:
            return 2
        return 1 if data[-1:] in self._ends else 0

    def spans(self, data: bytes, covered: int = 0) -> list[tuple[int, int]]:
        """Where needles occur, overlapping ones joined, in order; the first `covered` bytes count as one."""
        found = [(0, covered)]
        for word in self._words:
            place = data.find(word)
            while place >= 0:
                found.append((place, place + len(word)))
                place = data.find(word, place + 1)
        found.sort()
        joined: list[tuple[int, int]] = []
        for start, end in found:
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
            else:
                joined.append((start, end))
        return joined


# -- scrubbing --------------------------------------------------------------------------------------------


class Scrubber:
    """Masks needles in one stream: every byte of every occurrence becomes ``*``, the length stays."""

    __slots__ = ("_covered", "_held", "masked", "needles")

    def __init__(self, needles: Needles) -> None:
        self.needles = needles
        """May be replaced between two chunks: what is held is then looked at with the new ones."""
        self._held = b""
        self._covered = 0
        """How many bytes at the start of what is held belong to an occurrence that began before it."""
        self.masked = 0
        """Bytes masked so far."""

    def feed(self, chunk: bytes) -> bytes:
        """What may be handed on now; the same object when nothing was found or held."""
        held = self._held
        needles = self.needles
        data = held + chunk if held else chunk
        if self._covered or needles.occur_in(data):
            return self._mask(data, needles.open_end(data))
        keep = needles.open_end(data)
        if keep:
            self._held = data[-keep:]
            return data[:-keep]
        if held:
            self._held = b""
        return data

    def finish(self) -> bytes:
        """What was still held. An unfinished needle is handed on: it is no needle."""
        if not self._held:
            return b""
        return self._mask(self._held, 0)

    def _mask(self, data: bytes, keep: int) -> bytes:
        border = len(data) - keep
        output = bytearray(data[:border])
        covered = 0
        for start, end in self.needles.spans(data, self._covered):
            if start <= border:  # equal when all is held once more: what is covered stays covered
                stop = min(end, border)
                self.masked += stop - start
                output[start:stop] = MASK * (stop - start)
                covered = max(covered, end - border)
        self._held = data[border:]
        self._covered = covered
        return bytes(output)


def scrub_bytes(data: bytes, needles: Needles) -> bytes:
    """`data` without needles: a status line, a header, a whole body."""
    if not needles.occur_in(data):
        return data
    scrubber = Scrubber(needles)
    return scrubber.feed(data) + scrubber.finish()


def scrub_headers(headers: list[tuple[bytes, bytes]], needles: Needles) -> list[tuple[bytes, bytes]]:
    """Headers or trailers without needles; the same list when there were none."""
    if not needles.occur_in(b"\n".join([part for header in headers for part in header])):
        return headers
    return [(scrub_bytes(name, needles), scrub_bytes(value, needles)) for name, value in headers]


# -- compressed answers -----------------------------------------------------------------------------------


class Decoder:
    """Opens an answer's content coding piece by piece: identity, gzip, deflate."""

    __slots__ = ("_coding", "_fed", "_first", "_inflate", "_made", "_padding")

    def __init__(self, content_coding: bytes) -> None:
        """`content_coding` is the value of Content-Encoding. Raises `CodingRefused` for any other coding."""
        coding = content_coding.strip().lower()
        self._coding = {b"": b"identity", b"x-gzip": b"gzip"}.get(coding, coding)
        if self._coding not in (b"identity", b"gzip", b"deflate"):
            raise CodingRefused(
                "The service answered in a content coding that the gateway cannot read.",
                "Ask the service for gzip or identity.",
            )
        self._inflate = zlib.decompressobj(wbits=31) if self._coding == b"gzip" else None
        self._first = b""
        self._fed = 0
        self._made = 0
        self._padding = False

    @property
    def is_identity(self) -> bool:
        """Whether chunks pass as they are."""
        return self._coding == b"identity"

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        """The plain bytes that `chunk` brings, at most `MAX_PIECE` at once.

        Raises `CodingRefused` for data that is broken or swells beyond `MAX_RATIO`.
        """
        if self.is_identity:
            yield chunk
            return
        self._fed += len(chunk)
        while chunk:
            inflate = self._inflate
            if inflate is None or inflate.eof:
                chunk = self._begin(chunk)
                continue
            try:
                piece = inflate.decompress(chunk, MAX_PIECE)
            except zlib.error:
                raise CodingRefused("The compressed answer is broken.", "Try again.") from None
            self._made += len(piece)
            if self._made > max(RATIO_FREE, self._fed * MAX_RATIO):
                raise CodingRefused(
                    f"The compressed answer swells to over {MAX_RATIO} times its size.",
                    "Ask the service for less at once, or for identity.",
                )
            yield piece  # also an empty one: whoever takes them counts what they cost
            chunk = inflate.unused_data if inflate.eof else inflate.unconsumed_tail

    def _begin(self, chunk: bytes) -> bytes:
        """Start the next compressed member and return what it is to be fed."""
        if self._coding == b"gzip":
            # RFC 1952: members may follow one another; zeros after the last are padding.
            chunk = chunk.lstrip(b"\0")
            if chunk:
                self._inflate = zlib.decompressobj(wbits=31)
            return chunk
        if self._inflate is not None:
            raise CodingRefused("Something follows the compressed answer.", "Try again.")
        # RFC 9110 means the zlib format; some servers send bare DEFLATE. Two bytes tell them apart.
        self._first += chunk
        if len(self._first) < 2:
            return b""
        first, self._first = self._first, b""
        wrapped = first[0] & 0x0F == 8 and int.from_bytes(first[:2], "big") % 31 == 0
        self._inflate = zlib.decompressobj(wbits=15 if wrapped else -15)
        return first

    def finish(self) -> None:
        """Raises `CodingRefused` when the answer ended before its compressed data did."""
        if self.is_identity or self._fed == 0:
            return
        if self._inflate is None or not self._inflate.eof:
            raise CodingRefused("The compressed answer ended too early.", "Try again.")
