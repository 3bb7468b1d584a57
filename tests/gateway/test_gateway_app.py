"""The gateway's front door: order of the checks, what each code looks like, what is recorded."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_world import Answered, GatewayWorld, MadeKey, MadeUpLine, gateway_world, secret_of
from valetkey.decision.codes import CODES, Code
from valetkey.decision.limits import Budget, Limits, Quota, Rate, Window
from valetkey.decision.policy import Policy
from valetkey.decision.restrictions import Endpoints, Hosts, Networks, Origins, Schedule
from valetkey.services.origin import Origin
from valetkey.wire.http1_request import Http1Request
from valetkey.wire.request import Fault

HOSTS = {"api": Origin.parse("https://api.example.com"), "files": Origin.parse("https://files.example.com")}
SUNDAY_ONLY = Schedule(("sun 00:00-24:00 UTC",))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[GatewayWorld]:
    with gateway_world(tmp_path) as made:
        made.add_service(hosts=HOSTS, ceiling=1000)
        yield made


def test_a_call_that_is_allowed_reaches_the_upstream_with_the_path_that_was_judged(
    world: GatewayWorld,
) -> None:
    answer = world.call(world.add_key(), "/weather:files/a/%6Eow?q=1")
    assert (answer.status, answer.body) == (200, b"yes")
    assert world.upstream().sent == [("GET", "https://files.example.com/a/now?q=1")]


# One code each


class Wrong:
    """One thing that is wrong with a call, in the order of the codes; several make a call with several faults."""

    def __init__(self, code: Code, **how: Any) -> None:
        self.code = code
        self.policy: dict[str, Any] = how.pop("policy", {})
        self.key: dict[str, Any] = how.pop("key", {})
        self.call: dict[str, Any] = how.pop("call", {})
        self.world: Callable[[GatewayWorld], Any] = how.pop("world", lambda world: None)
        assert not how


TRACE = {"method": "TRACE"}
WRONG = [
    Wrong(Code.HOST_UNKNOWN, call={"host": "evil.example.com"}),
    Wrong(Code.METHOD_REFUSED, call=TRACE),
    Wrong(Code.NOT_SUPPORTED, call={"headers": [("upgrade", "websocket")]}),
    Wrong(Code.MALFORMED, call={"headers": [("authorization", "Bearer another")]}),
    Wrong(Code.PATH_REFUSED, call={"path": "/weather/a%2Fb"}),
    Wrong(Code.TOO_LARGE, call={"headers": [("content-length", "1001")]}),
    Wrong(Code.UNKNOWN_KEY, key={"forget": True}),
    Wrong(Code.SERVICE_DENIED, key={"service": "stripe"}),
    Wrong(Code.REVOKED, key={"state": "revoked"}),
    Wrong(Code.SUSPENDED, key={"state": "suspended"}),
    Wrong(Code.EXPIRED, key={"expires": 1.0}),
    Wrong(Code.SERVICE_LOCKED, world=lambda world: world.add_service(hosts=HOSTS, ceiling=1000, locked=True)),
    Wrong(Code.NETWORK_DENIED, policy={"networks": Networks(("10.0.0.0/8",))}),
    Wrong(Code.ORIGIN_DENIED, policy={"origins": Origins(("https://app.example.com",))}),
    Wrong(Code.HOST_DENIED, policy={"hosts": Hosts(("files",))}),
    Wrong(Code.ENDPOINT_DENIED, policy={"endpoints": Endpoints(("POST /**",))}),
    Wrong(Code.SCHEDULE_DENIED, policy={"schedule": SUNDAY_ONLY}),
    Wrong(Code.USES_EXHAUSTED, policy={"uses": 1}),
    Wrong(Code.RATE_LIMITED, policy={"rate": Rate(1, 60, 1)}),
    Wrong(Code.CONCURRENCY_LIMITED, policy={"concurrency": 1}),
    Wrong(Code.QUOTA_EXCEEDED, policy={"quotas": (Quota(1, Window.DAY),)}),
    Wrong(Code.BUDGET_EXCEEDED, policy={"budgets": (Budget(5, Window.MONTH),)}),
    Wrong(Code.SECRET_UNAVAILABLE, world=lambda world: world.apply(secret_of("svc_weather", expires=1.0))),
]
BY_CODE = {wrong.code: wrong for wrong in WRONG}
LIMIT_FIELDS = {"uses", "rate", "concurrency", "quotas", "budgets"}


def make_wrong(world: GatewayWorld, *faults: Wrong) -> Answered:
    """Make one call with all these faults, after whatever spends the limits among them."""
    terms: dict[str, Any] = {}
    how: dict[str, Any] = {}
    call: dict[str, Any] = {"headers": []}
    for fault in faults:
        terms |= fault.policy
        how |= fault.key
        call |= {name: value for name, value in fault.call.items() if name != "headers"}
        call["headers"] = call["headers"] + fault.call.get("headers", [])
    world.add_service("stripe")
    forget = how.pop("forget", False)
    limits = Limits(**{name: value for name, value in terms.items() if name in LIMIT_FIELDS})
    key = world.add_key(
        Policy(tuple(value for name, value in terms.items() if name not in LIMIT_FIELDS), limits), **how
    )
    if not limits.unlimited:
        spend(world, key, limits)
    for fault in faults:
        fault.world(world)
    value: MadeKey | str = "vk_prv_nobody" if forget else key
    return world.call(value, **call)


def spend(world: GatewayWorld, key: MadeKey, limits: Limits) -> None:
    """Use up what the key may do, past its restrictions."""
    entry = world.index.get(key.id)
    assert entry is not None
    plan = world.index.compiled(entry).plan
    if plan.levels:
        world.counters.reserve(plan, 5, world.clock.now(), b"\x7f\0\0\1")
    else:  # a key of another service, or a dead one: nothing is asked of its limits
        assert world.index.compiled(entry).service != "weather"


@pytest.mark.parametrize("code", BY_CODE)
def test_each_code_has_its_status_its_sentence_and_its_headers(world: GatewayWorld, code: Code) -> None:
    world.add_service(hosts=HOSTS, ceiling=1000, price_micros=1)
    answer = make_wrong(world, BY_CODE[code])
    shown = Code.UNKNOWN_KEY if code is Code.SERVICE_DENIED else code
    info = CODES[shown]
    assert (answer.code, answer.status) == (shown, info.status)
    headers, problem = answer.headers, answer.json
    assert headers["content-type"] == "application/problem+json"
    assert headers["content-length"] == str(len(answer.body))
    assert headers["cache-control"] == "no-store"
    assert problem["type"].endswith(f"#{shown.lower()}")
    assert (problem["status"], problem["code"], problem["title"]) == (info.status, shown, info.sentence)
    assert problem["next_step"] == info.next_step
    assert problem["detail"]
    assert problem["error"]["message"] == f"{problem['detail']} {info.next_step}"
    assert headers.get("x-should-retry") == (None if info.waiting_helps else "false")
    # Stripe's package waits and repeats a 429 only where it is told to.
    stripe = "true" if info.status == 429 else None if info.waiting_helps else "false"
    assert headers.get("stripe-should-retry") == stripe
    assert ("www-authenticate" in headers) == (info.status == 401)
    assert ("allow" in headers) == (info.status == 405)
    assert ("retry-after" in headers) == (info.status == 429)
    assert ("ratelimit" in headers) == ("ratelimit-policy" in headers) == (shown is Code.RATE_LIMITED)
    assert world.upstream().sent == []


@pytest.mark.parametrize("code", BY_CODE)
def test_a_refusal_is_recorded_with_its_true_code_and_how_it_ended(world: GatewayWorld, code: Code) -> None:
    world.add_service(hosts=HOSTS, ceiling=1000, price_micros=1)
    answer = make_wrong(world, BY_CODE[code])
    opened, closed = world.records()[-2:]
    assert (opened["kind"], opened["code"], closed["kind"], closed["end"]) == (
        "opened",
        code,
        "closed",
        "refused",
    )
    assert opened["call"] == closed["call"] == answer.json["call"]
    assert closed["status"] == answer.status
    assert closed["bytes_out"] == len(answer.body)
    assert closed.get("code") is None, "the record says what was decided, whatever a stranger was told"
    known = code not in (*list(Code)[: list(Code).index(Code.SERVICE_DENIED)],)
    assert ("key_id" in opened) == known
    assert "personal" in opened


ORDERED = list(BY_CODE)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (first, second)
        for place, first in enumerate(ORDERED)
        for second in ORDERED[place + 1 :]
        if not BY_CODE[first].key.keys() & BY_CODE[second].key.keys()  # one key has one state
    ],
)
def test_of_two_faults_the_first_check_names_the_code(world: GatewayWorld, first: Code, second: Code) -> None:
    world.add_service(hosts=HOSTS, ceiling=1000, price_micros=1)
    answer = make_wrong(world, BY_CODE[first], BY_CODE[second])
    assert answer.code == (Code.UNKNOWN_KEY if first is Code.SERVICE_DENIED else first)
    assert world.records()[-2]["code"] == first


@settings(max_examples=80, deadline=None)
@given(st.sets(st.sampled_from(WRONG), min_size=2, max_size=8))
def test_of_many_faults_the_first_check_names_the_code(faults: set[Wrong]) -> None:
    ordered = [fault for fault in WRONG if fault in faults]
    with tempfile.TemporaryDirectory() as folder, gateway_world(Path(folder)) as world:
        world.add_service(hosts=HOSTS, ceiling=1000, price_micros=1)
        # The last one stands where two faults say different things of the key; it is the weaker one here.
        answer = make_wrong(world, *reversed(ordered))
        first = ordered[0].code
        assert answer.code == (Code.UNKNOWN_KEY if first is Code.SERVICE_DENIED else first)


# Form


@pytest.mark.parametrize(
    "host",
    [
        None, "", "localhost.evil.example.com", "127.0.0.2", "[::2]:8300", "localhost, localhost", "[::1", "localhost:",
        "localhost:x", "localhost:1:1", "[::1]x", "[::1]:x", ":8300",
    ],
)  # fmt: skip
def test_other_host_names_are_refused(world: GatewayWorld, host: str | None) -> None:
    assert world.call(world.add_key(), host=host).code == "HOST_UNKNOWN"


def test_two_host_headers_are_refused(world: GatewayWorld) -> None:
    assert world.call(world.add_key(), headers=[("host", "localhost")]).code == "HOST_UNKNOWN"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8300", "127.0.0.1:1", "[::1]:8300", "[::1]"])
def test_its_own_host_names_are_answered_to_by_both_doors(world: GatewayWorld, host: str) -> None:
    credential = world.add_own_service()
    assert world.call(world.add_key(), host=host).code == "VALID"
    answer = world.call(credential, "/v1/verify", method="POST", body=b'{"key":"x"}', host=host)
    assert answer.status == 200


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "TRACK", "get", "PROPFIND", ""])
def test_methods_that_are_not_known_are_refused(world: GatewayWorld, method: str) -> None:
    answer = world.call(world.add_key(), method=method)
    assert answer.code == "METHOD_REFUSED"
    assert "GET" in answer.headers["allow"]


def test_a_method_in_the_query_is_refused_before_an_upgrade(world: GatewayWorld) -> None:
    headers = [("upgrade", "websocket")]
    assert (
        world.call(world.add_key(), "/weather/now?_method=DELETE", headers=headers).code == "METHOD_REFUSED"
    )


@pytest.mark.parametrize(
    ("fault", "code", "status"),
    [
        (Fault.FORM, "MALFORMED", 400),
        (Fault.TARGET, "PATH_REFUSED", 400),
        (Fault.METHOD, "METHOD_REFUSED", 405),
        (Fault.SIZE, "TOO_LARGE", 413),
    ],
)
def test_what_the_listener_could_not_read_is_refused_and_recorded_like_the_rest(
    world: GatewayWorld, fault: Fault, code: str, status: int
) -> None:
    async def story() -> Answered:
        line = MadeUpLine("203.0.113.9")
        world.gateway.handle(Http1Request(line, "", b"", b"", [], length=None, keep_alive=False, fault=fault))
        await line.over.wait()
        return line.answered()

    answer = world.loop.run_until_complete(story())
    assert (answer.code, answer.status, answer.json["status"]) == (code, status, status)
    assert answer.json["detail"] == fault.value and answer.headers["connection"] == "close"
    opened, closed = world.last_records(2)
    assert (opened["code"], opened.get("method"), opened.get("path")) == (code, None, None)
    assert (closed["status"], closed["end"]) == (status, "refused")


@pytest.mark.parametrize("comes_slowly", [False, True])
def test_an_answer_is_handed_on_and_counted_whether_it_comes_at_once_or_in_pieces(
    world: GatewayWorld, comes_slowly: bool
) -> None:
    world.upstream().comes_slowly = comes_slowly
    answer = world.call(world.add_key())
    assert (answer.status, answer.body) == (200, b"yes")
    assert ("content-length" in answer.headers) == (not comes_slowly)
    closed = world.last_records(1)[0]
    assert (closed["end"], closed["status"], closed["bytes_out"]) == ("complete", 200, 3)


def test_forwarding_headers_of_two_kinds_are_refused_after_the_host_and_the_method(tmp_path: Path) -> None:
    with gateway_world(tmp_path, trusted_proxy=("127.0.0.0/8",)) as world:
        world.add_service()
        key = world.add_key(Policy((Networks(("203.0.113.7",)),)))
        both = [("x-forwarded-for", "203.0.113.7"), ("forwarded", "for=203.0.113.7")]
        assert world.call(key, headers=both).code == "MALFORMED"
        assert world.call(key, headers=both, host="evil").code == "HOST_UNKNOWN"
        assert world.call(key, headers=both, method="TRACE").code == "METHOD_REFUSED"
        assert world.call(key, headers=[*both, ("upgrade", "WebSocket")]).code == "NOT_SUPPORTED"
        # Any other offer of a protocol may be passed over (RFC 9110, section 7.8).
        assert world.call(key, headers=[*both[:1], ("upgrade", "h2c")]).code == "VALID"
        assert world.call(key, headers=both[:1]).code == "VALID"
        assert world.call(key, headers=both[1:]).code == "VALID"
        assert world.call(key).code == "NETWORK_DENIED"


def test_without_trusted_proxies_forwarding_headers_mean_nothing(world: GatewayWorld) -> None:
    key = world.add_key(Policy((Networks(("203.0.113.7",)),)))
    assert world.call(key, headers=[("x-forwarded-for", "203.0.113.7")]).code == "NETWORK_DENIED"
    assert world.call(key, address="203.0.113.7").code == "VALID"
