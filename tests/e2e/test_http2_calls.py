"""Callers in HTTP/2 at a running server: the same code for the same call, the same bytes to the upstream, cut alone."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path

import httpx2
import openai
import pytest
from h2.exceptions import ProtocolError

from certificates import Authority
from e2e.conftest import StandIns
from e2e.test_taking_back import CHAT, ENDLESS, MODELS
from running_server import Answer, RunningServer, ValetKey, eventually
from second_calls import CutOff, SecondConnection
from standins.raw_upstream import RawUpstream, Reply, chunked, silent, with_length

pytestmark = pytest.mark.real

REAL = "Real-Key-" + "aB3dE" * 5
JSON = (b"content-type", b"application/json")


@dataclass(frozen=True)
class Asked:
    """One call, for both versions. In texts {key} is a good key, {revoked} a dead one, {credential} verify's."""

    method: str = "GET"
    path: str = "/{service}/a"
    fields: tuple[tuple[str, str], ...] = (("authorization", "Bearer {key}"),)
    body: str | None = None
    host: str | None = "localhost"


BEARER = ("authorization", "Bearer {key}")
TABLE: dict[str, Asked] = {
    "a call": Asked(),
    "a call with a query": Asked(path="/{service}/a?x=%61&y=1?"),
    "a post": Asked("POST", fields=(BEARER, ("content-type", "application/json")), body="{{}}"),
    "head": Asked("HEAD"),
    "delete": Asked("DELETE"),
    "no key": Asked(fields=()),
    "a key that is none": Asked(fields=(("authorization", "Bearer nonsense"),)),
    "two keys": Asked(fields=(BEARER, BEARER)),
    "a key in two places": Asked(path="/{service}/a?api_key={key}", fields=(BEARER, ("x-api-key", "{key}"))),
    "a revoked key": Asked(fields=(("authorization", "Bearer {revoked}"),)),
    "no such service": Asked(path="/nothing/a"),
    "an endpoint that is not allowed": Asked(fields=(("authorization", "Bearer {narrow}"),), path="/{service}/b"),
    "an origin that is not allowed": Asked(
        fields=(("authorization", "Bearer {origin}"), ("origin", "https://b.example"))
    ),
    "an encoded slash": Asked(path="/{service}/a%2Fb"),
    "an encoded backslash": Asked(path="/{service}/a%5cb"),
    "dots": Asked(path="/{service}/a/../b"),
    "encoded dots": Asked(path="/{service}/a/%2e%2e/b"),
    "encoded twice": Asked(path="/{service}/a%252e"),
    "two slashes": Asked(path="/{service}//a"),
    "a backslash": Asked(path="/{service}/a\\b"),
    "a parameter": Asked(path="/{service}/a;b=c"),
    "an encoded NUL": Asked(path="/{service}/a%00"),
    "encoded letters": Asked(path="/{service}/%61"),
    "an octet beyond ASCII": Asked(path="/{service}/\xe9"),
    "a control byte": Asked(path="/{service}/\x01"),
    "a fragment": Asked(path="/{service}/a#b"),
    "a star": Asked("OPTIONS", path="*"),
    "another host": Asked(host="evil.example"),
    "no host": Asked(host=None),
    "a port in the host": Asked(host="localhost:1"),
    "someone before the host": Asked(host="a@localhost"),
    "trace": Asked("TRACE"),
    "track": Asked("TRACK"),
    "lower case": Asked("get"),
    "the method in the query": Asked(path="/{service}/a?_method=DELETE"),
    "the method in a header": Asked(fields=(BEARER, ("x-http-method-override", "DELETE"))),
    "another address in a header": Asked(fields=(BEARER, ("x-original-url", "/b"))),
    "forwarding headers": Asked(fields=(BEARER, ("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=5.6.7.8"))),
    "cookies": Asked(fields=(BEARER, ("cookie", "a=1"), ("cookie", "b=2"))),
    "te": Asked(fields=(BEARER, ("te", "trailers"))),
    "an expectation that nobody knows": Asked(fields=(BEARER, ("expect", "200-ok"))),
    "a control byte in a header": Asked(fields=(BEARER, ("x", "a\x01b"))),
    "octets beyond ASCII in a header": Asked(fields=(BEARER, ("x", "caf\xe9"))),
    "a large head": Asked(fields=(BEARER, ("x", "a" * 34_000))),
    "many fields": Asked(fields=(BEARER, *((f"x-{n}", "a") for n in range(200)))),
    "more than it takes": Asked("POST", fields=(BEARER, ("content-length", "9999999999"))),
    "two lengths": Asked("POST", fields=(BEARER, ("content-length", "1"), ("content-length", "1")), body="x"),
    "a length that is none": Asked("POST", fields=(BEARER, ("content-length", "1x"))),
    "health": Asked(path="/healthz", fields=()),
    "health of another host": Asked(path="/healthz", fields=(), host="evil.example"),
    "ready": Asked(path="/readyz", fields=()),
    "verify": Asked("POST", "/v1/verify", (("authorization", "Bearer {credential}"),), '{{"key": "{owned}"}}'),
    "verify of a key that is none": Asked(
        "POST", "/v1/verify", (("authorization", "Bearer {credential}"),), '{{"key": "x"}}'
    ),
    "verify without a credential": Asked("POST", "/v1/verify", (), '{{"key": "{owned}"}}'),
    "verify by get": Asked("GET", "/v1/verify", (("authorization", "Bearer {credential}"),)),
    "derive": Asked("POST", "/v1/derive", (BEARER,), '{{"expires": "1h"}}'),
    "derive by nobody": Asked("POST", "/v1/derive", (), "{{}}"),
}  # fmt: skip


