"""The restriction to some of a service's upstream hosts."""

from __future__ import annotations

import msgspec
import pytest

from valetkey.decision.call import Call
from valetkey.decision.path import judge_path
from valetkey.decision.restrictions import AnyRestriction, CompileContext, Hosts, InvalidRestriction


def allows(hosts: Hosts, host: str | None) -> bool:
    return hosts.compile(CompileContext())(Call("GET", judge_path(b"/"), host=host), 0.0)


def test_only_the_named_hosts_pass() -> None:
    hosts = Hosts(("api.example.com", "files.example.com:8443"))
    assert allows(hosts, "api.example.com")
    assert allows(hosts, "files.example.com:8443")
    for other in (
        "example.com",
        "x.api.example.com",
        "api.example.com.",
        "files.example.com",
        "API.example.com",
        "",
    ):
        assert not allows(hosts, other)


def test_a_call_that_names_no_host_is_refused() -> None:
    assert not allows(Hosts(("api.example.com",)), None)


def test_names_are_kept_in_lower_case() -> None:
    assert Hosts(("API.Example.com",)).allow == ("api.example.com",)


@pytest.mark.parametrize(
    "entry",
    [
        *(
            "",
            "*.example.com",
            "https://api.example.com",
            "api.example.com/",
            "api.example.com.",
            ".example.com",
        ),
        *(
            "-api.example.com",
            "api..example.com",
            "api example.com",
            "a" * 64,
            "user@example.com",
            "example.com:0",
        ),
    ],
)
def test_what_is_no_host_name_is_an_error(entry: str) -> None:
    with pytest.raises(InvalidRestriction, match="Write it as"):
        Hosts((entry,))


def test_a_name_outside_ascii_is_an_error_with_a_hint() -> None:
    with pytest.raises(InvalidRestriction, match="punycode"):
        Hosts(("bücher.example",))


def test_it_comes_back_from_json_as_it_was() -> None:
    hosts = Hosts(("api.example.com",))
    assert msgspec.json.decode(msgspec.json.encode(hosts), type=AnyRestriction) == hosts
    assert hosts.sentence() == "Only to api.example.com"
