"""The valet key is taken out wherever it stood, once, and the real one goes where the vendor wants it."""

from __future__ import annotations

import timeit
from base64 import b64encode
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import query_model
from valetkey.decision.codes import Code
from valetkey.gateway.credentials import Intake, Malformed, MethodRefused, Taken
from valetkey.services.catalogue import custom_service, load_preset
from valetkey.services.placement import AnyPlacement, Basic, Bearer, Header, Query, parse_auth
from valetkey.services.service import InvalidService, Kind, Service

VALET = "vk_prv_" + "Ab1" * 15
OTHER = "vk_prv_" + "Cd2" * 15
REAL = "real-" + "Zz9" * 12
Headers = list[tuple[bytes, bytes]]


def intake(preset: str) -> Intake:
    return Intake.compile(load_preset(preset).service(preset))


def custom(auth: str) -> Intake:
    return Intake.compile(custom_service("mine", "https://api.example.com", parse_auth(auth)))


def basic(pair: str) -> bytes:
    return b"Basic " + b64encode(pair.encode())


OPENAI, ANTHROPIC, STRIPE = intake("openai"), intake("anthropic"), intake("stripe")
GITHUB, OPENWEATHER = intake("github"), intake("openweather")
KEY = VALET.encode()
AUTH: Headers = [(b"authorization", b"Bearer " + KEY)]


@pytest.mark.parametrize(
    ("where", "headers", "query", "place"),
    [
        (OPENAI, [(b"authorization", b"Bearer " + KEY)], b"", Bearer()),
        (OPENAI, [(b"authorization", b"bearer   " + KEY + b" ")], b"", Bearer()),
        (ANTHROPIC, [(b"x-api-key", KEY)], b"", Header("x-api-key")),
        (ANTHROPIC, [(b"authorization", b"Bearer " + KEY)], b"", Bearer()),
        (STRIPE, [(b"authorization", b"Bearer " + KEY)], b"", Bearer()),
        (STRIPE, [(b"authorization", basic(VALET + ":"))], b"", Basic("user")),
        (GITHUB, [(b"authorization", b"token " + KEY)], b"", Bearer("token")),
        (GITHUB, [(b"authorization", b"Bearer " + KEY)], b"", Bearer()),
        (OPENWEATHER, [], b"q=Berlin&appid=" + KEY, Query("appid")),
        (OPENWEATHER, [], b"APPID=" + KEY, Query("appid")),
        (OPENWEATHER, [], b"a%70pid=" + KEY.replace(b"v", b"%76"), Query("appid")),
        (OPENWEATHER, [], b"+appid=" + KEY, Query("appid")),
        (custom("header:X-Key"), [(b"x-key", KEY)], b"", Header("x-key")),
        (custom("header:Authorization"), [(b"authorization", KEY)], b"", Header("authorization")),
        (custom("basic"), [(b"authorization", basic(f"me:{VALET}"))], b"", Basic("password")),
        (custom("basic"), [(b"authorization", basic(f"{VALET}:"))], b"", Basic("user")),
    ],
)
def test_the_key_is_found_where_the_service_takes_one(
    where: Intake, headers: Headers, query: bytes, place: AnyPlacement
) -> None:
    taken = where.take(headers, query)
    assert taken.value == VALET
    assert taken.place == place
    assert VALET not in str(taken.headers)
    assert b"appid" not in taken.query.lower()


