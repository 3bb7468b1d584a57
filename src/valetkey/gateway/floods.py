"""Refusals by the thousand: recorded singly at first, then counted; those of unusable keys throttled besides.

Only MALFORMED and UNKNOWN_KEY fill an address's bucket, so a caller with a working key is never throttled by
what strangers send.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from valetkey.decision.address import Address
from valetkey.decision.call import Decision, Now
from valetkey.decision.codes import CODES, Code
from valetkey.gateway.node import Node
from valetkey.journal.records import Flood, Personal

SINGLE_A_MINUTE = 20
"""So many are recorded one by one in each minute; an honest typo is seen, a flood does not fill the disk."""
SINGLE_IN_ALL = 400
"""So many of all addresses together in each minute: whoever has a million addresses fills no disk either."""
NAMED_A_MINUTE = 400
"""Addresses that are counted by name in each minute; the calls of all others are counted together."""
KEYED_A_MINUTE = 1_000
"""So many refusals of one key are recorded one by one in each minute: a public key is in everybody's hands."""
BUCKET_A_SECOND = 100
"""More unusable keys a second from one address are answered THROTTLED."""
MAX_ADDRESSES = 10_000
"""Addresses remembered; the ones unseen for longest are forgotten first, so memory stays bounded."""
MINUTE = 60.0


class Verdict(NamedTuple):
    """What to do with one more stranger."""

    record_singly: bool
    throttled: Decision | None


class _Bucket:
    __slots__ = ("arrival", "counted", "last", "minute", "single")

    def __init__(self, now: Now) -> None:
        self.minute = now.wall
        self.single = 0
        self.counted: dict[Code, int] = {}
        self.last = now.wall
        self.arrival = 0
        """Theoretical arrival time of the bucket, nanoseconds of the monotonic clock."""


class _Keyed:
    __slots__ = ("counted", "service", "single")

    def __init__(self, service: str | None) -> None:
        self.service = service
        self.single = 0
        self.counted: dict[Code, int] = {}


class Floods:
    """Buckets by address (IPv6: by /64)."""

    def __init__(self, node: Node, new_call_id: Callable[[float], str]) -> None:
        self._node = node
        self._new_call_id = new_call_id
        self._buckets: OrderedDict[tuple[int, int], _Bucket] = OrderedDict()
        self._minute = 0.0
        """When the minute of all addresses together began."""
        self._single = 0
        self._named = 0
        self._others: dict[Code, int] = {}
        """What was counted of addresses that are not named, by code."""
        self._keyed: dict[str, _Keyed] = {}
        """Refusals of this minute by key."""

    def meet(self, address: Address, now: Now, *, fills: bool = True) -> Verdict:
        """One more call of a stranger from that address; `fills`: with an unusable key, so that it is throttled."""
        bucket = self._bucket(address, now)
        if _is_over(bucket.minute, now):
            self._settle(_place(address), bucket)
            bucket.minute, bucket.single = now.wall, 0
        interval = 1_000_000_000 // BUCKET_A_SECOND
        ahead = max(bucket.arrival - now.monotonic, 0)
        throttled = None
        if not fills:
            pass
        elif ahead > interval * (BUCKET_A_SECOND - 1):
            wait = (ahead - interval * (BUCKET_A_SECOND - 1)) / 1e9
            throttled = Decision(Code.THROTTLED, CODES[Code.THROTTLED].sentence, None, None, wait)
        else:
            bucket.arrival = now.monotonic + ahead + interval
        self._turn_minute(now)
        if bucket.single < SINGLE_A_MINUTE and self._single < SINGLE_IN_ALL:
            bucket.single += 1
            self._single += 1
            return Verdict(True, throttled)
        return Verdict(False, throttled)

    def meet_key(self, key_id: str, service: str | None, code: Code, now: Now) -> bool:
        """One more refusal of a key of the service: whether it is recorded by itself, else it is counted here."""
        self._turn_minute(now)
        keyed = self._keyed.get(key_id)
        if keyed is None:
            keyed = self._keyed[key_id] = _Keyed(service)
        if keyed.single < KEYED_A_MINUTE:
            keyed.single += 1
            return True
        keyed.counted[code] = keyed.counted.get(code, 0) + 1
        return False

    def count(self, address: Address, code: Code, now: Now) -> None:
        """Count instead of recording."""
        bucket = self._bucket(address, now)
        counted = bucket.counted
        if not counted:
            if self._named >= NAMED_A_MINUTE:
                counted = self._others
            else:
                self._named += 1
        counted[code] = counted.get(code, 0) + 1
        bucket.last = now.wall

    def sweep(self, now: Now) -> None:
        """Write the counted records of every minute that is over, one a code. Called about once a second."""
        for place, bucket in list(self._buckets.items()):
            if _is_over(bucket.minute, now):
                self._settle(place, bucket)
                del self._buckets[place]
        self._turn_minute(now)

    def close(self) -> None:
        """Write what is counted, at the end."""
        for place, bucket in self._buckets.items():
            self._settle(place, bucket)
        self._buckets.clear()
        self._settle_others(self._minute + MINUTE)

    def _turn_minute(self, now: Now) -> None:
        """Begin a new minute of all addresses together when it is time."""
        if _is_over(self._minute, now):
            self._settle_others(now.wall)
            self._minute, self._single, self._named = now.wall, 0, 0

    def _settle_others(self, wall: float) -> None:
        """Write what is counted by no address: of keys, and of addresses beyond those that are named."""
        if self._node.journal.failed:
            return
        others, self._others = self._others, {}
        keyed, self._keyed = self._keyed, {}
        floods: list[tuple[Code, int, str | None, str | None]]
        floods = [(code, count, None, None) for code, count in others.items()]
        for key_id, one in keyed.items():
            floods += [(code, count, one.service, key_id) for code, count in one.counted.items()]
        for code, count, service, whose in floods:
            call = self._new_call_id(wall)
            self._node.turn.record(
                Flood(call, wall, code, count, self._minute, service=service, key_id=whose)
            )

    def _bucket(self, address: Address, now: Now) -> _Bucket:
        place = _place(address)
        bucket = self._buckets.get(place)
        if bucket is None:
            if len(self._buckets) >= MAX_ADDRESSES:
                oldest, forgotten = self._buckets.popitem(last=False)
                self._settle(oldest, forgotten)
            bucket = self._buckets[place] = _Bucket(now)
        else:
            self._buckets.move_to_end(place)
        return bucket

    def _settle(self, place: tuple[int, int], bucket: _Bucket) -> None:
        if not bucket.counted or self._node.journal.failed:
            return
        counted, bucket.counted = bucket.counted, {}
        value = place[1] if place[0] == 4 else place[1] << 64
        address = Personal(Address(place[0], value).text)
        for code, count in counted.items():
            flood = Flood(self._new_call_id(bucket.last), bucket.last, code, count, bucket.minute)
            self._node.turn.record(flood, personal=address)


def _is_over(minute: float, now: Now) -> bool:
    """Whether a minute that began then is over, as it also is where the clock was set back."""
    return not 0 <= now.wall - minute < MINUTE


def _place(address: Address) -> tuple[int, int]:
    return (4, address.value) if address.version == 4 else (6, address.value >> 64)
