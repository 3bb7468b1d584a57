"""One call, one code, whichever door it is asked at: gateway, verify and `key check` compared on generated calls.

Each upstream service has an own service with the same terms, each key a twin there. For every call, `key check` is
asked before it is made (it peeks), then the gateway makes it and verify is asked (they reserve); time is frozen
between, keys, services and networks change in the course of it.

Where the doors differ by design:
- The gateway tells strangers UNKNOWN_KEY and keeps the true code in its record: that is what is compared.
- An own service has no upstream host, so verify answers HOST_DENIED where a key is limited to hosts.
- The gateway's calls always have a method, a path and an address; what happens without is compared between verify
  and `key check` of a key of an own service.
- `key check` takes methods in lower case, and an address that is none is an error of the question there.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from doors_world import Doors, doors
from gateway_world import MadeKey
from long_results import Results
from running_server import RunningServer, ValetKey
from valetkey.decision.codes import Code
from valetkey.decision.limits import Budget, Limits, Quota, Rate, Volume, Window
from valetkey.decision.policy import Policy
from valetkey.decision.restrictions import Endpoints, Hosts, Networks, Origins, Schedule, Sticky
from valetkey.services.origin import Origin

pytestmark = pytest.mark.real

CALLS = 500
STORIES = 100
"""Calls of one seed; ten seeds make five thousand."""
ANSWER = 3
"""Bytes of what the upstream answers."""
BUSY = 4
"""Keys without restrictions that are called often, so that they come to their limits."""
PAIRS = 30
"""Keys with their twins in one world."""

HOSTS = {"api": Origin.parse("https://api.example.com"), "files": Origin.parse("https://files.example.com")}
PATHS = [
    "/now", "/now/", "/v1/a", "/v1/a/b", "/v1/%61", "/v1/a%2Fb", "/v1/a%2fb", "/v1//b", "//v1", "/v1/../now",
    "/v1/%2e%2e", "/v1/a;b", "/v1/a b", "/é", "/%C3%A9", "/%ff", "/%2561", "/%00", "/\\", "/", "/v1/*", "/V1/a",
    "/now?units=metric",
]  # fmt: skip
ADDRESSES = ["203.0.113.7", "203.0.113.200", "::ffff:203.0.113.7", "10.8.0.1", "2001:db8::1", "192.0.2.1"]
ORIGINS = [
    None,
    None,
    "https://app.example.com",
    "HTTPS://APP.example.com:443",
    "https://x.example.com",
    "null",
    "é",
]
METHODS = ["GET"] * 9 + ["POST", "POST", "HEAD", "PUT", "OPTIONS", "DELETE", "TRACE", "get", "BREW"]
PATTERNS = ["GET /**", "/v1/**", "GET,POST /v1/*", "POST /**", "/now", "GET /now/"]
WINDOWS = [
    "mon-fri 08:00-18:00 Europe/Berlin",
    "sat-sun 00:00-24:00 UTC",
    "mon-sun 22:00-06:00 America/New_York",
]


class Story:
    """One world and what happens in it, all from one seed."""

    def __init__(self, seed: int, house: Doors) -> None:
        self.chance = random.Random(seed)
        self.house = house
        house.add_network("office", "203.0.113.0/24", "2001:db8::/32")
        house.add_network("vpn", "10.8.0.0/16")
        house.add_network("inside", listener="10.0.0.1:8300")
        self.services = [
            house.add_pair("weather", hosts=HOSTS, price_micros=3),
            house.add_pair("storage", hosts=HOSTS, encoded_slash=True),
        ]
        self.keys: list[tuple[MadeKey, MadeKey, bool]] = []
        """Key, its twin, and whether it or an ancestor is limited to hosts."""
        self.lonely: list[MadeKey] = []
        """Keys of own services without a twin, for calls that the gateway cannot have."""
        for number in range(PAIRS):
            self.add_key(busy=number < BUSY)
        self.taken_back: list[tuple[str, str, dict[str, Any]]] = []
        self.codes: Counter[str] = Counter()

    def maybe(self, likely: float) -> bool:
        return self.chance.random() < likely

    def some(self, values: list[str], most: int = 2) -> tuple[str, ...]:
        return tuple(self.chance.sample(values, self.chance.randint(1, most)))

    def policy(self, busy: bool) -> Policy:
        restrictions: list[Any] = []
        if busy:
            return Policy((), self.limits(2.5))
        if self.maybe(0.3):
            restrictions.append(
                Networks(self.some(["office", "vpn", "inside", "192.0.2.1", "203.0.113.0/25"]))
            )
        if self.maybe(0.15):
            restrictions.append(Sticky())
        if self.maybe(0.15):
            restrictions.append(Origins(self.some(["https://app.example.com", "https://*.example.com"])))
        if self.maybe(0.1):
            restrictions.append(Hosts(self.some(["api", "files"], 1)))
        if self.maybe(0.4):
            restrictions.append(
                Endpoints(self.some(PATTERNS, 3), self.some(PATTERNS, 1) if self.maybe(0.3) else ())
            )
        if self.maybe(0.15):
            restrictions.append(Schedule(self.some(WINDOWS)))
        self.chance.shuffle(restrictions)
        return Policy(tuple(restrictions), self.limits(1))

    def limits(self, more: float) -> Limits:
        number = self.chance.randint
        return Limits(
            rate=Rate(number(1, 3), 1, number(1, 3)) if self.maybe(0.3 * more) else None,
            address_rate=Rate(1, 1, number(1, 3)) if self.maybe(0.2 * more) else None,
            concurrency=number(1, 2) if self.maybe(0.3 * more) else None,
            quotas=(Quota(number(5, 25), Window.DAY),) if self.maybe(0.2 * more) else (),
            budgets=(Budget(3 * number(0, 20), Window.HOUR),) if self.maybe(0.2 * more) else (),
            uses=number(20, 60) if self.maybe(0.1 * more) else None,
            bytes=(Volume(ANSWER * number(3, 20), Window.DAY),) if self.maybe(0.2 * more) else (),
        )

    def add_key(self, busy: bool = False) -> None:
        policy, which = self.policy(busy), self.chance.randrange(2)
        how: dict[str, Any] = (
            {} if busy else {"state": self.chance.choice(["active"] * 15 + ["suspended", "revoked"])}
        )
        if not busy and self.maybe(0.15):
            how["expires"] = self.house.clock.wall + self.chance.choice([-1, 0, 3600, 86400 * 3])
        upstream, own = self.services[which]
        hosts = policy.find(Hosts) is not None
        if hosts:
            # What verify refuses for its host pins nothing there.
            policy = Policy(tuple(r for r in policy.restrictions if not isinstance(r, Sticky)), policy.limits)
        # What verify refuses for its host is not counted at ancestors: so those must be limited to hosts too.
        family = [pair for pair in self.keys if pair[0].fact.service_id == upstream and pair[2] >= hosts]
        parents: tuple[MadeKey | None, MadeKey | None] = (None, None)
        if policy.find(Sticky) is not None:
            family = [pair for pair in family if not pair[2]]
        if family and self.maybe(0.4):
            *parents, above = self.chance.choice(family)  # type: ignore[assignment]
            hosts = hosts or above
        key, twin = (
            self.house.add_key(service, policy, parent=parent, **how)
            for service, parent in zip((upstream, own), parents, strict=True)
        )
        self.keys.append((key, twin, hosts))
        self.lonely.append(self.house.add_key(own, policy, **how))

    def change(self) -> None:
        """Something that an owner does; the last such thing is taken back first, or the story would run dry."""
        for kind, identifier, values in self.taken_back:
            self.house.change(kind, identifier, **values)
        self.taken_back = []
        match self.chance.randrange(7):
            case 0:
                state = self.chance.choice(["suspended", "revoked"])
                for key in self.chance.choice(self.keys)[:2]:
                    self.house.change("key", key.id, state=state)
                    self.taken_back.append(("key", key.id, {"state": key.fact.state}))
            case 1:
                for service in self.chance.choice(self.services):
                    self.house.change("service", service, locked=1)
                    self.taken_back.append(("service", service, {"locked": 0}))
            case 2:
                self.house.add_network(
                    "vpn", self.chance.choice(["10.8.0.0/16", "192.0.2.0/24", "203.0.113.200"])
                )
            case 3:
                self.add_key()
            case 4:
                sticky = [pair for pair in self.keys if self.house.is_sticky(pair[0])]
                for key in self.chance.choice(sticky)[:2] if sticky else ():
                    self.house.unpin(key)
            case _:
                self.house.clock.advance(self.chance.choice([0.3, 1, 60, 600, 3600, 7200]))

    def step(self) -> None:
        """One call at all doors."""
        if self.maybe(0.06):
            self.change()
        if self.maybe(0.3):
            self.house.clock.advance(self.chance.choice([0, 0.05, 0.4, 1.5]))
        key, twin, hosts = self.chance.choice(self.keys[:BUSY] if self.maybe(0.5) else self.keys)
        call: dict[str, Any] = {
            "method": self.chance.choice(METHODS),
            "path": self.chance.choice(PATHS if self.maybe(0.3) else PATHS[:4]),
            "address": self.chance.choice(ADDRESSES),
            "origin": self.chance.choice(ORIGINS),
            "listener": self.chance.choice(["127.0.0.1:8300", "10.0.0.1:8300", "10.0.0.1:8301"]),
        }
        call["bytes"] = 0 if call["method"] == "HEAD" else ANSWER
        if self.maybe(0.1):
            del call[self.chance.choice(["method", "path", "address", "listener"])]
            lonely = self.chance.choice(self.lonely)
            self.same(call, {"check": self.check(lonely, call), "verify": self.verify(lonely, call)})
            return
        host = self.chance.choice([None, None, None, "api", "api", "files", "elsewhere"])
        codes = {"check": self.check(key, call, host), "gateway": self.gateway(key, call, host)}
        if host != "elsewhere":
            told = self.verify(twin, call)
            if not hosts:
                codes["verify"] = told
                self.same({**call, "host": host}, codes)
                return
            # Up to the question of the host all is the same; from there on it is the answer.
            order = list(Code)
            before = order.index(Code(codes["gateway"])) < order.index(Code.HOST_DENIED)
            assert told == (codes["gateway"] if before else "HOST_DENIED"), call
        self.same({**call, "host": host}, codes)

    def same(self, call: dict[str, Any], codes: dict[str, str]) -> None:
        assert len(set(codes.values())) == 1, f"{codes} for {json.dumps(call)}"
        self.codes[next(iter(codes.values()))] += 1

    # -- the doors

    def check(self, key: MadeKey, call: dict[str, Any], host: str | None = None) -> str:
        if call.get("method") == "get":
            call = {**call, "method": "BREW"}  # taken as GET here, for people; refused at the other doors
        return self.house.check(key, **call, host=host).code

    def gateway(self, key: MadeKey, call: dict[str, Any], host: str | None) -> str:
        name = key.fact.service_id.removeprefix("svc_")
        world = self.house.world
        world.gateway.floods.close()  # each call is judged as the first of its address: counting has its own tests
        before = world.journal.count
        origin = call["origin"]
        answer = world.call(
            key,
            f"/{name}{'' if host is None else ':' + host}{call['path']}",
            method=call["method"],
            address=call["address"],
            listener=call["listener"],
            headers=[] if origin is None else [("origin", origin.encode().decode("latin-1"))],
        )
        assert world.journal.count == before + 2
        code = str(world.last_records(2)[0]["code"])
        assert answer.code == ("UNKNOWN_KEY" if code == "SERVICE_DENIED" else code)
        return code

    def verify(self, twin: MadeKey, call: dict[str, Any]) -> str:
        answer = self.house.verify(twin, **call)
        assert answer["valid"] == (answer["code"] == "VALID")
        return str(answer["code"])


@pytest.mark.parametrize("seed", range(1, 11))
def test_the_three_doors_give_every_call_the_same_code(seed: int, tmp_path: Path) -> None:
    tell(seed, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_the_three_doors_agree_over_many_stories(tmp_path: Path, results: Results) -> None:
    codes: Counter[str] = Counter()
    for seed in range(11, 11 + STORIES):
        codes += tell(seed, tmp_path / str(seed))
    results.note(
        f"{STORIES} stories of {CALLS} calls: gateway, verify and key check gave the same code for each; "
        f"{len(codes)} codes, {codes['VALID']:,} times VALID"
    )


def tell(seed: int, folder: Path) -> Counter[str]:
    """One story; the codes that it met."""
    folder.mkdir(exist_ok=True)
    with ExitStack() as stack:
        # Addresses fall on cells by a random key, and two that share one share its rate: with the story's own
        # key they fall alike each time it is told.
        with mock.patch("valetkey.gateway.counters_file.os.urandom", random.Random(seed).randbytes):
            house = stack.enter_context(doors(folder))
        story = Story(seed, house)
        for number in range(CALLS):
            try:
                story.step()
            except AssertionError as difference:
                pytest.fail(f"seed {seed}, call {number}: {difference}")
    # The story is no good if it never meets what it is about.
    limits = {"USES_EXHAUSTED", "RATE_LIMITED", "CONCURRENCY_LIMITED", "QUOTA_EXCEEDED", "BUDGET_EXCEEDED"}
    assert story.codes["VALID"] > CALLS // 20, story.codes
    assert sum(story.codes[code] for code in limits) > CALLS // 50, story.codes
    assert len(story.codes) >= 11, story.codes
    return Counter({str(code): number for code, number in story.codes.items()})


def test_strangers_are_told_less_by_the_gateway_than_a_service_is(tmp_path: Path) -> None:
    with doors(tmp_path) as house:
        weather, own = house.add_pair("weather")
        foreign, unknown = house.add_key(weather), house.add_key(own)
        assert house.world.call(unknown, "/weather/now").code == "UNKNOWN_KEY"
        assert house.world.last_records(2)[0]["code"] == "SERVICE_DENIED"
        stranger = MadeKey(foreign.id, foreign.value, unknown.fact)
        assert house.verify(stranger, method="GET", path="/now")["code"] == "SERVICE_DENIED"
        nobody = MadeKey("", foreign.value[:-1] + "~", unknown.fact)
        assert house.verify(nobody, method="GET", path="/now")["code"] == "UNKNOWN_KEY"
        assert house.world.call(nobody.value, "/weather/now").code == "UNKNOWN_KEY"


def test_open_calls_count_at_every_door(tmp_path: Path) -> None:
    """While calls are open at the gateway, `key check` says what it would: as many are open as may be."""
    with doors(tmp_path) as house:
        weather, _ = house.add_pair("weather")
        key = house.add_key(weather, Policy(limits=Limits(concurrency=1)))
        entry = house.world.index.get(key.id)
        assert entry is not None
        held = house.world.counters.reserve(
            house.world.index.compiled(entry).plan, 0, house.clock.now(), b"\0" * 4
        )
        assert house.check(key, method="GET", path="/now").code == "CONCURRENCY_LIMITED"
        assert house.world.call(key).code == "CONCURRENCY_LIMITED"
        house.world.counters.give_back(held, house.clock.now())  # type: ignore[arg-type]
        assert house.check(key, method="GET", path="/now").code == "VALID"
        assert house.world.call(key).code == "VALID"


TERMS: list[dict[str, Any]] = [
    {},
    {"networks": ["127.0.0.1"]},
    {"endpoints": ["GET /v1/models"]},
    {"endpoints": ["/v1/**"], "deny_endpoints": ["GET /v1/models"]},
    {"origins": ["https://app.example.com"]},
    {"schedule": "mon-sun 00:00-24:00 UTC"},
    {"quotas": ["9/day"]},
    {"uses": 4},
    {"networks": ["10.0.0.0/8"], "endpoints": ["POST /**"], "uses": 1},
]


def test_a_running_server_gives_the_same_codes(server: RunningServer) -> None:
    """A sample over sockets and processes: what is compared above in one process holds there too."""
    chance = random.Random(7)
    server.manage("POST", "/services", {"name": "doors-own", "own": True})
    credential = server.manage("POST", "/services/doors-own/credential", {})["credential"]
    pairs = [(server.issue("openai", **terms), server.issue("doors-own", **terms)) for terms in TERMS]
    for how in ("suspend", "revoke"):
        pair = (server.issue("openai"), server.issue("doors-own"))
        for key in pair:
            server.stop_key(key, how)
        pairs.append(pair)
    met = set()
    for number in range(150):
        key, twin = chance.choice(pairs)
        call: dict[str, Any] = {
            "method": chance.choice(["GET", "GET", "GET", "DELETE", "TRACE"]),
            "path": chance.choice(
                ["/v1/models", "/v1/models", "/v1/%6Dodels", "/v1/../models", "/v1/a%2Fb", "/v1/a;b"]
            ),
            "address": chance.choice(["127.0.0.1", "127.0.0.2"]),
            "origin": chance.choice([None, "https://app.example.com", "https://evil.example.com"]),
        }
        codes = codes_of_running(server, credential, key, twin, call)
        assert len(set(codes)) == 1, (
            f"call {number}: check, gateway, verify said {codes} for {json.dumps(call)}"
        )
        met.add(codes[0])
    assert len(met) >= 9, met


def codes_of_running(
    server: RunningServer, credential: str, key: ValetKey, twin: ValetKey, call: dict[str, Any]
) -> tuple[str, str, str]:
    checked = server.manage("POST", f"/keys/{key.id}/check", call)["code"]
    headers = {} if call["origin"] is None else {"Origin": call["origin"]}
    made = server.call(
        call["method"], f"/openai{call['path']}", key, headers=headers, source=call["address"]
    ).header("x-valetkey-code")
    body = json.dumps({"key": twin.value, **call})
    asked = server.call("POST", "/v1/verify", credential, body=body).json["code"]
    return checked, made or "VALID", asked
