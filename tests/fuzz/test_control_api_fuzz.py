"""Schemathesis asks the control API of a real server for what its own document says it takes, and for what not."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from attack.target import SECRET
from long_results import Results
from running_server import RunningServer

pytestmark = pytest.mark.real

CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
    negative_data_rejection,
]  # fmt: skip
ENDLESS = "/api/v1/events/stream"
"""Answers for as long as somebody listens."""
SEED = int(os.environ.get("FUZZ_SEED", "20261125"))


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with RunningServer() as made:
        yield made


class Asker:
    """Asks as a program with a token, and half of the time about things that there are."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.asked: Counter[int] = Counter()
        self._base = f"http://127.0.0.1:{server.control_port}"
        token = server.manage("POST", "/tokens", {"party": "fuzzer"})
        self._headers = {"Authorization": f"Bearer {token['token']}"}
        document = server.manage("GET", "/openapi.json")
        self.schema = schemathesis.openapi.from_dict(document)
        self.known = self.things()

    def things(self) -> dict[str, str]:
        """Something of every kind, made anew when it was used up."""
        service = self.server.open_service(SECRET, base_url="https://example.com")
        key = self.server.issue(service)
        return {"name": service, "service": service, "key_id": key.id}

    def ask(self, case: Any, real: bool) -> None:
        if real and case.path_parameters:
            case.path_parameters = {
                name: self.known.get(name, value) for name, value in case.path_parameters.items()
            }
        response = case.call(base_url=self._base, headers=self._headers, timeout=30)
        self.asked[response.status_code] += 1
        checks = [check for check in CHECKS if check is not negative_data_rejection]
        # Schemathesis does not know that 421, a Host that is not ours (RFC 9110, section 15.5.20), refuses too.
        if response.status_code != 421 and is_sent(case.query):
            checks.append(negative_data_rejection)
        case.validate_response(response, checks=checks)


def is_sent(query: dict[str, Any] | None) -> bool:
    """Whether a query is on the wire what it is to Schemathesis: what has no value leaves no trace, however wrong its
    name, and a list of one is its one."""
    return not any(
        value is None or (isinstance(value, list | dict) and len(value) < 2)
        for value in (query or {}).values()
    )


def fuzz(asker: Asker, examples: int) -> int:
    """So many requests of each kind that the document tells of; how many kinds there are."""
    kinds = 0
    for found in asker.schema.get_all_operations():
        operation = found.ok()
        if operation.path == ENDLESS:
            continue
        kinds += 1
        cases = operation.as_strategy() | operation.as_strategy(
            generation_mode=schemathesis.GenerationMode.NEGATIVE
        )

        @hypothesis.seed(SEED)
        @hypothesis.settings(
            max_examples=examples, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=cases, real=st.booleans())
        def run(case: Any, real: bool) -> None:
            asker.ask(case, real)

        run()
        asker.known = asker.things()
    return kinds


def test_no_request_that_the_document_allows_or_forbids_breaks_the_api(server: RunningServer) -> None:
    asker = Asker(server)
    pids = [server.control_pid, *server.worker_pids()]
    assert fuzz(asker, 6) > 40
    assert asker.asked[200] and asker.asked[201] and asker.asked[400] and asker.asked[404]
    assert [server.control_pid, *server.worker_pids()] == pids


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_no_request_among_very_many_breaks_the_api(server: RunningServer, results: Results) -> None:
    asker = Asker(server)
    kinds = fuzz(asker, 400)
    statuses = ", ".join(f"{count:,} times {status}" for status, count in sorted(asker.asked.items()))
    results.note(
        f"{asker.asked.total():,} requests of {kinds} kinds, seed {SEED}: {statuses}; each as the document says"
    )
