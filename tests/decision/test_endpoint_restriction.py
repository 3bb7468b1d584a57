"""The restriction to endpoints: allow, deny, wide endpoints, and its judge against a slow model."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import endpoint_model
from models.endpoint_model import KNOWN, Rule
from valetkey.decision.call import Call
from valetkey.decision.path import judge_path
from valetkey.decision.restrictions import (
    AnyRestriction,
    CompileContext,
    EndpointPattern,
    Endpoints,
    InvalidRestriction,
)

GRAPH = CompileContext(
    endpoints={
        "models": ("GET /v1/models", "GET /v1/models/*"),
        "batch": ("POST /v1/$batch",),
        "everything": ("* /v1/**",),
    },
    wide=("POST /v1/$batch", "POST /v1/*/graphql"),
)
SLASHES = CompileContext(encoded_slash=True, wide=("POST /v1/batch",))


def call(request: str, host: str | None = None, *, encoded_slash: bool = False) -> Call:
    method, path = request.split()
    return Call(method, judge_path(path.encode(), encoded_slash=encoded_slash), host=host)


def allows(
    endpoints: Endpoints, request: str, context: CompileContext = GRAPH, host: str | None = None
) -> bool:
    return endpoints.compile(context)(call(request, host, encoded_slash=context.encoded_slash), 0.0)


def test_only_what_is_allowed_passes() -> None:
    endpoints = Endpoints(("GET /v1/models/*",))
    assert allows(endpoints, "GET /v1/models/gpt")
    assert not allows(endpoints, "POST /v1/models/gpt")
    assert not allows(endpoints, "GET /v1/files")


def test_what_is_denied_wins_over_what_is_allowed() -> None:
    endpoints = Endpoints(("* /v1/**",), ("DELETE /v1/**", "* /v1/files/*"))
    assert allows(endpoints, "GET /v1/models")
    assert not allows(endpoints, "DELETE /v1/models")
    assert not allows(endpoints, "GET /v1/files/a")
    assert not allows(Endpoints(("GET /v1/x",), ("GET /v1/x",)), "GET /v1/x")


def test_with_nothing_allowed_all_but_the_denied_passes() -> None:
    endpoints = Endpoints(deny=("POST /v1/files",))
    assert allows(endpoints, "GET /anything/at/all")
    assert not allows(endpoints, "POST /v1/files")


def test_head_is_denied_with_get() -> None:
    assert not allows(Endpoints(deny=("GET /v1/files",)), "HEAD /v1/files")


@pytest.mark.parametrize("request_line", ["POST /v1/%24batch", "POST /v1/$batch/", "POST /v1/%24batch/"])
def test_no_spelling_gets_around_a_denied_or_wide_endpoint(request_line: str) -> None:
    bare = CompileContext()
    assert not allows(Endpoints(("* /v1/**",), ("POST /v1/$batch",)), request_line, bare)
    assert not allows(Endpoints(("* /v1/**",), ("POST /v1/%24batch",)), request_line, bare)
    assert not allows(Endpoints(("* /v1/**",), ("POST /v1/$batch/",)), request_line.rstrip("/"), bare)
    assert not allows(Endpoints(("* /v1/**",)), request_line)
    assert not allows(Endpoints(), request_line)


@pytest.mark.parametrize(
    "path", ["/v1%2Fbatch", "/v1//batch", "/v1/%2Fbatch", "/v1%2F%2Fbatch/", "/v1//batch//", "/%2Fv1/batch"]
)
def test_a_slash_inside_a_segment_does_not_get_around_a_denied_or_wide_endpoint(path: str) -> None:
    assert not allows(Endpoints(), f"POST {path}", SLASHES)
    assert not allows(Endpoints(("* /**",)), f"POST {path}", SLASHES)
    assert not allows(Endpoints(deny=("* /v1/batch",)), f"GET {path}", SLASHES)
    assert not allows(Endpoints(deny=("* /v1/*",)), f"GET {path}", SLASHES)


def test_a_denied_rest_holds_what_lies_behind_an_encoded_slash() -> None:
    for path in ("/v1%2F", "/v1%2Fa", "/v1//a", "/v1%2F%2Fa/b"):
        assert not allows(Endpoints(deny=("* /v1/**",)), f"GET {path}", SLASHES)


def test_a_denied_encoded_slash_is_denied_as_a_plain_one_too() -> None:
    endpoints = Endpoints(deny=("* /projects/group%2Fname",))
    for path in (
        "/projects/group%2fname",
        "/projects/group/name",
        "/projects/group//name",
        "/projects%2Fgroup/name/",
    ):
        assert not allows(endpoints, f"GET {path}", SLASHES)
    assert allows(endpoints, "GET /projects/group", SLASHES)


def test_a_slash_inside_a_segment_is_matched_by_one_star() -> None:
    issues = Endpoints(("GET /projects/*/issues",))
    assert allows(issues, "GET /projects/group%2Fname/issues", SLASHES)
    assert allows(
        Endpoints(("GET /projects/group%2fname/issues",)), "GET /projects/group%2Fname/issues", SLASHES
    )
    assert not allows(issues, "GET /projects/group/name/issues", SLASHES)
    assert allows(Endpoints(("GET /bucket/*",)), "GET /bucket/a//b", SLASHES)


def test_a_pattern_with_an_encoded_slash_needs_a_service_that_takes_it() -> None:
    with pytest.raises(InvalidRestriction, match="doubled slash"):
        Endpoints(("GET /projects/group%2Fname",)).compile(GRAPH)
    with pytest.raises(InvalidRestriction, match="doubled slash"):
        Endpoints(("GET /v1//models",)).compile(GRAPH)


def test_no_wildcard_opens_a_wide_endpoint() -> None:
    for allow in ((), ("* /**",), ("* /v1/*",), ("POST /v1/*",), ("everything",)):
        assert not allows(Endpoints(allow), "POST /v1/$batch")
    for allow in ((), ("* /**",), ("* /v1/**",), ("POST /*/*/graphql",)):
        assert not allows(Endpoints(allow), "POST /v1/a/graphql")
    assert allows(Endpoints(("* /v1/**",)), "GET /v1/$batch")


def test_an_entry_that_names_a_wide_endpoint_opens_it() -> None:
    assert allows(Endpoints(("POST /v1/$batch",)), "POST /v1/$batch")
    assert allows(Endpoints(("/v1/$batch",)), "POST /v1/$batch")
    assert allows(Endpoints(("batch",)), "POST /v1/$batch")
    assert allows(Endpoints(("* /v1/**", "batch")), "POST /v1/$batch")
    assert allows(Endpoints(("POST /v1/*/graphql",)), "POST /v1/a/graphql")
    assert allows(Endpoints(("POST /v1/a/graphql",)), "POST /v1/a/graphql")
    assert not allows(Endpoints(("POST /v1/a/graphql", "* /v1/**")), "POST /v1/b/graphql")
    assert not allows(Endpoints(("GET /v1/$batch", "* /v1/**")), "POST /v1/$batch")


def test_a_denied_wildcard_closes_a_wide_endpoint_that_is_named() -> None:
    assert not allows(Endpoints(("POST /v1/$batch",), ("* /v1/*",)), "POST /v1/$batch")


def test_a_call_under_two_wide_patterns_needs_both_named() -> None:
    context = CompileContext(wide=("POST /v1/*/batch", "POST /v1/**"))
    assert not allows(Endpoints(("POST /v1/*/batch",)), "POST /v1/a/batch", context)
    assert allows(Endpoints(("POST /v1/*/batch", "POST /v1/**")), "POST /v1/a/batch", context)
    assert allows(Endpoints(("POST /v1/a/batch",)), "POST /v1/a/batch", context)


def test_a_wide_template_with_a_slash_at_its_end_can_be_named() -> None:
    context = CompileContext(wide=("POST /v1/*/batch/",))
    assert allows(Endpoints(("POST /v1/*/batch/",)), "POST /v1/a/batch/", context)
    assert not allows(Endpoints(("POST /v1/**",)), "POST /v1/a/batch", context)


def test_where_the_host_is_not_known_a_denied_host_is_taken_for_it() -> None:
    endpoints = Endpoints(deny=("* files.example.com/v1/**",))
    assert not allows(endpoints, "GET /v1/a", host=None)
    assert not allows(endpoints, "GET /v1/a", host="files.example.com")
    assert allows(endpoints, "GET /v1/a", host="api.example.com")


def test_a_call_without_method_or_path_or_with_an_unknown_method_is_refused() -> None:
    judge = Endpoints().compile(CompileContext())
    assert judge(call("GET /v1/x"), 0.0)
    assert not judge(call("TRACE /v1/x"), 0.0)
    assert not judge(call("get /v1/x"), 0.0)
    assert not judge(Call(None, judge_path(b"/v1/x")), 0.0)
    assert not judge(Call("GET", None), 0.0)
    assert judge.template(Call("GET", None)) is None


def test_names_of_the_catalogue_stand_for_patterns() -> None:
    assert allows(Endpoints(("models",)), "GET /v1/models/gpt")
    assert not allows(Endpoints(("models",)), "GET /v1/files")
    assert not allows(Endpoints(deny=("models",)), "GET /v1/models/gpt")


def test_a_name_that_does_not_exist_is_an_error_with_the_nearest_one() -> None:
    with pytest.raises(InvalidRestriction, match="Did you mean 'models'"):
        Endpoints(("model",)).compile(GRAPH)
    with pytest.raises(InvalidRestriction, match="as in 'GET /v1/models'"):
        Endpoints(deny=("files",)).compile(CompileContext())


def test_the_template_is_the_allowed_pattern_or_else_the_catalogues() -> None:
    judge = Endpoints(("GET /v1/*", "models")).compile(GRAPH)
    assert judge.template(call("GET /v1/models")) == "GET /v1/models"
    assert judge.template(call("GET /v1/models/gpt")) == "GET /v1/models/*"
    assert judge.template(call("GET /v1/files")) == "GET /v1/*"
    assert judge.template(call("POST /v1/files")) is None
    assert Endpoints().compile(GRAPH).template(call("HEAD /v1/models/gpt")) == "GET /v1/models/*"
    assert Endpoints().compile(CompileContext()).template(call("GET /v1/models")) is None


def test_entries_are_kept_in_their_usual_spelling_each_once() -> None:
    endpoints = Endpoints(("/v1/models", "* /v1/models", "models"), ("post /v1/files",))
    assert endpoints.allow == ("* /v1/models", "models")
    assert endpoints.deny == ("POST /v1/files",)


def test_it_comes_back_from_json_as_it_was() -> None:
    endpoints = Endpoints(("GET /v1/models/*",), ("files.list",))
    assert msgspec.json.decode(msgspec.json.encode(endpoints), type=AnyRestriction) == endpoints
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"type":"endpoints","allow":["GET /v*"]}', type=AnyRestriction)


def test_its_sentence_says_what_is_open_and_what_never_is() -> None:
    assert Endpoints(("GET /x", "GET /y"), ("* /z",)).sentence() == "Only GET /x or GET /y, never * /z"
    assert Endpoints(deny=("* /z",)).sentence() == "Never * /z"
    assert Endpoints().sentence() == "Every endpoint but wide ones"


SEGMENTS = ["a", "b", "v1", "$batch", "%24batch", "%2A", "caf%C3%A9", "100%25"]
HOSTS = [None, None, "x.example.com", "y.example.com"]


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    methods = draw(st.none() | st.frozensets(st.sampled_from(sorted(KNOWN)), min_size=1, max_size=3))
    segments = draw(st.lists(st.sampled_from([*SEGMENTS, "*", "*"]), min_size=0, max_size=3))
    end = draw(st.sampled_from([(), (), ("**",), ("",)]))
    return Rule(methods, draw(st.sampled_from(HOSTS)), (*segments, *end) or ("",))


def spell(rule: Rule) -> str:
    methods = "*" if rule.methods is None else ",".join(sorted(rule.methods))
    return f"{methods} {rule.host or ''}/{'/'.join(rule.segments)}"


@st.composite
def calls(draw: st.DrawFn, near: list[Rule]) -> Call:
    """A call anywhere, or one made from a rule so that it is likely to be caught."""
    method = draw(st.sampled_from([*sorted(KNOWN), "GET", "POST", "TRACE"]))
    segments = draw(st.lists(st.sampled_from(SEGMENTS), max_size=4))
    from_rule = bool(near) and draw(st.integers(0, 3)) > 0
    if from_rule:
        segments = []
        for segment in draw(st.sampled_from(near)).segments:
            filled = st.sampled_from(SEGMENTS)
            segments += draw(st.lists(filled, max_size=2)) if segment == "**" else [segment]
            if segment == "*":
                segments[-1] = draw(filled)
            elif segment == "$batch" and draw(st.booleans()):
                segments[-1] = "%24batch"
    path = "/" + "/".join(segment for segment in segments if segment)
    if draw(st.booleans()) and path != "/":
        path += "/"
    return Call(method, judge_path(path.encode()), host=draw(st.sampled_from(HOSTS)))


some = st.lists(rules(), max_size=4)


@settings(max_examples=300, deadline=None)
@given(some, st.lists(rules(), max_size=2), st.lists(rules(), max_size=2), st.data())
def test_the_judge_agrees_with_the_slow_model(
    allow: list[Rule], deny: list[Rule], wide: list[Rule], data: st.DataObject
) -> None:
    request = data.draw(calls([*allow, *allow, *deny, *wide]))
    assert request.method is not None
    assert request.path is not None
    context = CompileContext(wide=tuple(map(spell, wide)))
    judge = Endpoints(tuple(map(spell, allow)), tuple(map(spell, deny))).compile(context)
    expected = endpoint_model.allowed(allow, deny, wide, request.method, request.host, request.path.segments)
    assert judge(request, 0.0) == expected


@settings(max_examples=250, deadline=None)
@given(st.lists(rules(), min_size=1, max_size=6), st.data())
def test_the_template_is_the_most_literal_allowed_pattern(allow: list[Rule], data: st.DataObject) -> None:
    request = data.draw(calls(allow))
    assert request.method is not None
    assert request.path is not None
    template = Endpoints(tuple(map(spell, allow))).compile(CompileContext()).template(request)
    matching = [
        rule
        for rule in allow
        if endpoint_model.matches(rule, request.method, request.host, request.path.segments)
    ]
    if not matching:
        assert template is None
        return
    best = min(map(endpoint_model.specificity, matching))
    assert template in {
        EndpointPattern(spell(rule)).text for rule in matching if endpoint_model.specificity(rule) == best
    }


@settings(max_examples=150, deadline=None)
@given(some, st.lists(rules(), max_size=3), st.lists(rules(), max_size=3), rules(), st.data())
def test_denying_more_or_making_more_wide_never_opens_anything(
    allow: list[Rule], deny: list[Rule], wide: list[Rule], more: Rule, data: st.DataObject
) -> None:
    request = data.draw(calls([*allow, more]))

    def judged(deny: list[Rule], wide: list[Rule]) -> bool:
        context = CompileContext(wide=tuple(map(spell, wide)))
        return Endpoints(tuple(map(spell, allow)), tuple(map(spell, deny))).compile(context)(request, 0.0)

    before = judged(deny, wide)
    assert before or not judged([*deny, more], wide)
    assert before or not judged(deny, [*wide, more])


def disguised(draw: st.DrawFn, segments: list[str], slashes: list[str]) -> str:
    """The path of these decoded segments in some other spelling."""
    path = ""
    for segment in segments:
        path += draw(st.sampled_from(slashes)) if path else "/"
        for octet in segment.encode():
            escape = draw(st.sampled_from(["", "", f"%{octet:02x}", f"%{octet:02X}"]))
            path += escape or (chr(octet) if octet < 0x80 else f"%{octet:02X}")
    return path + draw(st.sampled_from(["", *slashes]))


@settings(max_examples=300, deadline=None)
@given(
    st.data(), st.lists(st.sampled_from(["a", "v1", "$batch", "x:y", "café", "b+c"]), min_size=1, max_size=4)
)
def test_no_disguise_of_a_denied_or_wide_path_gets_through(data: st.DataObject, segments: list[str]) -> None:
    slashes = ["/", "//", "%2F", "%2f/", "%2F%2f"] if data.draw(st.booleans()) else ["/"]
    path = data.draw(st.composite(disguised)(segments, slashes))
    request = call(f"POST {path}", encoded_slash=len(slashes) > 1)
    closed = f"POST /{'/'.join(segments)}"
    for endpoints, wide in ((Endpoints(deny=(closed,)), ()), (Endpoints(("* /**",)), (closed,))):
        context = CompileContext(wide=wide, encoded_slash=len(slashes) > 1)
        assert not endpoints.compile(context)(request, 0.0)