class Doors:
    """A service with keys of several kinds, asked through both versions."""

    def __init__(self, server: RunningServer, upstream: RawUpstream) -> None:
        self.server = server
        self.upstream = upstream
        name = server.open_service(REAL, base_url=upstream.url)
        revoked = server.issue(name)
        server.stop_key(revoked)
        own = f"{name}-own"
        server.manage("POST", "/services", {"name": own, "own": True})
        credential = server.manage("POST", f"/services/{own}/credential", {})["credential"]
        self.key = server.issue(name)
        self._texts = {
            "service": name,
            "key": self.key.value,
            "revoked": revoked.value,
            "narrow": server.issue(name, endpoints=["GET /a"]).value,
            "origin": server.issue(name, origins=["https://a.example"]).value,
            "owned": server.issue(own).value,
            "credential": credential,
        }

    def filled(self, text: str) -> str:
        return text.format(**self._texts)

    def first(self, asked: Asked) -> Answer:
        """In HTTP/1.1."""
        fields = [] if asked.host is None else [f"host: {asked.host}"]
        fields += [f"{name}: {self.filled(value)}" for name, value in asked.fields]
        body = None if asked.body is None else self.filled(asked.body)
        if body is not None and not any(name == "content-length" for name, _ in asked.fields):
            fields.append(f"content-length: {len(body)}")
        line = f"{asked.method} {self.filled(asked.path)} HTTP/1.1"
        octets = "\r\n".join([line, *fields, "connection: close", "", body or ""]).encode("latin-1")
        with socket.create_connection(("127.0.0.1", self.server.gateway_port), timeout=20) as end:
            end.sendall(octets)
            answer = HTTPResponse(end, method=asked.method)
            answer.begin()
            return Answer(answer.status, answer.getheaders(), answer.read())

    def second(self, asked: Asked) -> Answer:
        """In HTTP/2."""
        fields = [(name.encode(), self.filled(value).encode("latin-1")) for name, value in asked.fields]
        fields.append((b":authority", (asked.host or "").encode()))
        if any(name == "cookie" for name, _ in asked.fields):
            fields.sort(key=lambda pair: pair[0] != b":authority")
        body = None if asked.body is None else self.filled(asked.body).encode()
        if body is not None and not any(name == "content-length" for name, _ in asked.fields):
            fields.append((b"content-length", b"%d" % len(body)))
        # Where nothing follows, the head does not end the stream, so that its length is what is judged.
        lengthy = body is None and any(name == "content-length" for name, _ in asked.fields)
        with SecondConnection(self.server.gateway_port) as caller:
            path = self.filled(asked.path)
            return caller.answer(caller.open(asked.method, path, *fields, body=body, end=not lengthy))


