"""Which code a call gets, slowly: every check in the order of the codes, every policy gone through anew.

Keys, policies and calls are plain dicts of strings; imports nothing of the code under test.
"""

from __future__ import annotations

from typing import Any

from models import address_model, endpoint_model, origin_model, schedule_model

DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def verdict(key: dict[str, Any] | None, call: dict[str, Any], wall: float) -> str:
    """Code of one call. `key`: service, locked, standings, policies (own first), networks by name, wide."""
    if key is None:
        return "UNKNOWN_KEY"
    if call["service"] != key["service"]:
        return "SERVICE_DENIED"
    if any(standing["state"] == "revoked" for standing in key["standings"]):
        return "REVOKED"
    if any(standing["state"] == "suspended" for standing in key["standings"]):
        return "SUSPENDED"
    if any(standing["expires"] is not None and wall >= standing["expires"] for standing in key["standings"]):
        return "EXPIRED"
    if key["locked"]:
        return "SERVICE_LOCKED"
    for code, passes in (
        ("NETWORK_DENIED", lambda policy: networks(policy, call, key["networks"])),
        ("ORIGIN_DENIED", lambda policy: origins(policy, call)),
        ("HOST_DENIED", lambda policy: hosts(policy, call)),
        ("ENDPOINT_DENIED", lambda policy: endpoints(policy, call, key["wide"])),
        ("SCHEDULE_DENIED", lambda policy: schedule(policy, wall)),
    ):
        if not all(passes(policy) for policy in key["policies"]):
            return code
    return "VALID"


def networks(policy: dict[str, Any], call: dict[str, Any], named: dict[str, list[str]]) -> bool:
    if "networks" not in policy:
        return True
    sent = None if call["address"] is None else address_model.bits(call["address"])
    if sent is None:
        return False
    blocks = [block for entry in policy["networks"] for block in named.get(entry, [entry])]
    for block in blocks:
        text, slash, length = block.partition("/")
        block_bits = address_model.bits(text)
        assert block_bits is not None
        if address_model.in_block(sent, block_bits, int(length) if slash else len(block_bits)):
            return True
    return False


def origins(policy: dict[str, Any], call: dict[str, Any]) -> bool:
    return "origins" not in policy or origin_model.allowed(policy["origins"], call["origin"])


def hosts(policy: dict[str, Any], call: dict[str, Any]) -> bool:
    return "hosts" not in policy or call["host"] in policy["hosts"]


def endpoints(policy: dict[str, Any], call: dict[str, Any], wide: list[str]) -> bool:
    allow, deny = policy.get("allow"), policy.get("deny")
    if allow is None and deny is None and not wide:
        return True
    if call["method"] is None or call["path"] is None:
        return False
    return endpoint_model.allowed(
        [rule(text) for text in allow or []],
        [rule(text) for text in deny or []],
        [rule(text) for text in wide],
        call["method"],
        call["host"],
        tuple(call["path"][1:].split("/")),
    )


def rule(text: str) -> endpoint_model.Rule:
    """``GET,POST /a/*`` or ``/a/**``."""
    methods, space, path = text.rpartition(" ")
    return endpoint_model.Rule(
        frozenset(methods.split(",")) if space else None, None, tuple(path[1:].split("/"))
    )


def schedule(policy: dict[str, Any], wall: float) -> bool:
    if "schedule" not in policy:
        return True
    windows = []
    for text in policy["schedule"]:
        days, times, zone = text.split()
        first, _, last = days.partition("-")
        span = range(DAYS.index(first), DAYS.index(last or first) + 1)
        begin, end = (int(time[:2]) * 60 + int(time[3:]) for time in times.split("-"))
        windows.append(schedule_model.Window(frozenset(span), begin, end, zone))
    return schedule_model.open_at(windows, wall)