@pytest.mark.parametrize(
    ("where", "headers", "query"),
    [
        (OPENAI, [], b""),
        (OPENAI, [(b"x-api-key", KEY)], b""),
        (OPENAI, [], b"api_key=" + KEY),
        (OPENAI, [(b"authorization", b"Bearer")], b""),
        (OPENAI, [(b"authorization", b"Bearer ")], b""),
        (OPENAI, [(b"authorization", KEY)], b""),
        (OPENAI, [(b"authorization", b"Token " + KEY)], b""),
        (OPENAI, [(b"authorization", basic(VALET + ":"))], b""),
        (OPENAI, AUTH * 2, b""),
        (OPENAI, [*AUTH, (b"authorization", b"Bearer " + OTHER.encode())], b""),
        (OPENAI, [(b"authorization", b"Bearer " + KEY + b", Bearer " + KEY)], b""),
        (OPENAI, [(b"authorization", b"Bearer " + KEY + b" " + KEY)], b""),
        (OPENAI, [(b"authorization", b"Bearer \xff\xfe")], b""),
        (OPENAI, [(b"authorization", b"Bearer " + b"a" * 1025)], b""),
        (OPENAI, [*AUTH, (b"x-note", b"\xff")], b""),
        (ANTHROPIC, [(b"x-api-key", OTHER.encode()), *AUTH], b""),
        (ANTHROPIC, [(b"x-api-key", KEY), (b"x-api-key", KEY)], b""),
        (ANTHROPIC, [(b"x-api-key", KEY), *AUTH, *AUTH], b""),
        (STRIPE, [(b"authorization", basic(VALET))], b""),
        (STRIPE, [(b"authorization", basic(f"{VALET}:{OTHER}"))], b""),
        (STRIPE, [(b"authorization", basic(f"me:{VALET}"))], b""),
        (STRIPE, [(b"authorization", b"Basic !!!")], b""),
        (STRIPE, [(b"authorization", b"Basic " + b64encode(b"\xff\xfe:"))], b""),
        (STRIPE, [*AUTH, (b"authorization", basic(VALET + ":"))], b""),
        (OPENWEATHER, AUTH, b"q=Berlin"),
        (OPENWEATHER, [], b"appid="),
        (OPENWEATHER, [], b"appid"),
        (OPENWEATHER, [], b"appid=" + KEY + b"&appid=" + KEY),
        (OPENWEATHER, [], b"appid=" + KEY + b"&%41ppid=" + OTHER.encode()),
        (OPENWEATHER, [], b"appid=" + KEY + b"&appid[]=" + OTHER.encode()),
        (OPENWEATHER, [], b"appid=" + KEY + b"&q=x;appid=" + OTHER.encode()),
        (OPENWEATHER, [(b"authorization", b"x"), (b"authorization", b"y")], b"appid=" + KEY),
    ],
)
def test_none_two_or_a_bad_one_is_malformed_and_the_reason_shows_no_key(
    where: Intake, headers: Headers, query: bytes
) -> None:
    with pytest.raises(Malformed) as caught:
        where.take(headers, query)
    assert caught.value.code is Code.MALFORMED
    assert caught.value.reason.endswith(".")
    assert "vk_" not in caught.value.reason
    assert caught.value.__context__ is None


def test_the_same_key_in_both_of_anthropics_headers_is_one() -> None:
    taken = ANTHROPIC.take([(b"x-api-key", KEY), *AUTH])
    assert taken.value == VALET
    assert [name for name, _ in taken.headers] == ["accept-encoding"]


@pytest.mark.parametrize(
    "query",
    [
        b"_method=DELETE",
        b"a=1&_METHOD=x",
        b"%5fmethod=x",
        b"+_method=x",
        b".method=x",
        b"_method",
        b"_method%00=x",
        b"_method%00x=y",
    ],
)
def test_a_query_that_changes_the_method_is_refused_before_the_key_is_looked_at(query: bytes) -> None:
    with pytest.raises(MethodRefused) as caught:
        OPENAI.take([], query)
    assert caught.value.code is Code.METHOD_REFUSED


@pytest.mark.parametrize(
    "name",
    [
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"te",
        b"trailer",
        b"upgrade",
        b"keep-alive",
        b"proxy-authorization",
        b"proxy-connection",
        b"proxy",
        b"cookie",
        b"expect",
        b"accept-encoding",
        b"x-http-method-override",
        b"x-http-method",
        b"x-method-override",
        b"x-original-url",
        b"x-rewrite-url",
        b"x-forwarded-for",
        b"x-forwarded-whatever",
        b"x_forwarded_for",
        b"forwarded",
        b"x-real-ip",
        b"x_http_method_override",
    ],
)
def test_what_a_caller_must_not_hand_on_is_dropped(name: bytes) -> None:
    taken = OPENAI.take([(name, b"planted"), *AUTH])
    assert "planted" not in str(taken.headers)


