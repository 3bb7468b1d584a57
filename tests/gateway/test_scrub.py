"""Answers leave without the real key, in whatever pieces they come; what is no key passes at once."""

from __future__ import annotations

import base64
import gzip
import pickle
import random
import zlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from long_results import Results
from models import scrub_model as model
from valetkey.gateway.scrub import (
    MAX_RATIO,
    RATIO_FREE,
    CodingRefused,
    Decoder,
    Needles,
    Scrubber,
    forms_of,
    scrub_bytes,
    scrub_headers,
)

PLAIN = b"sk-test-" + b"A1b2C3d4" * 4 + b"-_z9"
AWKWARD = "p+w/%4=<&>\"\\ü~ a'5".encode() + b"R7q" * 5
EVENT = b'data: {"choices":[{"delta":{"content":" hello"}}]}\n\n'


def fed(needles: Needles, chunks: list[bytes]) -> bytes:
    scrubber = Scrubber(needles)
    return b"".join([*(scrubber.feed(chunk) for chunk in chunks), scrubber.finish()])


def split(data: bytes, places: list[int]) -> list[bytes]:
    borders = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(borders)]


words = st.lists(
    st.binary(min_size=1, max_size=7).map(lambda raw: bytes(b"ab%\\"[b % 4] for b in raw)), max_size=5
)
texts = st.binary(max_size=60).map(lambda raw: bytes(b"ab%\\\n"[b % 5] for b in raw))
places = st.lists(st.integers(0, 10_000), max_size=12)


@settings(max_examples=1000, deadline=None)
@given(words, texts, places)
def test_any_split_gives_what_scrubbing_the_whole_gives(
    words: list[bytes], data: bytes, cuts: list[int]
) -> None:
    assert fed(Needles(words), split(data, cuts)) == model.scrubbed(words, data)


@settings(max_examples=1000, deadline=None)
@given(words, texts, places)
def test_only_a_true_prefix_of_a_needle_is_held_back(
    words: list[bytes], data: bytes, cuts: list[int]
) -> None:
    scrubber, seen, out = Scrubber(Needles(words)), b"", 0
    for chunk in split(data, cuts):
        seen += chunk
        out += len(scrubber.feed(chunk))
        assert len(seen) - out == model.open_end(words, seen)


@pytest.mark.parametrize(
    "answers", [10_000, pytest.param(500_000, marks=[pytest.mark.long, pytest.mark.timeout(1800)])]
)
def test_split_answers_in_every_form_and_coding_leak_nothing(answers: int, results: Results) -> None:
    seed = 20_241 + answers - 10_000
    print(f"seed {seed}")
    draw = random.Random(seed)
    cases = [
        (Needles.build([secret], [b"known-user"]), echo(secret), encode)
        for secret in (PLAIN, AWKWARD)
        for echo in model.ECHOES.values()
        for encode in model.CODINGS.values()
    ]
    filler = EVENT * 2 + PLAIN[:9] + b'"\\u0073%73 sk- ' + base64.b64encode(PLAIN)[:20]
    for number in range(answers):
        needles, echo, encode = cases[number % len(cases)]
        before, after = filler[: draw.randrange(len(filler))], filler[draw.randrange(len(filler)) :]
        body = before + b'"' + echo + b'"' + after
        wire = encode(body)
        decoder, scrubber = Decoder(_coding_of(encode)), Scrubber(needles)
        out = []
        for chunk in split(wire, [draw.randrange(len(wire)) for _ in range(draw.randrange(12))]):
            out.extend(scrubber.feed(piece) for piece in decoder.decode(chunk))
        decoder.finish()
        out.append(scrubber.finish())
        assert b"".join(out) == before + b'"' + b"*" * len(echo) + b'"' + after, (number, seed)
    results.note(f"{answers:,} answers that echo a key, in {len(cases)} ways, cut at random: no miss")


def _coding_of(encode: object) -> bytes:
    return next(name for name, made in model.CODINGS.items() if made is encode).encode()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=9), st.binary(max_size=9), st.sampled_from([PLAIN, AWKWARD]), places)
def test_base64_of_anything_around_the_key_hides_all_that_is_the_keys_alone(
    before: bytes, after: bytes, secret: bytes, cuts: list[int]
) -> None:
    first, last = model.determined(before, secret, after)
    needles = Needles.build([secret])
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        output = fed(needles, split(encode(before + secret + after), cuts))
        assert output[first:last] == b"*" * (last - first)


@pytest.mark.parametrize("form", model.ECHOES)
@pytest.mark.parametrize("secret", [PLAIN, AWKWARD, b"three words 42", b"t/o+k=e.n:90"])
def test_every_listed_form_is_a_needle(secret: bytes, form: str) -> None:
    echo = model.ECHOES[form](secret)
    assert (
        scrub_bytes(b"x" + echo + b"x", Needles.build([secret], [b"known-user"]))
        == b"x" + b"*" * len(echo) + b"x"
    )


def test_an_unknown_user_before_the_key_hides_the_key() -> None:
    for user in (b"", b"a", b"ab", b"abc", b"somebody"):
        echo = base64.b64encode(user + b":" + PLAIN)
        rest = scrub_bytes(echo, Needles.build([PLAIN])).rstrip(b"=").rstrip(b"*")
        assert len(rest) <= (len(user) + 1) * 8 // 6 + 1


def test_bytes_that_are_no_text_are_scrubbed_too() -> None:
    secret = bytes(range(128, 160))
    for form in forms_of(secret):
        assert scrub_bytes(form, Needles.build([secret])) == b"*" * len(form)


