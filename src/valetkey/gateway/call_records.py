"""The record that opens a call, from what is known of the call when it is decided."""

from __future__ import annotations

from valetkey.decision.call import Decision
from valetkey.decision.restrictions.patterns import KNOWN_METHODS
from valetkey.gateway.arrival import Arrival
from valetkey.gateway.logged import header_text, masked, query_names
from valetkey.gateway.node import Node
from valetkey.journal.call_id import RANDOM_BYTES, call_id
from valetkey.journal.randomness import RandomPool
from valetkey.journal.records import Opened, Personal


class CallRecords:
    """Of one worker."""

    def __init__(self, node: Node, *, forwarded: bool) -> None:
        """`forwarded`: whether what a proxy says of the caller is believed, and so worth a record."""
        self._node = node
        self._forwarded = forwarded
        self._random = RandomPool()

    def new_id(self, wall: float) -> str:
        """An id for a call that arrived then."""
        return call_id(int(wall * 1000), self._random.take(RANDOM_BYTES))

    def opened(self, arrival: Arrival, method: str, decision: Decision) -> tuple[Opened, Personal]:
        """The record under a new id, and the fields of it that can be erased."""
        entry, service, path = arrival.entry, arrival.service, arrival.path
        facts = arrival.headers
        index = self._node.index
        opened = Opened(
            call=self.new_id(arrival.now.wall),
            time=arrival.now.wall,
            code=decision.code,
            workspace="default",
            service=None if service is None else service.service.name,
            key_id=None if entry is None else entry.id,
            key_kind=None if entry is None else entry.kind,
            fingerprint=arrival.fingerprint,
            holder=None if entry is None else index.holder_name(entry),
            agreement=None if entry is None else index.agreement_id(entry),
            method=method if method in KNOWN_METHODS else None,
            path=None if path is None else masked(path.text),
            endpoint=decision.endpoint,
            query_names=query_names(arrival.query) if arrival.query else (),
            host=None if arrival.call is None else arrival.call.host,
            operation=arrival.operation,
            secret=None if arrival.secret is None else arrival.secret.id,
            policy=None if entry is None else entry.policy_id,
            limit=decision.limit,
            cost_reserved=arrival.cost,
            index_generation=index.generation,
        )
        personal = Personal(
            None if arrival.address is None else arrival.address.text,
            header_text(facts.get(b"user-agent")),
            header_text(facts.get(b"origin")),
            header_text(facts.get(b"referer"), without_query=True),
            header_text(facts.get(b"x-forwarded-for")) if self._forwarded else None,
        )
        return opened, personal