@pytest.fixture(scope="module")
def doors(server: RunningServer) -> Iterator[Doors]:
    with RawUpstream(with_length(b"ok")) as upstream:
        yield Doors(server, upstream)


VARYING = ("date", "connection", "content-length", "ratelimit")


@pytest.mark.parametrize("asked", TABLE.values(), ids=TABLE.keys())
def test_the_same_call_gets_the_same_answer_and_sends_the_same_bytes_in_both_versions(
    doors: Doors, asked: Asked
) -> None:
    seen = len(doors.upstream.heads)
    first = doors.first(asked)
    sent_first = doors.upstream.heads[seen:]
    seen = len(doors.upstream.heads)
    second = doors.second(asked)
    assert (second.status, second.code) == (first.status, first.code)
    assert doors.upstream.heads[seen:] == sent_first
    told = [sorted((n, v) for n, v in one.headers if n not in VARYING) for one in (first, second)]
    assert told[0] == told[1]
    if first.body.startswith(b"{"):
        mine, theirs = first.json, second.json
        same = ("code", "valid", "detail", "sentence", "title", "next_step")
        assert {name: mine.get(name) for name in same} == {name: theirs.get(name) for name in same}
    else:
        assert first.body == second.body


def test_records_do_not_tell_the_versions_apart(doors: Doors) -> None:
    key = doors.server.issue(doors.filled("{service}"))
    asked = Asked("POST", fields=(("authorization", f"Bearer {key.value}"),), body="hello")
    doors.first(asked)
    doors.second(asked)
    one, two = doors.server.closed_events(key, 2)
    same = ("code", "method", "path", "status", "end", "bytes_in", "bytes_out", "address", "upstream_status")
    assert [one.get(name) for name in same] == [two.get(name) for name in same]
    assert (one["end"], one["bytes_in"]) == ("complete", 5)


# -- real clients


def test_httpx_by_prior_knowledge_sends_streams_and_reads_large_bodies(
    server: RunningServer, standins: StandIns
) -> None:
    key = server.issue("openai")
    with httpx2.Client(
        http1=False, http2=True, base_url=f"{server.url}/openai/v1", headers=key.bearer, trust_env=False
    ) as client:
        models = client.get("/models")
        assert (models.http_version, models.status_code) == ("HTTP/2", 200)
        big = b"x" * 3_000_000
        made = client.post("/files", files={"file": ("a", big)}, data={"purpose": "batch"})
        content = client.get(f"/files/{made.json()['id']}/content")
        assert len(content.content) == len(big)
        asks = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        with client.stream("POST", "/chat/completions", json=asks) as streamed:
            lines = [line for line in streamed.iter_lines() if line.startswith("data:")]
        assert lines[-1] == "data: [DONE]"
        assert client.head("/models").status_code == 200
        refused = client.get("/models", headers={"authorization": "Bearer nonsense"})
        assert refused.status_code == 401


