"""The canonicaliser of paths, by example and against a slow model."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import path_model
from valetkey.decision.path import JudgedPath, PathRefused, judge_path

REFUSED = {
    "empty": b"",
    "no slash in front": b"v1/models",
    "absolute form": b"http://example.com/v1",
    "encoded slash": b"/v1%2fmodels",
    "encoded slash, upper case": b"/v1%2Fmodels",
    "encoded backslash": b"/v1%5cmodels",
    "encoded backslash, upper case": b"/v1%5Cmodels",
    "backslash": b"/v1\\models",
    "encoded null": b"/v1/a%00",
    "encoded line feed": b"/v1/a%0a",
    "encoded unit separator": b"/v1/a%1F",
    "encoded delete": b"/v1/a%7f",
    "null": b"/v1/\x00",
    "line feed": b"/v1/models\n",
    "delete": b"/v1/\x7f",
    "space": b"/v1/a b",
    "double encoding": b"/v1/%252e%252e/admin",
    "double encoding, upper case": b"/v1%252Fadmin",
    "double encoding behind escaped digits": b"/v1/%25%32%66admin",
    "double encoding behind one escaped digit": b"/v1/%252%46admin",
    "broken escape": b"/v1/%zz",
    "cut escape": b"/v1/%a",
    "lone percent at the end": b"/v1/100%",
    "dot segment": b"/v1/./models",
    "two dots": b"/v1/../admin",
    "two dots at the end": b"/v1/..",
    "dot at the end": b"/v1/.",
    "encoded dots": b"/v1/%2e%2E/admin",
    "half encoded dots": b"/v1/.%2e/admin",
    "encoded dot": b"/v1/%2e",
    "doubled slash": b"/v1//models",
    "doubled slash in front": b"//v1/models",
    "doubled slash at the end": b"/v1/models//",
    "parameter": b"/v1/models;a=1",
    "parameter with dots": b"/v1/..;/admin",
    "query": b"/v1/models?a",
    "fragment": b"/v1/models#a",
    "latin-1": b"/caf\xe9",
    "latin-1, encoded": b"/caf%E9",
    "overlong slash": b"/v1%c0%afadmin",
    "surrogate": b"/%ed%a0%80",
    "half raw, half encoded character": b"/caf\xc3%A9",
}


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED.keys())
def test_a_path_that_can_be_read_in_two_ways_is_refused(raw: bytes) -> None:
    with pytest.raises(PathRefused):
        judge_path(raw)


KEPT = {
    b"/": ("/", ("",)),
    b"/v1/chat/completions": ("/v1/chat/completions", ("v1", "chat", "completions")),
    b"/v1/": ("/v1/", ("v1", "")),
    b"/v1/models/a:b@c,d=e+f!$&'()*": (
        "/v1/models/a:b@c,d=e+f!$&'()*",
        ("v1", "models", "a:b@c,d=e+f!$&'()*"),
    ),
    b"/.well-known/x..y/...": ("/.well-known/x..y/...", (".well-known", "x..y", "...")),
    b"/%61%2Db%7e": ("/a-b~", ("a-b~",)),
    b"/a%20b%3a": ("/a%20b%3A", ("a%20b%3A",)),
    b"/100%25": ("/100%25", ("100%25",)),
    b"/100%25zz": ("/100%25zz", ("100%25zz",)),
    "/café".encode(): ("/caf%C3%A9", ("caf%C3%A9",)),
    b"/caf%c3%a9": ("/caf%C3%A9", ("caf%C3%A9",)),
    b'/"<>[]^`{|}': ("/%22%3C%3E%5B%5D%5E%60%7B%7C%7D", ("%22%3C%3E%5B%5D%5E%60%7B%7C%7D",)),
    b"/a%3bb%3f%23": ("/a%3Bb%3F%23", ("a%3Bb%3F%23",)),
}


@pytest.mark.parametrize(("raw", "kept"), KEPT.items(), ids=[repr(raw) for raw in KEPT])
def test_a_plain_path_gets_its_only_form(raw: bytes, kept: tuple[str, tuple[str, ...]]) -> None:
    assert judge_path(raw) == JudgedPath(*kept)


def test_letter_case_makes_another_path() -> None:
    assert judge_path(b"/V1/Models") != judge_path(b"/v1/models")


@pytest.mark.parametrize(
    ("raw", "segments"),
    [
        (b"/projects/group%2fname/issues", ("projects", "group%2Fname", "issues")),
        (b"/bucket/a//b/c", ("bucket", "a//b", "c")),
        (b"/bucket/a//", ("bucket", "a//")),
        (b"/bucket/a/%2Fb", ("bucket", "a", "%2Fb")),
    ],
)
def test_a_service_may_take_slashes_inside_a_segment(raw: bytes, segments: tuple[str, ...]) -> None:
    judged = judge_path(raw, encoded_slash=True)
    assert judged.segments == segments
    with pytest.raises(PathRefused):
        judge_path(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"/v1/a%2f..%2f..%2fadmin",
        b"/v1/..%2fadmin",
        b"/v1/%2e%2e%2Fadmin",
        b"/v1/a%2F.",
        b"/v1/a//..//b",
        b"//example.com/v1",
        b"/v1/a%5cb",
        b"/v1/a%252fb",
        b"/v1/a%2f%00",
    ],
)
def test_slashes_inside_a_segment_open_no_other_trick(raw: bytes) -> None:
    with pytest.raises(PathRefused):
        judge_path(raw, encoded_slash=True)


def test_the_refusal_says_why_and_not_what() -> None:
    with pytest.raises(PathRefused) as refused:
        judge_path(b"/v1/very-private/../x")
    assert refused.value.reason == "holds a dot segment"
    assert "very-private" not in str(refused.value)
    assert "very-private" not in repr(refused.value)


def test_a_long_path_is_judged_like_a_short_one() -> None:
    raw = b"/v1/" + b"%61" * 2000
    assert judge_path(raw).text == "/v1/" + "a" * 2000


@pytest.mark.parametrize("letter", [b"a", b"%61"])
def test_a_path_longer_than_any_apis_is_refused(letter: bytes) -> None:
    with pytest.raises(PathRefused, match="longer"):
        judge_path(b"/" + letter * 8192)


ALPHABET = [
    *(b"/", b"a", b"Z", b"0", b"2", b"5", b"f", b"F", b".", b"..", b"-", b"~", b"*", b"$", b":", b"'"),
    *(b"%", b"%2", b"%2f", b"%2F", b"%5c", b"%25", b"%2e", b"%2E", b"%61", b"%41", b"%32", b"%46", b"%3b"),
    *(b"%00", b"%0A", b"%7f", b"%7E", b"%c3%a9", b"%C3", b"%A9", b"\xc3\xa9", b"\xc3", b"\xa9", b"%ff"),
    *(
        b" ",
        b"\\",
        b";",
        b"?",
        b"#",
        b"\x00",
        b"\x1f",
        b"\x7f",
        b'"',
        b"{",
        b"[",
        b"|",
        b"^",
        b"v1",
        b"models",
    ),
    *("é".encode(), "／".encode(), "\u2028".encode(), b"%zz", b"%u002f", b"//", b"/./", b"/../", b"/%2e%2e/"),
]
tricky = st.lists(st.sampled_from(ALPHABET), max_size=12).map(b"".join)
mild = st.lists(
    st.sampled_from([b"/", b"a", b"%61", b"%C3%A9", b"%2f", b"%20", b".", b"%25", b"2"]), max_size=10
)
paths = st.one_of(
    tricky,
    tricky.map(lambda raw: b"/" + raw),
    mild.map(lambda parts: b"/" + b"".join(parts)),
    st.binary(max_size=20).map(lambda raw: b"/" + raw),
    st.text(max_size=12).map(lambda text: b"/" + text.encode("utf-8", "surrogatepass")),
)


def judged(raw: bytes, encoded_slash: bool) -> tuple[str, tuple[str, ...]] | None:
    try:
        path = judge_path(raw, encoded_slash=encoded_slash)
    except PathRefused:
        return None
    return path.text, path.segments


@settings(max_examples=1500, deadline=None)
@given(paths, st.booleans())
def test_the_judge_agrees_with_the_slow_model(raw: bytes, encoded_slash: bool) -> None:
    assert judged(raw, encoded_slash) == path_model.canonical(raw, encoded_slash)


@settings(max_examples=600, deadline=None)
@given(paths, st.booleans())
def test_judging_a_judged_path_changes_nothing(raw: bytes, encoded_slash: bool) -> None:
    first = judged(raw, encoded_slash)
    if first is not None:
        assert first[0].isascii()
        assert judged(first[0].encode("ascii"), encoded_slash) == first


@settings(max_examples=400, deadline=None)
@given(paths)
def test_segments_put_together_are_the_text(raw: bytes) -> None:
    for encoded_slash in (False, True):
        first = judged(raw, encoded_slash)
        if first is not None:
            assert "/" + "/".join(first[1]) == first[0]
