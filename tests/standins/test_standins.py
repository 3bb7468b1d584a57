"""The stand-ins take the real key from the vendors' own packages, and refuse others as the vendors do."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import anthropic
import openai
import pytest
import stripe

from standins.anthropic_standin import AnthropicStandIn
from standins.github_standin import GitHubStandIn
from standins.openweather_standin import OpenWeatherStandIn
from standins.running import made_up_key, running
from standins.stripe_standin import StripeStandIn
from valetkey.demo.standin import OpenAIStandIn, StandIn

pytestmark = pytest.mark.real

SAY = [{"role": "user", "content": "good morning"}]


@pytest.fixture(scope="module")
def openai_api() -> Iterator[OpenAIStandIn]:
    with running(OpenAIStandIn(made_up_key("sk-test-"))) as standin:
        yield standin


@pytest.fixture(scope="module")
def anthropic_api() -> Iterator[AnthropicStandIn]:
    with running(AnthropicStandIn(made_up_key("sk-ant-test-"))) as standin:
        yield standin


@pytest.fixture(scope="module")
def stripe_api() -> Iterator[StripeStandIn]:
    with running(StripeStandIn(made_up_key("sk_" + "test_"))) as standin:
        yield standin


def openai_client(api: StandIn, key: str | None = None) -> openai.OpenAI:
    return openai.OpenAI(api_key=key or api.real_key, base_url=f"{api.url}/v1", max_retries=0)


def anthropic_client(api: StandIn, key: str | None = None) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key=key or api.real_key, base_url=api.url, max_retries=0)


def stripe_client(api: StandIn, key: str | None = None) -> stripe.StripeClient:
    return stripe.StripeClient(key or api.real_key, base_addresses={"api": api.url}, max_network_retries=0)


def call(api: StandIn, target: str, **headers: str) -> tuple[int, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=10)
    connection.request(
        "GET", target, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )
    answer = connection.getresponse()
    body = json.loads(answer.read())
    connection.close()
    return answer.status, body


def test_openai_package_lists_chats_streams_embeds_and_moves_files(openai_api: OpenAIStandIn) -> None:
    with openai_client(openai_api) as client:
        assert next(model.id for model in client.models.list()) == "gpt-4o-mini"
        assert client.models.retrieve("gpt-4o").id == "gpt-4o"
        answer = client.chat.completions.create(model="gpt-4o", messages=SAY)
        assert answer.choices[0].message.content == "You said: good morning"
        stream = client.chat.completions.create(model="gpt-4o", messages=SAY, stream=True)
        said = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert said == "You said: good morning "
        vectors = client.embeddings.create(
            model="text-embedding-3-small", input=["a", "b"], encoding_format="float"
        )
        assert len(vectors.data) == 2
        uploaded = client.files.create(file=("notes.jsonl", io.BytesIO(b"x" * 300_000)), purpose="batch")
        assert uploaded.bytes == 300_000
        assert uploaded.filename == "notes.jsonl"
        content = client.files.content(uploaded.id).read()
        assert len(content) == 300_000
        assert content[1000] == 1000 % 256


def test_openai_package_sees_the_vendors_errors(openai_api: OpenAIStandIn) -> None:
    with openai_client(openai_api, "sk-test-" + "wrong" * 8) as stranger:
        with pytest.raises(openai.AuthenticationError) as caught:
            stranger.models.list()
        assert caught.value.code == "invalid_api_key"
        assert "sk-test-" in str(caught.value)
    with openai_client(openai_api) as client:
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model="standin-429", messages=SAY)
        with pytest.raises(openai.InternalServerError):
            client.models.list(extra_headers={"x-standin-status": "500"})
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("nothing")


def test_an_endless_stream_ticks_until_its_caller_leaves(openai_api: OpenAIStandIn) -> None:
    with openai_client(openai_api) as client:
        stream = client.chat.completions.create(model="standin-endless", messages=SAY, stream=True)
        seen = 0
        for chunk in stream:
            seen += bool(chunk.choices[0].delta.content)
            if seen == 3:
                break
        assert openai_api.open_streams == 1
        stream.close()
    deadline = time.monotonic() + 5
    while openai_api.open_streams and time.monotonic() < deadline:
        time.sleep(0.01)
    assert openai_api.open_streams == 0


def test_a_delay_can_be_asked_for(openai_api: OpenAIStandIn) -> None:
    with openai_client(openai_api) as client:
        begun = time.monotonic()
        client.models.list(extra_headers={"x-standin-delay": "0.2"})
        assert time.monotonic() - begun >= 0.2


def test_a_range_of_a_file_is_answered_alone(openai_api: OpenAIStandIn) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", openai_api.port, timeout=10)
    headers = {"Authorization": f"Bearer {openai_api.real_key}", "Range": "bytes=70000-70003"}
    connection.request("GET", "/v1/files/file-standin-100000/content", headers=headers)
    answer = connection.getresponse()
    assert answer.status == 206
    assert answer.read() == bytes((70000 + step) % 256 for step in range(4))
    assert answer.headers["Content-Range"] == "bytes 70000-70003/100000"
    connection.close()


def test_requests_are_recorded_byte_for_byte(openai_api: OpenAIStandIn) -> None:
    call(
        openai_api, "/v1/models?a=%61&b=%2F&&c", authorization=f"Bearer {openai_api.real_key}", X_Odd="Value"
    )
    recorded = openai_api.requests[-1]
    assert recorded.target == b"/v1/models?a=%61&b=%2F&&c"
    assert (b"X-Odd", b"Value") in recorded.headers
    assert recorded.values("authorization") == [f"Bearer {openai_api.real_key}".encode()]
    assert openai_api.real_key not in repr(recorded)


def test_anthropic_package_talks_plain_and_streamed(anthropic_api: AnthropicStandIn) -> None:
    with anthropic_client(anthropic_api) as client:
        assert next(model.id for model in client.models.list()) == "claude-standin-1"
        answer = client.messages.create(model="claude-standin-1", max_tokens=64, messages=SAY)
        assert answer.content[0].text == "You said: good morning"
        with client.messages.stream(model="claude-standin-1", max_tokens=64, messages=SAY) as stream:
            assert "".join(stream.text_stream) == "You said: good morning "
        with pytest.raises(anthropic.RateLimitError):
            client.messages.create(model="standin-429", max_tokens=64, messages=SAY)
    with anthropic_client(anthropic_api, "sk-ant-test-" + "wrong" * 8) as stranger:
        with pytest.raises(anthropic.AuthenticationError) as caught:
            stranger.models.list()
        assert "authentication_error" in str(caught.value)


def test_anthropic_takes_either_header_and_wants_a_version(anthropic_api: AnthropicStandIn) -> None:
    key, version = anthropic_api.real_key, "2023-06-01"
    assert call(anthropic_api, "/v1/models", x_api_key=key, anthropic_version=version)[0] == 200
    both = {"x_api_key": key, "authorization": f"Bearer {key}", "anthropic_version": version}
    assert call(anthropic_api, "/v1/models", **both)[0] == 200
    assert call(anthropic_api, "/v1/models", **{**both, "x_api_key": "other"})[0] == 401
    status, body = call(anthropic_api, "/v1/models", x_api_key=key)
    assert status == 400
    assert body["error"]["type"] == "invalid_request_error"


def test_stripe_package_reads_and_makes_things(stripe_api: StripeStandIn) -> None:
    client = stripe_client(stripe_api)
    assert client.v1.balance.retrieve().available[0].amount == 1234
    made = client.v1.customers.create({"name": "Ada", "email": "ada@example.com"})
    assert made.name == "Ada"
    assert made.id in [customer.id for customer in client.v1.customers.list({"limit": 50}).data]
    assert made.last_response.request_id == "req_standin"
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.customers.retrieve("cus_nobody")


def test_stripe_package_sees_the_vendors_refusal(stripe_api: StripeStandIn) -> None:
    with pytest.raises(stripe.AuthenticationError) as caught:
        stripe_client(stripe_api, "sk_" + "test_" + "wrong" * 6).v1.balance.retrieve()
    assert caught.value.http_status == 401
    assert "sk_test_" in str(caught.value)


def test_stripe_takes_the_key_as_the_user_of_basic(stripe_api: StripeStandIn) -> None:
    def user(key: str) -> str:
        return "Basic " + b64encode(f"{key}:".encode()).decode()

    assert call(stripe_api, "/v1/balance", authorization=user(stripe_api.real_key))[0] == 200
    assert call(stripe_api, "/v1/balance", authorization=user("sk_" + "test_other"))[0] == 401


def test_github_takes_token_and_bearer() -> None:
    with running(GitHubStandIn(made_up_key("ghp_", 36))) as api:
        for scheme in ("token", "Bearer"):
            status, body = call(api, "/user", authorization=f"{scheme} {api.real_key}", User_Agent="tests")
            assert (status, body["login"]) == (200, "standin")
        status, body = call(api, "/user", authorization="token wrong", User_Agent="tests")
        assert (status, body["message"]) == (401, "Bad credentials")
        assert call(api, "/user", User_Agent="tests")[0] == 401


def test_openweather_takes_the_key_from_the_query() -> None:
    with running(OpenWeatherStandIn(made_up_key("", 32))) as api:
        assert call(api, f"/data/2.5/weather?q=Berlin&appid={api.real_key}")[1]["name"] == "Berlin"
        assert call(api, f"/data/2.5/weather?q=Berlin&APPID={api.real_key}")[0] == 200
        status, body = call(api, "/data/2.5/weather?q=Berlin&appid=wrong-key")
        assert (status, body["cod"]) == (401, 401)
        assert call(api, "/data/2.5/weather?q=Berlin")[0] == 401


def test_a_key_that_the_vendor_took_back_is_refused() -> None:
    with running(OpenAIStandIn("old-key")) as api:
        api.real_key = "new-key"
        assert call(api, "/v1/models", authorization="Bearer old-key")[0] == 401
        assert api.refused == 1


def test_it_runs_as_a_process_of_its_own_and_ends_on_sigterm(tmp_path: Path) -> None:
    key = made_up_key("sk-test-")
    file = tmp_path / "key"
    file.write_text(key + "\n")
    command = [sys.executable, "-m", "valetkey.demo.standin", "--port", "0", "--key-file", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ.copy()) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        with openai.OpenAI(api_key=key, base_url=f"{said['url']}/v1", max_retries=0) as client:
            assert client.models.list().data
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
