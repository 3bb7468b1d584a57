"""Names of parties that would be taken for an option, or for another party, are refused by every way they come."""

from __future__ import annotations

import pytest

from running_server import Refused, RunningServer

pytestmark = pytest.mark.real


def test_a_name_that_looks_like_an_option_is_refused(server: RunningServer) -> None:
    for path, body in (
        ("/parties", {"name": "-x", "kind": "person"}),
        ("/keys", {"service": "github", "holder": "--json"}),
    ):
        with pytest.raises(Refused) as refused:
            server.manage("POST", path, body)
        assert refused.value.status == 400
        assert "not beginning with -" in refused.value.problem["next_step"]


@pytest.mark.parametrize(
    ("there", "twin"),
    [
        ("marlene", "Marlene"),
        ("Zoë", "ZOË"),
        ("Jürgen", "jÜrgen"),
        ("straßen", "STRASSEN"),
        ("STRASSE", "straße"),
        ("\N{KELVIN SIGN}arl", "karl"),
        ("kurt", "\N{KELVIN SIGN}urt"),
        ("Ren\u00e9", "Rene\u0301"),
        ("andre\u0301", "ANDR\u00c9"),
    ],
)
def test_a_name_that_looks_like_another_is_refused_and_says_which(
    server: RunningServer, there: str, twin: str
) -> None:
    server.manage("POST", "/parties", {"name": there, "kind": "person"})
    for path, body in (
        ("/parties", {"name": twin, "kind": "person"}),
        ("/keys", {"service": "github", "holder": twin}),
    ):
        with pytest.raises(Refused) as refused:
            server.manage("POST", path, body)
        assert (refused.value.status, refused.value.problem["code"]) == (409, "CONFLICT")
        assert f"named {there!r}" in refused.value.problem["detail"]
    assert server.manage("POST", "/keys", {"service": "github", "holder": there})["holder"] == there
