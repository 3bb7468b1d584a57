"""What proxies say of a caller stands in the record where they are believed, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway_world import gateway_world
from valetkey.journal.chain import personal_path

CHAIN = "198.51.100.9, 203.0.113.7"


def recorded(folder: Path, *trusted: str, **call: Any) -> dict[str, Any]:
    """The fields beside the record of one call that came with a forwarding chain."""
    with gateway_world(folder, trusted_proxy=trusted) as world:
        world.add_service()
        world.call(world.add_key(), headers=[("x-forwarded-for", CHAIN)], **call)
        (line,) = personal_path(world.folder, world.name).read_bytes().splitlines()
    fields: dict[str, Any] = msgspec.json.decode(line[line.index(b"{") :])
    return fields


@pytest.mark.parametrize("path", ["/weather/now", "/nothing/here"])
def test_a_trusted_proxys_whole_chain_stands_beside_the_record(tmp_path: Path, path: str) -> None:
    fields = recorded(tmp_path, "127.0.0.0/8", path=path)
    assert (fields["forwarded"], fields["address"]) == (CHAIN, "203.0.113.7")


def test_without_a_trusted_proxy_a_chain_is_hearsay_and_not_recorded(tmp_path: Path) -> None:
    fields = recorded(tmp_path)
    assert (fields.get("forwarded"), fields["address"]) == (None, "127.0.0.1")


def test_a_chain_of_headers_that_come_apart_is_recorded_as_one(tmp_path: Path) -> None:
    with gateway_world(tmp_path, trusted_proxy=("127.0.0.0/8",)) as world:
        world.add_service()
        world.call(world.add_key(), headers=[("x-forwarded-for", part) for part in CHAIN.split(", ")])
        assert CHAIN.encode() in personal_path(world.folder, world.name).read_bytes()
