"""The vendors' own packages and curl work when only base URL and key change; the vendor sees only the real key."""

from __future__ import annotations

import io
import subprocess
from base64 import b64encode

import anthropic
import openai
import pytest
import stripe

from e2e.conftest import StandIns
from running_server import RunningServer, ValetKey
from valetkey.demo.standin import StandIn

pytestmark = pytest.mark.real

SAY = [{"role": "user", "content": "good morning"}]


def openai_client(base: str, key: str) -> openai.OpenAI:
    return openai.OpenAI(api_key=key, base_url=f"{base}/v1", max_retries=0)


def stripe_client(base: str, key: str) -> stripe.StripeClient:
    return stripe.StripeClient(key, base_addresses={"api": base}, max_network_retries=0)


class Watched:
    """What one vendor received since the test began."""

    def __init__(self, api: StandIn) -> None:
        self._api = api
        self._mark = len(api.requests)

    def holds_only_the_real_key(self, key: ValetKey, *, header: str, form: str = "{}") -> None:
        received = self._api.requests[self._mark :]
        assert received
        for request in received:
            everything = request.target + b"".join(name + value for name, value in request.headers)
            assert key.value.encode() not in everything
            assert request.values(header) == [form.format(self._api.real_key).encode()]


def test_openai_lists_chats_streams_embeds_and_moves_files(server: RunningServer, standins: StandIns) -> None:
    key = server.issue("openai")
    watched = Watched(standins.openai)
    with openai_client(f"{server.url}/openai", key.value) as client:
        assert next(model.id for model in client.models.list()) == "gpt-4o-mini"
        assert client.models.retrieve("gpt-4o").id == "gpt-4o"
        answer = client.chat.completions.create(model="gpt-4o", messages=SAY)
        assert answer.choices[0].message.content == "You said: good morning"
        stream = client.chat.completions.create(model="gpt-4o", messages=SAY, stream=True)
        assert "".join(c.choices[0].delta.content or "" for c in stream) == "You said: good morning "
        vectors = client.embeddings.create(
            model="text-embedding-3-small", input=["a", "b"], encoding_format="float"
        )
        assert len(vectors.data) == 2
        uploaded = client.files.create(file=("notes.jsonl", io.BytesIO(b"x" * 300_000)), purpose="batch")
        assert (uploaded.bytes, uploaded.filename) == (300_000, "notes.jsonl")
        content = client.files.content(uploaded.id).read()
        assert content == bytes(range(256)) * (300_000 // 256) + bytes(range(300_000 % 256))
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("nothing")
    watched.holds_only_the_real_key(key, header="authorization", form="Bearer {}")


def test_anthropic_talks_plain_and_streamed(server: RunningServer, standins: StandIns) -> None:
    key = server.issue("anthropic")
    watched = Watched(standins.anthropic)
    base = f"{server.url}/anthropic"
    for client in (
        anthropic.Anthropic(api_key=key.value, base_url=base, max_retries=0),
        anthropic.Anthropic(auth_token=key.value, base_url=base, max_retries=0),
        anthropic.Anthropic(
            api_key=key.value, base_url=base, max_retries=0, default_headers={"x-api-key": key.value}
        ),
    ):
        with client:
            assert next(model.id for model in client.models.list()) == "claude-standin-1"
            answer = client.messages.create(model="claude-standin-1", max_tokens=64, messages=SAY)
            assert answer.content[0].text == "You said: good morning"
            with client.messages.stream(model="claude-standin-1", max_tokens=64, messages=SAY) as stream:
                assert "".join(stream.text_stream) == "You said: good morning "
    watched.holds_only_the_real_key(key, header="x-api-key")


def test_anthropic_takes_the_key_as_x_api_key_alone(server: RunningServer) -> None:
    key = server.issue("anthropic")
    headers = {"x-api-key": key.value, "anthropic-version": "2023-06-01"}
    assert server.call("GET", "/anthropic/v1/models", headers=headers).status == 200


def test_stripe_reads_and_makes_things(server: RunningServer, standins: StandIns) -> None:
    key = server.issue("stripe")
    watched = Watched(standins.stripe)
    client = stripe_client(f"{server.url}/stripe", key.value)
    assert client.v1.balance.retrieve().available[0].amount == 1234
    made = client.v1.customers.create({"name": "Ada", "email": "ada@example.com"})
    assert made.name == "Ada"
    assert made.id in [customer.id for customer in client.v1.customers.list({"limit": 50}).data]
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.customers.retrieve("cus_nobody")
    watched.holds_only_the_real_key(key, header="authorization", form="Bearer {}")


def test_stripe_takes_the_key_as_the_user_of_basic(server: RunningServer, standins: StandIns) -> None:
    key = server.issue("stripe")
    watched = Watched(standins.stripe)
    user = "Basic " + b64encode(f"{key.value}:".encode()).decode()
    assert server.call("GET", "/stripe/v1/balance", headers={"Authorization": user}).status == 200
    watched.holds_only_the_real_key(key, header="authorization", form="Bearer {}")


def curl(*arguments: str) -> str:
    done = subprocess.run(["curl", "-sS", "--fail-with-body", *arguments], capture_output=True, timeout=20)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.decode()


def test_curl_works_with_every_service_where_its_documentation_puts_the_key(
    server: RunningServer, standins: StandIns
) -> None:
    key = server.issue("openai")
    assert "gpt-4o" in curl(f"{server.url}/openai/v1/models", "-H", f"Authorization: Bearer {key.value}")
    key = server.issue("anthropic")
    version = ("-H", "anthropic-version: 2023-06-01")
    assert "claude" in curl(f"{server.url}/anthropic/v1/models", "-H", f"x-api-key: {key.value}", *version)
    key = server.issue("stripe")
    assert "balance" in curl(f"{server.url}/stripe/v1/balance", "-u", f"{key.value}:")
    key = server.issue("github")
    watched = Watched(standins.github)
    for scheme in ("token", "Bearer"):
        assert "standin" in curl(f"{server.url}/github/user", "-H", f"Authorization: {scheme} {key.value}")
    watched.holds_only_the_real_key(key, header="authorization", form="Bearer {}")


def test_openweather_takes_the_key_from_the_query_and_gets_only_the_real_one(
    server: RunningServer, standins: StandIns
) -> None:
    key = server.issue("openweather")
    api = standins.openweather
    mark = len(api.requests)
    assert "Berlin" in curl(f"{server.url}/openweather/data/2.5/weather?q=Berlin&appid={key.value}&lang=de")
    (received,) = api.requests[mark:]
    assert received.target.count(b"appid=") == 1
    assert f"appid={api.real_key}".encode() in received.target
    assert key.value.encode() not in received.target
    assert b"q=Berlin" in received.target and b"lang=de" in received.target


def test_a_valet_key_opens_nothing_at_the_vendor_itself(server: RunningServer, standins: StandIns) -> None:
    with (
        openai_client(standins.openai.url, server.issue("openai").value) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()
    straight = anthropic.Anthropic(
        api_key=server.issue("anthropic").value, base_url=standins.anthropic.url, max_retries=0
    )
    with straight, pytest.raises(anthropic.AuthenticationError):
        straight.models.list()
    with pytest.raises(stripe.AuthenticationError):
        stripe_client(standins.stripe.url, server.issue("stripe").value).v1.balance.retrieve()


def test_a_wrong_key_and_the_real_key_itself_open_nothing_at_the_gateway(
    server: RunningServer, standins: StandIns
) -> None:
    seen = len(standins.openai.requests)
    for wrong in ("sk-test-" + "wrong" * 8, standins.openai.real_key):
        with (
            openai_client(f"{server.url}/openai", wrong) as client,
            pytest.raises(openai.AuthenticationError) as caught,
        ):
            client.models.list()
        assert caught.value.code == "UNKNOWN_KEY"
    assert len(standins.openai.requests) == seen