def test_all_parts_of_a_secret_are_scrubbed() -> None:
    needles = Needles.build([b"AKIDTESTTEST1234", PLAIN])
    assert scrub_bytes(
        b"id=AKIDTESTTEST1234&key=" + PLAIN, needles
    ) == b"id=" + b"*" * 16 + b"&key=" + b"*" * len(PLAIN)


def test_a_part_too_short_to_look_for_is_said() -> None:
    needles = Needles.build([b"abc"])
    assert needles.dropped
    assert "abc" not in "".join(needles.dropped)
    assert scrub_bytes(b"abcabc", needles) == b"abcabc"


def test_an_event_passes_at_once_and_uncopied() -> None:
    scrubber = Scrubber(Needles.build([PLAIN, AWKWARD]))
    for _ in range(3):
        assert scrubber.feed(EVENT) is EVENT


def test_a_held_beginning_that_turns_out_innocent_comes_with_the_next_piece() -> None:
    scrubber = Scrubber(Needles.build([PLAIN]))
    assert scrubber.feed(b"see sk-test-A1") == b"see "
    assert scrubber.feed(b"?\n") == b"sk-test-A1?\n"


def test_an_unfinished_needle_at_the_end_is_handed_on() -> None:
    assert fed(Needles.build([PLAIN]), [b"see sk-te"]) == b"see sk-te"


def test_a_covered_byte_that_is_held_twice_stays_covered() -> None:
    assert fed(Needles([b"ab", b"bcd"]), [b"xab", b"", b"c", b""]) == b"x**c"


def test_without_needles_everything_passes() -> None:
    assert scrub_bytes(EVENT, Needles.build([])) is EVENT


def test_masked_bytes_are_counted_once() -> None:
    scrubber = Scrubber(Needles([b"abcabc", b"cabcab"]))
    for byte in b"abcabcab!":
        scrubber.feed(bytes([byte]))
    assert scrubber.masked == 8


def test_headers_are_scrubbed_in_name_and_value() -> None:
    needles = Needles.build([PLAIN])
    clean = [(b"content-type", b"text/plain"), (b"x-note", b"caf\xe9")]
    assert scrub_headers(clean, needles) is clean
    dirty = [*clean, (b"location", b"/next?key=" + PLAIN), (b"x-" + PLAIN, b"1")]
    stars = b"*" * len(PLAIN)
    assert scrub_headers(dirty, needles) == [
        *clean,
        (b"location", b"/next?key=" + stars),
        (b"x-" + stars, b"1"),
    ]


def test_needles_do_not_print() -> None:
    assert "test" not in repr(Needles.build([PLAIN]))
    with pytest.raises(TypeError):
        pickle.dumps(Needles.build([PLAIN]))


# -- compressed answers


def decoded(coding: bytes, wire: bytes, size: int = 7) -> bytes:
    decoder = Decoder(coding)
    pieces = [piece for at in range(0, len(wire), size) for piece in decoder.decode(wire[at : at + size])]
    decoder.finish()
    return b"".join(pieces)


@given(st.binary(max_size=300), st.integers(1, 40))
def test_every_coding_is_opened_in_any_pieces(body: bytes, size: int) -> None:
    bare = zlib.compressobj(wbits=-15)
    assert decoded(b"identity", body, size) == body
    assert decoded(b" GZIP ", gzip.compress(body), size) == body
    assert decoded(b"x-gzip", gzip.compress(body) + gzip.compress(b"more") + bytes(9), size) == body + b"more"
    assert decoded(b"deflate", zlib.compress(body), size) == body
    assert decoded(b"deflate", bare.compress(body) + bare.flush(), size) == body


def test_a_flushed_event_comes_out_at_once() -> None:
    packer = zlib.compressobj(wbits=31)
    decoder = Decoder(b"gzip")
    for _ in range(3):
        wire = packer.compress(EVENT) + packer.flush(zlib.Z_SYNC_FLUSH)
        assert b"".join(decoder.decode(wire)) == EVENT


@pytest.mark.parametrize("coding", [b"br", b"zstd", b"gzip, gzip", b"compress", b"identity, br"])
def test_a_coding_that_cannot_be_read_is_refused(coding: bytes) -> None:
    with pytest.raises(CodingRefused):
        Decoder(coding)


def test_a_bomb_is_refused_before_it_fills_memory() -> None:
    bomb = zlib.compress(bytes(64 * 1024 * 1024), 9)
    out: list[int] = []
    with pytest.raises(CodingRefused, match="swells"):
        out.extend(len(piece) for piece in Decoder(b"deflate").decode(bomb))
    assert RATIO_FREE <= sum(out) <= len(bomb) * MAX_RATIO


def test_a_small_answer_may_compress_as_it_likes() -> None:
    assert decoded(b"gzip", gzip.compress(bytes(RATIO_FREE)), 4096) == bytes(RATIO_FREE)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_broken_and_cut_answers_are_refused(coding: str) -> None:
    wire = model.CODINGS[coding](EVENT * 9)
    for broken in (
        wire[:-1],
        wire[:12] + b"\xff\xff\xff" + wire[15:],
        b"\x01",
        b"plain text, not compressed",
    ):
        with pytest.raises(CodingRefused):
            decoded(coding.encode(), broken)


def test_an_empty_body_is_complete_in_every_coding() -> None:
    for coding in (b"gzip", b"deflate", b""):
        assert decoded(coding, b"") == b""
