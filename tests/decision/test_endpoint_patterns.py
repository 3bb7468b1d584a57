"""Endpoint patterns: what they take, what they match, and which of many is found."""

from __future__ import annotations

import pytest

from valetkey.decision.path import judge_path
from valetkey.decision.restrictions import EndpointPattern, InvalidRestriction
from valetkey.decision.restrictions.patterns import METHODS, PatternIndex


def found(patterns: list[str], method: str, path: str, host: str | None = None) -> str | None:
    index = PatternIndex([EndpointPattern(text) for text in patterns])
    pattern = index.find(method, host, judge_path(path.encode()).segments)
    return None if pattern is None else pattern.text


def matches(pattern: str, call: str, host: str | None = None) -> bool:
    method, path = call.split()
    return found([pattern], method, path, host) is not None


@pytest.mark.parametrize(
    ("given_text", "kept"),
    [
        ("GET /v1/models/*", "GET /v1/models/*"),
        ("get /v1/models", "GET /v1/models"),
        ("* /v1/**", "* /v1/**"),
        ("/v1/models", "* /v1/models"),
        ("post, GET /x", "GET,POST /x"),
        ("  GET   /x ", "GET /x"),
        ("GET API.example.com/v1/x", "GET api.example.com/v1/x"),
        ("api.example.com:8443/v1/x", "* api.example.com:8443/v1/x"),
        ("/", "* /"),
        ("/café/%61%3a", "* /caf%C3%A9/a%3A"),
        ("/a/%2A", "* /a/%2A"),
    ],
)
def test_a_pattern_is_kept_in_its_usual_spelling(given_text: str, kept: str) -> None:
    assert EndpointPattern(given_text).text == kept
    assert EndpointPattern(kept) == EndpointPattern(given_text)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "is empty"),
        ("GET /" + "a" * 2000, "too long"),
        ("GET " + "/a" * 101, "too long"),
        ("GET", "has no path"),
        ("GET api.example.com", "has no path"),
        ("GTE /x", "Did you mean 'GET'"),
        ("TRACE /x", "unknown method"),
        ("CONNECT /x", "unknown method"),
        ("GET,* /x", "unknown method"),
        ("GET,,POST /x", "unknown method"),
        ("GET /v*", "whole segment"),
        ("GET /v1/***", "whole segment"),
        ("GET /*.json", "whole segment"),
        ("GET /**/x", "in the middle"),
        ("GET /**/", "in the middle"),
        ("GET /a/../b", "holds a dot segment"),
        ("GET /a%5Cb", "encoded backslash"),
        ("GET /a?b=c", "a query"),
        ("GET /a;b", "a parameter"),
        ("GET //a", "doubled slash"),
        ("GET /%zz", "broken percent escape"),
        ("GET /\udc80", "not UTF-8"),
        ("GET *.example.com/x", "not a host name"),
        ("GET https://api.example.com/x", "not a host name"),
    ],
)
def test_a_pattern_that_cannot_be_is_an_error_that_says_what_to_write(text: str, advice: str) -> None:
    with pytest.raises(InvalidRestriction, match=advice):
        EndpointPattern(text)


def test_an_error_repeats_only_the_beginning_of_a_long_pattern() -> None:
    with pytest.raises(InvalidRestriction) as error:
        EndpointPattern("GET /v*" + "x" * 500)
    assert len(str(error.value)) < 400


def test_a_star_is_one_whole_segment_that_is_not_empty() -> None:
    assert matches("GET /v1/models/*", "GET /v1/models/gpt")
    assert matches("GET /v1/*/files", "GET /v1/a/files")
    for other in ("/v1/models", "/v1/models/", "/v1/models/a/b", "/v1/models/a/", "/v2/models/a"):
        assert not matches("GET /v1/models/*", f"GET {other}")


def test_two_stars_are_the_rest_but_not_nothing() -> None:
    for inside in ("/v1/", "/v1/a", "/v1/a/", "/v1/a/b/c"):
        assert matches("/v1/**", f"GET {inside}")
    for outside in ("/v1", "/", "/v2/a", "/v11/a"):
        assert not matches("/v1/**", f"GET {outside}")
    assert matches("/**", "GET /")


def test_a_slash_at_the_end_makes_another_path() -> None:
    assert not matches("/v1/models", "GET /v1/models/")
    assert not matches("/v1/models/", "GET /v1/models")


def test_letter_case_counts() -> None:
    assert not matches("/v1/models", "GET /v1/Models")


def test_a_pattern_matches_every_spelling_of_its_letters() -> None:
    assert matches("/café", "GET /caf%c3%a9")
    assert matches("/caf%c3%a9", "GET /café")
    assert matches("/v1/models", "GET /v1/%6dodels")


def test_an_escaped_star_is_a_star_and_no_wildcard() -> None:
    assert matches("/a/%2A", "GET /a/%2a")
    assert not matches("/a/%2A", "GET /a/b")


def test_head_comes_with_get_and_nothing_else_does() -> None:
    assert matches("GET /x", "HEAD /x")
    assert not matches("HEAD /x", "GET /x")
    assert not matches("POST /x", "HEAD /x")
    assert not matches("GET /x", "POST /x")


def test_any_method_is_any_known_one() -> None:
    for method in METHODS:
        assert matches("* /x", f"{method} /x")
    for method in ("TRACE", "CONNECT", "get", "PROPFIND"):
        assert not matches("* /x", f"{method} /x")


def test_a_pattern_with_a_host_needs_that_host() -> None:
    assert matches("GET api.example.com/x", "GET /x", "api.example.com")
    assert not matches("GET api.example.com/x", "GET /x", "files.example.com")
    assert not matches("GET api.example.com/x", "GET /x", None)
    assert matches("GET /x", "GET /x", "files.example.com")


def test_the_most_literal_pattern_is_found() -> None:
    patterns = ["* /**", "* /v1/**", "* /v1/*", "GET /v1/*", "* /v1/models", "GET /v1/models", "* /*/models"]
    assert found(patterns, "GET", "/v1/models") == "GET /v1/models"
    assert found(patterns, "POST", "/v1/models") == "* /v1/models"
    assert found(patterns, "GET", "/v1/files") == "GET /v1/*"
    assert found(patterns, "POST", "/v1/files") == "* /v1/*"
    assert found(patterns, "GET", "/v1/files/a") == "* /v1/**"
    assert found(patterns, "GET", "/v2/models") == "* /*/models"
    assert found(patterns, "GET", "/v2/files") == "* /**"


def test_a_dead_end_in_the_tree_is_left_again() -> None:
    assert found(["GET /a/b/c/*", "GET /*/b/*/e"], "GET", "/a/b/c/e") == "GET /a/b/c/*"
    assert found(["POST /a/b/c/*", "GET /*/b/*/e"], "GET", "/a/b/c/e") == "GET /*/b/*/e"
    assert found(["GET /a/b/c/d/*", "GET /a/**"], "GET", "/a/b/c/d") == "GET /a/**"