def test_curl_by_prior_knowledge(server: RunningServer) -> None:
    key = server.issue("openai")
    shown = subprocess.run(
        ["curl", "-sS", "--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{http_version} %{http_code}",
         "-H", f"Authorization: Bearer {key.value}", f"{server.url}{MODELS}"],
        capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    if "unsupported" in shown.stderr or "not supported" in shown.stderr:
        pytest.skip("this curl has no HTTP/2")
    assert shown.stdout == "2 200", shown.stderr


class Secured:
    """A server with one worker that speaks TLS."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        files = self.authority.sign(names=("localhost", "127.0.0.1"))
        self.server = RunningServer(settings=files.flags, authority=self.authority.file)


@pytest.fixture(scope="module")
def secured(standins: StandIns, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    made = Secured(tmp_path_factory.mktemp("second"))
    with made.server as server:
        standins.connect(server)
        yield made


def test_the_openai_package_by_https(secured: Secured) -> None:
    server = secured.server
    key = server.issue("openai")
    versions: list[str] = []
    carrier = httpx2.Client(
        http2=True,
        verify=server.trust(),
        trust_env=False,
        event_hooks={"response": [lambda response: versions.append(response.http_version)]},
    )
    with openai.OpenAI(
        api_key=key.value, base_url=f"{server.url}/openai/v1", http_client=carrier, max_retries=0
    ) as client:
        assert next(model.id for model in client.models.list()) == "gpt-4o-mini"
        stream = client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "good morning"}], stream=True
        )
        said = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert said == "You said: good morning "
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("nothing")
    assert versions == ["HTTP/2"] * 3


def test_curl_agrees_on_it_by_https(secured: Secured) -> None:
    server = secured.server
    key = server.issue("openai")
    shown = subprocess.run(
        ["curl", "-sS", "--cacert", str(secured.authority.file), "-o", "/dev/null",
         "-w", "%{http_version} %{http_code}", "-H", f"Authorization: Bearer {key.value}", f"https://localhost:{server.gateway_port}{MODELS}"],
        capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    assert shown.stdout in ("2 200", "1.1 200"), shown.stderr


# -- cutting


def endless(caller: SecondConnection, key: ValetKey) -> int:
    bearer = (b"authorization", f"Bearer {key.value}".encode())
    stream = caller.open("POST", CHAT, bearer, JSON, body=ENDLESS)
    caller.until(lambda: b"data:" in caller.bodies[stream])
    return stream


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_revoke_resets_the_streams_of_that_key_alone(
    server: RunningServer, secured: Secured, tls: bool
) -> None:
    house = secured.server if tls else server
    dead, alive = house.issue("openai"), house.issue("openai")
    with SecondConnection(house.gateway_port, tls=house.trust() if tls else None) as caller:
        cut = [endless(caller, dead) for _ in range(5)]
        kept = endless(caller, alive)
        answer = house.stop_key(dead)
        assert answer["cut"] == 5
        caller.until(lambda: set(cut) <= set(caller.resets))
        assert not set(cut) & caller.ended and kept not in caller.resets
        there = {stream: len(caller.bodies[stream]) for stream in cut}
        before = len(caller.bodies[kept])
        caller.until(lambda: len(caller.bodies[kept]) > before + 500)
        assert {stream: len(caller.bodies[stream]) for stream in cut} == there
        refused = caller.ask("GET", MODELS, (b"authorization", f"Bearer {dead.value}".encode()))
        assert refused.code == "REVOKED"
    ends = {event["end"] for event in house.closed_events(dead, 6) if event["code"] == "VALID"}
    assert ends == {"cut_by_revoke"}


def test_rapid_reset_is_ended_and_leaves_no_call_open(server: RunningServer) -> None:
    with RawUpstream(silent(20)) as upstream:
        name = server.open_service(REAL, base_url=upstream.url)
        key = server.issue(name)
        bearer = (b"authorization", f"Bearer {key.value}".encode())

        def take_back_on_and_on(caller: SecondConnection) -> None:
            for _ in range(5000):
                caller.take_back(caller.open("GET", f"/{name}/a", bearer))
            caller.until(lambda: False)

        with SecondConnection(server.gateway_port) as caller, pytest.raises((CutOff, ProtocolError, OSError)):
            take_back_on_and_on(caller)
        assert server.call("GET", "/healthz").status == 200
        # Most were never seen by anybody; those that were have ended.
        eventually(lambda: {event["end"] for event in server.events(key)} <= {"client_gone"})
        assert len(server.events(key)) < 1100


def test_an_upload_that_is_cut_is_whole_to_nobody(server: RunningServer) -> None:
    with RawUpstream(with_length(b"ok")) as upstream:
        name = server.open_service(REAL, base_url=upstream.url)
        key = server.issue(name)
        bearer = (b"authorization", f"Bearer {key.value}".encode())
        with SecondConnection(server.gateway_port) as caller:
            stream = caller.begin("POST", f"/{name}/a", bearer)
            caller.send(stream, b"x" * 200_000)
            eventually(lambda: len(upstream.heads) == 1)
            server.stop_key(key)
            assert caller.answer(stream).code == "REVOKED"
        eventually(lambda: upstream.cut == 1)
        assert upstream.bodies == []


def test_a_caller_that_takes_its_call_back_takes_it_back_from_the_upstream(server: RunningServer) -> None:
    with RawUpstream(chunked(*[b"x" * 100] * 100, pause=0.05)) as upstream:
        name = server.open_service(REAL, base_url=upstream.url)
        key = server.issue(name)
        with SecondConnection(server.gateway_port) as caller:
            stream = caller.open("GET", f"/{name}/a", (b"authorization", f"Bearer {key.value}".encode()))
            caller.until(lambda: caller.bodies[stream])
            caller.take_back(stream)
            eventually(lambda: upstream.cut == 1)
            # The connection goes on.
            assert caller.ask("GET", "/healthz").status == 200
        (event,) = server.closed_events(key, 1)
        assert event["end"] == "client_gone"


def test_an_upstream_that_breaks_off_breaks_the_stream_off(server: RunningServer) -> None:
    broken = Reply((b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",), then="close")
    with RawUpstream(broken) as upstream:
        name = server.open_service(REAL, base_url=upstream.url)
        key = server.issue(name)
        with SecondConnection(server.gateway_port) as caller:
            stream = caller.open("GET", f"/{name}/a", (b"authorization", f"Bearer {key.value}".encode()))
            with pytest.raises(CutOff):
                caller.answer(stream)
            assert caller.ask("GET", "/healthz").status == 200


def test_an_upload_of_unknown_length_reaches_the_upstream_as_it_came(server: RunningServer) -> None:
    with RawUpstream(with_length(b"ok")) as upstream:
        name = server.open_service(REAL, base_url=upstream.url)
        key = server.issue(name)
        body = bytes(range(256)) * 4000
        with SecondConnection(server.gateway_port) as caller:
            stream = caller.begin("POST", f"/{name}/a", (b"authorization", f"Bearer {key.value}".encode()))
            caller.send(stream, body, last=True)
            assert caller.answer(stream).body == b"ok"
        whole, rest = b"", upstream.bodies[0]
        while size := int(rest.partition(b"\r\n")[0], 16):
            rest = rest.partition(b"\r\n")[2]
            whole, rest = whole + rest[:size], rest[size + 2 :]
        assert whole == body


def test_ending_the_server_answers_what_is_open_refuses_what_is_new_and_says_goodbye() -> None:
    slow = Reply((0.6, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    with RawUpstream(slow) as upstream, RunningServer() as house:
        name = house.open_service(REAL, base_url=upstream.url)
        bearer = (b"authorization", f"Bearer {house.issue(name).value}".encode())
        with SecondConnection(house.gateway_port) as caller:
            stream = caller.open("GET", f"/{name}/a", bearer)
            eventually(lambda: upstream.heads)
            house.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            late = caller.open("GET", f"/{name}/a", bearer)
            assert caller.answer(stream).body == b"ok"
            caller.until(lambda: late in caller.resets and caller.goodbye is not None)
            assert (caller.resets[late], caller.goodbye) == (7, 0)


def test_many_calls_at_once_on_one_connection_stay_apart(server: RunningServer) -> None:
    with RawUpstream(with_length(b"ok")) as upstream:
        name = server.open_service(REAL, base_url=upstream.url)
        keys = [server.issue(name) for _ in range(4)]
        with SecondConnection(server.gateway_port) as caller:
            streams = {}
            for number in range(80):
                bearer = (b"authorization", f"Bearer {keys[number % 4].value}".encode())
                streams[number] = caller.open(
                    "POST", f"/{name}/{number}", bearer, JSON, body=json.dumps({"n": number}).encode()
                )
            assert {caller.answer(stream).body for stream in streams.values()} == {b"ok"}
        assert sorted(upstream.targets) == sorted(f"/{number}".encode() for number in range(80))
        sent = dict(zip(upstream.targets, upstream.bodies, strict=False))
        assert len(sent) == 80
