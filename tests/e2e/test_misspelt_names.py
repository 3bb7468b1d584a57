"""A name that is nearly right is answered with the one that was meant."""

from __future__ import annotations

from typing import Any

import pytest

from running_server import Refused, RunningServer

pytestmark = pytest.mark.real


def _next_step(server: RunningServer, method: str, path: str, body: Any = None) -> str:
    with pytest.raises(Refused) as refused:
        server.manage(method, path, body)
    return str(refused.value.problem["next_step"])


def test_a_service_that_is_misspelt_is_guessed(server: RunningServer) -> None:
    meant = "Did you mean 'github'? See: valetkey service list"
    assert _next_step(server, "GET", "/services/gihub") == meant
    assert _next_step(server, "POST", "/keys", {"service": "gihub"}) == meant
    assert _next_step(server, "GET", "/services/zzzzzzzz") == "See: valetkey service list"


def test_a_party_that_is_misspelt_is_guessed(server: RunningServer) -> None:
    server.manage("POST", "/parties", {"name": "johanna", "kind": "person"})
    erase = _next_step(server, "POST", "/audit/erase", {"party": "johana"})
    assert erase == "Did you mean 'johanna'? See: valetkey party list"


def test_a_network_that_is_misspelt_is_guessed(server: RunningServer) -> None:
    server.manage("POST", "/networks", {"name": "office", "blocks": ["203.0.113.0/24"]})
    body = {"service": "github", "terms": {"networks": ["ofice"]}}
    assert _next_step(server, "POST", "/keys", body) == "Did you mean 'office'?"