def test_every_place_is_emptied_even_one_where_callers_may_not_put_a_key() -> None:
    service = Service(
        name="mine",
        hosts=load_preset("openai").origins(),
        placement=Query("token"),
        accepts=(Bearer(),),
    )
    taken = Intake.compile(service).take(AUTH, b"a=1&tok%65n=planted&b=2")
    assert taken.query == b"a=1&b=2"
    assert intake("anthropic").take([(b"x_api_key", b"planted"), *AUTH]).headers == [
        ("accept-encoding", "identity")
    ]


@pytest.mark.parametrize("again", [KEY, b"Bearer " + KEY, b"token  " + KEY + b" ", b"a, " + KEY])
@pytest.mark.parametrize("name", [b"x-api-key", b"authorization", b"x-custom", b"accept"])
def test_the_key_repeated_where_the_service_takes_none_goes_nowhere(name: bytes, again: bytes) -> None:
    where = custom("header:x-own-key")
    taken = where.take([(b"x-own-key", KEY), (name, again), (b"x-other", b"stays")])
    headers, _ = where.put_in(taken, {"key": REAL})
    assert VALET not in str(headers)
    assert ("x-other", "stays") in headers


@pytest.mark.parametrize(
    "field",
    [b"key=" + KEY, b"key=%76" + KEY[1:], KEY, b"a%5B%5D=" + KEY, KEY + b"=", b"%76" + KEY[1:] + b"=1"],
)
def test_the_key_repeated_in_the_query_goes_nowhere(field: bytes) -> None:
    assert OPENAI.take(AUTH, b"a=1&" + field + b"&b=%20x").query == b"a=1&b=%20x"
    assert OPENAI.take(AUTH, field).query == b""


def test_a_range_that_is_the_key_goes_nowhere() -> None:
    assert OPENAI.take([*AUTH, (b"range", KEY), (b"range", b"bytes=0-1")]).range == [("range", "bytes=0-1")]


def test_other_headers_go_on_in_order_and_identity_is_asked() -> None:
    sent: Headers = [
        (b"user-agent", b"x"),
        *AUTH,
        (b"x-b", b"1"),
        (b"accept", b"*/*"),
        (b"x-b", "ü".encode()),
    ]
    assert OPENAI.take(sent).headers == [
        ("accept-encoding", "identity"),
        ("user-agent", "x"),
        ("x-b", "1"),
        ("accept", "*/*"),
        ("x-b", "ü"),
    ]


def test_cookies_pass_only_where_the_service_asks_for_them() -> None:
    service = Service(
        name="mine",
        hosts=load_preset("openai").origins(),
        placement=Bearer(),
        accepts=(Bearer(),),
        cookies=True,
    )
    assert ("cookie", "a=1") in Intake.compile(service).take([(b"cookie", b"a=1"), *AUTH]).headers


def test_connection_removes_what_it_names_but_never_what_we_put_in() -> None:
    sent: Headers = [
        (b"connection", b"keep-alive, X-Secret, authorization"),
        (b"x-secret", b"1"),
        *AUTH,
        (b"connection", b"accept-encoding,accept"),
        (b"accept", b"*/*"),
    ]
    taken = OPENAI.take(sent)
    assert taken.headers == [("accept-encoding", "identity")]
    headers, _ = OPENAI.put_in(taken, {"key": REAL})
    assert headers == [("accept-encoding", "identity"), ("authorization", f"Bearer {REAL}")]


def test_range_goes_on_only_for_media() -> None:
    taken = OPENAI.take([(b"range", b"bytes=0-9"), (b"if-range", b'"e"'), *AUTH])
    assert "range" not in dict(OPENAI.put_in(taken, {"key": REAL})[0])
    headers = dict(OPENAI.put_in(taken, {"key": REAL}, media=True)[0])
    assert headers["range"] == "bytes=0-9"
    assert headers["if-range"] == '"e"'


