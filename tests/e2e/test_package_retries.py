"""The vendors' packages, with their own retry rules on, send one request for each refusal waiting does not cure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import openai
import pytest
import stripe

from e2e.conftest import StandIns
from e2e.wire_tap import WireTap
from running_server import RunningServer, ValetKey, eventually
from standins.raw_upstream import RawUpstream, with_length
from valetkey.decision.codes import CODES, Code

pytestmark = pytest.mark.real

PACKAGES = ("openai", "anthropic", "stripe")
SAY = [{"role": "user", "content": "good morning"}]


@pytest.fixture
def tap(server: RunningServer) -> Iterator[WireTap]:
    with WireTap(server.gateway_port) as tap:
        yield tap


def code_of(package: str, base: str, key: str) -> str:
    """The code that the package's user sees; VALID when the call succeeds. Retries as the package likes."""
    try:
        if package == "openai":
            with openai.OpenAI(api_key=key, base_url=f"{base}/v1") as client:
                client.chat.completions.create(model="gpt-4o", messages=SAY)
        elif package == "anthropic":
            with anthropic.Anthropic(api_key=key, base_url=base) as other:
                other.messages.create(model="claude-standin-1", max_tokens=8, messages=SAY)
        else:
            # its client object repeats nothing unless told so; its module does, as often as the others
            retries = stripe.max_network_retries
            merchant = stripe.StripeClient(key, base_addresses={"api": base}, max_network_retries=retries)
            assert retries == 2
            merchant.v1.balance.retrieve()
    except (openai.APIStatusError, anthropic.APIStatusError) as error:
        return str(error.response.headers["x-valetkey-code"])
    except stripe.StripeError as error:
        return str((error.headers or {}).get("x-valetkey-code"))
    return "VALID"


def stopped(server: RunningServer, package: str, how: str) -> ValetKey:
    key = server.issue(package)
    server.stop_key(key, how)
    return key


def spent(server: RunningServer, package: str, **terms: Any) -> ValetKey:
    key = server.issue(package, **terms)
    assert code_of(package, f"{server.url}/{package}", key.value) == "VALID"
    return key


def expired(server: RunningServer, package: str) -> ValetKey:
    key = server.issue(package, expires="1s")
    eventually(lambda: server.call("GET", f"/{package}/v1/models", key).code == "EXPIRED")
    return key


REFUSED_KEYS: dict[Code, Callable[[RunningServer, str], ValetKey]] = {
    Code.REVOKED: lambda server, package: stopped(server, package, "revoke"),
    Code.SUSPENDED: lambda server, package: stopped(server, package, "suspend"),
    Code.EXPIRED: expired,
    Code.NETWORK_DENIED: lambda server, package: server.issue(package, networks=["203.0.113.0/24"]),
    Code.ORIGIN_DENIED: lambda server, package: server.issue(package, origins=["https://app.example.com"]),
    Code.ENDPOINT_DENIED: lambda server, package: server.issue(package, endpoints=["GET /v1/other"]),
    Code.SCHEDULE_DENIED: lambda server, package: server.issue(package, schedule=never_now()),
    Code.USES_EXHAUSTED: lambda server, package: spent(server, package, uses=1),
    Code.QUOTA_EXCEEDED: lambda server, package: spent(server, package, quotas=["1/month"]),
}


def never_now() -> str:
    """A schedule of one minute that is about half a day away."""
    hour = (time.gmtime().tm_hour + 12) % 24
    return f"mon-sun {hour:02}:00-{hour:02}:01 UTC"


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("code", REFUSED_KEYS)
def test_a_key_that_waiting_does_not_help_costs_one_request(
    server: RunningServer, tap: WireTap, package: str, code: Code
) -> None:
    key = REFUSED_KEYS[code](server, package)
    before = len(server.events(key))
    assert code_of(package, f"{tap.url}/{package}", key.value) == code
    assert tap.requests == 1
    assert [event["code"] for event in server.events(key)][: -before or None] == [code]


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize(("code", "key"), [("UNKNOWN_KEY", "vk_prv_nobody"), ("MALFORMED", "two,keys")])
def test_a_credential_that_is_none_costs_one_request(
    server: RunningServer, tap: WireTap, package: str, code: str, key: str
) -> None:
    assert code_of(package, f"{tap.url}/{package}", key) == code
    assert tap.requests == 1


