"""Whoever has no working key learns nothing, fills no disk and stands in nobody's way."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import pytest

from e2e.conftest import StandIns
from running_server import Answer, RunningServer, ask, eventually
from standins.running import made_up_key

pytestmark = pytest.mark.real

MODELS = "/openai/v1/models"


@pytest.fixture(scope="module")
def quiet(standins: StandIns) -> Iterator[RunningServer]:
    """One worker, so that one bucket counts an address."""
    with RunningServer() as running_server:
        standins.connect(running_server)
        yield running_server


def alike(answer: Answer) -> tuple[int, list[tuple[str, str]], dict[str, object]]:
    """All of an answer but what names the call and the time."""
    body = dict(answer.json)
    body.pop("call")
    return answer.status, [(n, v) for n, v in answer.headers if n.lower() != "date"], body


def test_all_that_is_not_known_looks_alike(quiet: RunningServer) -> None:
    key = quiet.issue("openai")
    broken = key.value[:-1] + ("A" if key.value[-1] != "A" else "B")
    here = "127.0.0.11"
    answers = {
        "unknown service": quiet.call("GET", "/nobody/v1/models", key, source=here),
        "reserved name": quiet.call("GET", "/metrics/v1/models", key, source=here),
        "no service at all": quiet.call("GET", "/", key, source=here),
        "other service's key": quiet.call("GET", "/stripe/v1/balance", key, source=here),
        "other host": quiet.call("GET", "/openai:elsewhere/v1/models", key, source=here),
        "bad checksum": quiet.call("GET", MODELS, broken, source=here),
        "unknown key": quiet.call("GET", MODELS, made_up_key("vk_prv_", 49), source=here),
        "no key of ours": quiet.call("GET", MODELS, "sk-test-something", source=here),
        "bad checksum at nobody's": quiet.call("GET", "/nobody/", broken, source=here),
    }
    first = alike(answers["unknown key"])
    assert first[2]["code"] == "UNKNOWN_KEY"
    assert {name: alike(answer) for name, answer in answers.items()} == dict.fromkeys(answers, first)


def test_a_service_that_exists_refuses_the_same_faults_in_the_same_way(quiet: RunningServer) -> None:
    here = "127.0.0.12"
    for service in ("openai", "nobody"):
        for path, method in ((f"/{service}/a//b", "GET"), (f"/{service}/a", "TRACE")):
            assert quiet.call(method, path, "vk_x", source=here).code in ("PATH_REFUSED", "METHOD_REFUSED")
        assert quiet.call("GET", f"/{service}/a", source=here).code == "MALFORMED"
        large = {"Content-Length": "999999999999"}
        end = quiet.connect(here)
        end.request("POST", f"/{service}/a", headers={"Authorization": "Bearer vk_x", **large})
        assert end.getresponse().headers["x-valetkey-code"] == "TOO_LARGE"
        end.close()


def test_the_journal_keeps_the_true_code_of_a_key_at_another_service(quiet: RunningServer) -> None:
    key = quiet.issue("openai")
    assert quiet.call("GET", "/stripe/v1/balance", key, source="127.0.0.13").code == "UNKNOWN_KEY"
    (event,) = quiet.closed_events(key, 1)
    assert (event["key_id"], event["service"]) == (key.id, "stripe")


def test_three_hundred_unusable_keys_are_twenty_records_and_some_are_throttled(quiet: RunningServer) -> None:
    here = "127.0.0.20"
    key = quiet.issue("openai")
    begun = time.time()
    codes: Counter[str] = Counter()
    connection = quiet.connect(here)
    while sum(codes.values()) < 300:
        codes[ask(connection, "GET", MODELS, "vk_prv_nobody").code] += 1
    took = time.time() - begun
    connection.close()
    assert set(codes) <= {"UNKNOWN_KEY", "THROTTLED"}
    # a bucket of a hundred that refills by a hundred a second
    assert codes["UNKNOWN_KEY"] <= 101 + 100 * took
    if took < 1.5:
        assert codes["THROTTLED"] > 0
    recorded = [event for event in quiet.events(since="1h") if event["address"] == here]
    assert 0 < sum(event["count"] == 1 for event in recorded) <= 20
    good = quiet.call("GET", MODELS, key, source=here)
    assert good.status == 200


def test_a_throttled_caller_is_told_to_wait(quiet: RunningServer) -> None:
    connection = quiet.connect("127.0.0.21")

    def throttled() -> Answer | None:
        answers = [ask(connection, "GET", MODELS, "vk_prv_nobody") for _ in range(200)]
        return next((answer for answer in answers if answer.code == "THROTTLED"), None)

    answer = eventually(throttled, 20.0)
    connection.close()
    assert answer is not None and answer.status == 429
    assert int(answer.header("retry-after") or 0) >= 1


def test_one_address_does_not_use_up_anothers_patience(quiet: RunningServer) -> None:
    connection = quiet.connect("127.0.0.22")
    for _ in range(300):
        ask(connection, "GET", MODELS, "vk_prv_nobody")
    connection.close()
    assert quiet.call("GET", MODELS, "vk_prv_nobody", source="127.0.0.23").code == "UNKNOWN_KEY"


def test_an_unusable_key_is_nowhere_in_the_home(quiet: RunningServer) -> None:
    value = made_up_key("vk_prv_", 49)
    quiet.call("GET", MODELS, value, source="127.0.0.24")
    quiet.call(
        "GET", f"/openai/{value}?key={value}", value, source="127.0.0.24", headers={"User-Agent": value}
    )
    real = quiet.issue("openai")
    quiet.call("GET", MODELS, real)
    for file in quiet.home.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert value.encode() not in content, file
            assert real.value.encode() not in content, file
    assert value not in quiet.errors