@pytest.mark.parametrize(
    ("where", "headers", "query", "expected", "sent_query"),
    [
        (OPENAI, AUTH, b"a=1", ("authorization", f"Bearer {REAL}"), b"a=1"),
        (ANTHROPIC, AUTH, b"", ("x-api-key", REAL), b""),
        (STRIPE, [(b"authorization", basic(VALET + ":"))], b"", ("authorization", f"Bearer {REAL}"), b""),
        (GITHUB, [(b"authorization", b"token " + KEY)], b"", ("authorization", f"Bearer {REAL}"), b""),
        (OPENWEATHER, [], b"appid=" + KEY + b"&q=x", None, b"q=x&appid=" + REAL.encode()),
        (OPENWEATHER, [], b"appid=" + KEY, None, b"appid=" + REAL.encode()),
    ],
)
def test_the_real_key_goes_where_the_vendor_wants_it(
    where: Intake, headers: Headers, query: bytes, expected: tuple[str, str] | None, sent_query: bytes
) -> None:
    taken = where.take(headers, query)
    put, result = where.put_in(taken, {"key": REAL})
    assert put[1:] == ([expected] if expected else [])
    assert result == sent_query
    assert where.put_in(taken, {"key": REAL}) == (put, result)


def test_what_was_taken_never_prints_the_key() -> None:
    assert VALET not in repr(OPENAI.take(AUTH))
    assert VALET not in str(OPENAI.take(AUTH))


def test_nothing_is_put_into_calls_of_an_own_service() -> None:
    with pytest.raises(InvalidService):
        Intake.compile(Service(name="orders", kind=Kind.OWN))


NAMES = st.sampled_from(
    [
        b"q",
        b"limit",
        b"appid",
        b"APPID",
        b"app%69d",
        b"+appid",
        b"appid[]",
        b"appid[a]",
        b"app.id",
        b"%",
        b"a%zz",
        b"",
        b"%61%70pid",
    ]
)
VALUES = st.sampled_from([b"", b"=", b"=1", b"=a=b", b"=" + KEY, b"=%76k", b"=a+b%26"]) | st.binary(
    max_size=6
).map(lambda raw: b"=" + raw.replace(b"&", b"").replace(b";", b""))


@given(st.lists(st.tuples(NAMES, VALUES).map(b"".join), max_size=6))
def test_all_other_bytes_of_a_query_stay_as_they_came(pieces: list[bytes]) -> None:
    query = b"&".join(pieces)
    try:
        taken = OPENWEATHER.take([], query)
    except Malformed:
        taken = None
    if query_model.count(query, b"appid") != 1:
        assert taken is None
    if taken is not None:
        left = query_model.without(query, {b"appid"})
        if taken.value == VALET:
            left = b"&".join(piece for piece in left.split(b"&") if piece.partition(b"=")[2] != KEY)
        assert taken.query == left


TOKENS = st.sampled_from(
    [
        b"accept",
        b"x-note",
        b"x_api_key",
        b"x-api-key",
        b"authorization",
        b"cookie",
        b"host",
        b"connection",
        b"via",
    ]
) | st.text("abcdefghijklmnopqrstuvwxyz-_", min_size=1, max_size=12).map(str.encode)
CONTENT = st.sampled_from([KEY, b"Bearer " + KEY, b"x-note, accept", b"close", b"1", basic(VALET + ":")])


@given(st.lists(st.tuples(TOKENS, CONTENT), max_size=8))
def test_whatever_headers_come_each_credential_place_is_empty_and_the_real_key_stands_once(
    headers: Headers,
) -> None:
    try:
        taken = ANTHROPIC.take(headers)
    except Malformed:
        return
    emptied = {"authorization", "x-api-key", "x_api_key"}
    assert not emptied & {name.lower() for name, _ in taken.headers}
    put, _ = ANTHROPIC.put_in(taken, {"key": REAL})
    assert [value for name, value in put if name == "x-api-key"] == [REAL]


def test_taking_a_key_costs_a_few_microseconds() -> None:
    sent: Headers = [
        (b"host", b"127.0.0.1:8300"),
        (b"accept-encoding", b"gzip, deflate"),
        (b"connection", b"keep-alive"),
        (b"accept", b"application/json"),
        (b"user-agent", b"OpenAI/Python 3.57.0"),
        (b"x-stainless-lang", b"python"),
        (b"content-type", b"application/json"),
        *AUTH,
    ]
    take: Callable[[], Taken] = lambda: OPENAI.take(sent)  # noqa: E731
    best = min(timeit.repeat(take, number=2000, repeat=7)) / 2000
    assert best < 40e-6  # ten times what it takes on an idle core: catches a slip, not a busy machine