@pytest.mark.parametrize("package", PACKAGES)
def test_a_path_that_is_refused_costs_one_request(server: RunningServer, tap: WireTap, package: str) -> None:
    key = server.issue(package)
    assert code_of(package, f"{tap.url}/{package}/a%2Fb", key.value) == "PATH_REFUSED"
    assert tap.requests == 1


@pytest.mark.parametrize("package", PACKAGES)
def test_a_locked_service_and_one_without_secret_cost_one_request(
    server: RunningServer, standins: StandIns, tap: WireTap, package: str
) -> None:
    api = getattr(standins, package)
    service = server.open_service(api.real_key, preset=package, base_url=api.url)
    key = server.issue(service)
    server.manage("POST", f"/services/{service}/lock", {})
    assert code_of(package, f"{tap.url}/{service}", key.value) == "SERVICE_LOCKED"
    server.manage("POST", f"/services/{service}/unlock", {})
    server.manage("POST", f"/secrets/{service}/default/retire", {})
    assert code_of(package, f"{tap.url}/{service}", key.value) == "SECRET_UNAVAILABLE"
    assert tap.requests == 2


@pytest.mark.parametrize("package", PACKAGES)
def test_a_vendor_that_refuses_our_key_costs_one_request(
    server: RunningServer, tap: WireTap, package: str
) -> None:
    with RawUpstream(with_length(b"{}", status="401 Unauthorized")) as upstream:
        service = server.open_service("a-secret-nobody-knows", preset=package, base_url=upstream.url)
        key = server.issue(service)
        assert code_of(package, f"{tap.url}/{service}", key.value) == "UPSTREAM_REFUSED_SECRET"
        assert tap.requests == 1
        assert len(upstream.heads) == 1


@pytest.mark.parametrize("package", PACKAGES)
def test_a_budget_that_is_spent_costs_one_request(
    server: RunningServer, standins: StandIns, tap: WireTap, package: str
) -> None:
    api = getattr(standins, package)
    service = server.open_service(api.real_key, preset=package, base_url=api.url, price="0.02")
    key = server.issue(service, budgets=["0.01/month"])
    assert code_of(package, f"{tap.url}/{service}", key.value) == "BUDGET_EXCEEDED"
    assert tap.requests == 1


@pytest.mark.parametrize("package", PACKAGES)
def test_a_rate_that_waiting_cures_is_retried_until_it_passes(
    server: RunningServer, tap: WireTap, package: str
) -> None:
    key = spent(server, package, rate="1/s", burst=1)
    assert code_of(package, f"{tap.url}/{package}", key.value) == "VALID"
    assert tap.requests >= 2
    codes = [event["code"] for event in server.events(key)]
    assert codes[0] == "VALID" and "RATE_LIMITED" in codes


def test_every_refusal_says_whether_waiting_helps(server: RunningServer) -> None:
    refused = server.call("GET", "/openai/v1/models", "vk_prv_nobody")
    assert refused.header("x-should-retry") == "false"
    assert refused.header("stripe-should-retry") == "false"
    key = server.issue("openai", rate="1/min", burst=1)
    server.call("GET", "/openai/v1/models", key)
    limited = server.call("GET", "/openai/v1/models", key)
    assert (limited.code, limited.status) == (Code.RATE_LIMITED, CODES[Code.RATE_LIMITED].status)
    assert limited.header("x-should-retry") is None
    assert 1 <= int(limited.header("retry-after") or 0) <= 60
    assert limited.header("ratelimit-policy") and limited.header("ratelimit")
