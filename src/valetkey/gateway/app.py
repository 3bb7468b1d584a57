"""The gateway's front door: form, look-up, decision, record; then the call goes upstream or is refused.

Records are made at the end of the turn in which their calls were decided (`gateway/turn.py`), and before any
change of the index is applied, so that none can come between.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from valetkey.decision.call import Call, Decision
from valetkey.decision.codes import Code
from valetkey.decision.decide import UNKNOWN, refuse
from valetkey.decision.listener import listener_of
from valetkey.decision.path import PathRefused, judge_path
from valetkey.decision.reservation import BeingCounted
from valetkey.decision.restrictions.patterns import KNOWN_METHODS
from valetkey.gateway.arrival import Arrival, Refused
from valetkey.gateway.call_records import CallRecords
from valetkey.gateway.client_address import AddressUnclear, ClientAddress, address_bytes
from valetkey.gateway.counted import COUNTING_PAUSE, COUNTING_TRIES, STILL_COUNTING
from valetkey.gateway.credentials import Intake, IntakeRefused
from valetkey.gateway.derive import OPERATION, AskControl, Derive, nobody_to_ask
from valetkey.gateway.entries import KeyEntry, ServiceEntry
from valetkey.gateway.exchange import Exchange
from valetkey.gateway.floods import Floods
from valetkey.gateway.node import Node, milliseconds
from valetkey.gateway.refusal import problem, readiness
from valetkey.gateway.runtime import LiveNeedles, ServiceRuntime
from valetkey.gateway.verify import Verify
from valetkey.journal.records import Closed, End
from valetkey.log import note_failure
from valetkey.loopback import is_loopback
from valetkey.services.dialling import OwnListeners
from valetkey.services.origin import Origin
from valetkey.services.placement import Basic, Bearer, Header, Query
from valetkey.services.service import DEFAULT_CEILING, Service
from valetkey.vault.fingerprint import fingerprint
from valetkey.wire.request import Fault, Request, WholeAnswer

_WANTED = frozenset(
    (
        b"host", b"upgrade", b"origin", b"user-agent", b"referer",
        b"x-forwarded-for", b"forwarded",
    )
)  # fmt: skip

_FAULTS = {
    Fault.PLAIN: Code.TLS_REQUIRED,
    Fault.FORM: Code.MALFORMED,
    Fault.TARGET: Code.PATH_REFUSED,
    Fault.METHOD: Code.METHOD_REFUSED,
    Fault.SIZE: Code.TOO_LARGE,
}

_DERIVE = judge_path(b"/v1/derive")

# A service that does not exist takes a credential like any other, so that nobody learns which ones do.
_NOWHERE = Service(
    name="nowhere",
    hosts={"api": Origin.parse("https://nowhere.invalid")},
    placement=Bearer(),
    accepts=(
        Bearer(),
        Bearer("token"),
        Basic("user"),
        Basic("password"),
        Header("x-api-key"),
        Query("appid"),
    ),
)


class Gateway:
    """Answers every request of the gateway port."""

    def __init__(self, node: Node, *, own: OwnListeners, ask_control: AskControl = nobody_to_ask) -> None:
        self._node = node
        self._own = own
        self._client_address = ClientAddress(node.settings.trusted_proxy)
        self._records = CallRecords(node, forwarded=self._client_address.believes_headers)
        self._runtimes: dict[str, ServiceRuntime] = {}
        self._nowhere = Intake.compile(_NOWHERE)
        self._ceiling = min(DEFAULT_CEILING, node.settings.max_body_mb * 1_000_000)
        self._verify = Verify(node, self._records.new_id)
        self._derive = Derive(node, ask_control, self._look_up, self._records.opened, self._refuse)
        self.floods = Floods(node, self._records.new_id)

    def handle(self, request: Request, tries: int = COUNTING_TRIES) -> None:
        """Answer a request now, or hand an allowed call over to its exchange."""
        raw = request.raw_path
        if request.fault is None:
            if raw == b"/v1/verify":
                return self._verify.answer(request)
            if raw in (b"/healthz", b"/readyz"):
                return request.answer(self._health(request))
        node = self._node
        arrival = Arrival(node.clock.now())
        if node.unready() is not None:
            return request.answer(problem(refuse(Code.NOT_READY), None))
        try:
            if raw == b"/v1/derive" and request.fault is None:
                return self._hear_derivation(arrival, request)
            self._read_form(arrival, request)
            decision = self._judge(arrival, request.method, request.length)
            self._accept(arrival, request, decision)
        except Refused as refused:
            self._refuse(arrival, request, refused.decision)
        except BeingCounted:
            if tries == 0:
                return self._refuse(arrival, request, STILL_COUNTING)
            # Nothing was taken or recorded: it is judged anew, by what holds then.
            asyncio.get_running_loop().call_later(COUNTING_PAUSE, self.handle, request, tries - 1)
        except Exception as error:
            # Whatever we did not foresee refuses, with a record, and tells the operator where; never the values.
            note_failure(error)
            self._refuse(arrival, request, refuse(Code.NOT_READY, "The gateway failed to judge this call."))

    # -- the order of the checks

    def _read_form(self, arrival: Arrival, request: Request) -> None:
        """Everything about the call's form, up to its size."""
        facts = arrival.headers
        form = self._read_headers(arrival, request)
        if request.fault is not None:
            if request.fault is Fault.PLAIN:
                self._find_exposed(arrival, request)
            raise Refused(refuse(_FAULTS[request.fault], request.fault.value))
        if not self._node.answers_to(facts.get(b"host", b"")):
            raise Refused(refuse(Code.HOST_UNKNOWN))
        if request.method not in KNOWN_METHODS:
            raise Refused(refuse(Code.METHOD_REFUSED))
        if b"websocket" in facts.get(b"upgrade", b"").lower():
            form = refuse(Code.NOT_SUPPORTED)
        service, arrival.label, rest = self._route(request.raw_path)
        arrival.service = service
        runtime = arrival.runtime = None if service is None else self.runtime(service)
        arrival.query = request.query
        intake = self._nowhere if runtime is None else runtime.intake
        try:
            arrival.taken = intake.take(request.headers, request.query)
        except IntakeRefused as error:
            # A method that is changed in the query comes before all other faults of form.
            if form is None or error.code is Code.METHOD_REFUSED:
                form = refuse(error.code, error.reason)
        if form is not None:
            raise Refused(form)
        try:
            arrival.path = judge_path(
                rest, encoded_slash=service is not None and service.service.encoded_slash
            )
        except PathRefused as error:
            raise Refused(refuse(Code.PATH_REFUSED, str(error))) from None
        # A service that does not exist takes as much as others do.
        ceiling = self._ceiling if runtime is None else runtime.ceiling
        if request.length is not None and request.length > ceiling:
            raise Refused(refuse(Code.TOO_LARGE))

    def _read_headers(self, arrival: Arrival, request: Request) -> Decision | None:
        """Note what the call is judged by, and the caller's address, or return why that cannot be known."""
        facts = arrival.headers
        arrival.listener = listener_of(request.local)
        for name, value in request.headers:
            if name in _WANTED:
                facts[name] = facts[name] + b", " + value if name in facts else value
        return self._find_address(arrival, request.peer)

    def _hear_derivation(self, arrival: Arrival, request: Request) -> None:
        """A key is to be made from the one that the call carries."""
        arrival.operation, arrival.path = OPERATION, _DERIVE
        form = self._read_headers(arrival, request)
        if not self._node.answers_to(arrival.headers.get(b"host", b"")):
            raise Refused(refuse(Code.HOST_UNKNOWN))
        if request.method != "POST":
            raise Refused(refuse(Code.METHOD_REFUSED, "A key is derived by POST."))
        try:
            arrival.taken = self._nowhere.take(request.headers, request.query)
        except IntakeRefused as error:
            form = refuse(error.code, error.reason)
        if form is not None:
            raise Refused(form)
        self._derive.answer(arrival, request)

    def _find_exposed(self, arrival: Arrival, request: Request) -> None:
        """Whose key came in plain text: that stands in the record; and over a network others may have read it."""
        service, _, _ = self._route(request.raw_path)
        runtime = None if service is None else self.runtime(service)
        try:
            taken = (self._nowhere if runtime is None else runtime.intake).take(
                request.headers, request.query
            )
        except IntakeRefused:
            return
        entry = arrival.entry = self._look_up(arrival, taken.value)
        arrival.service = service
        if entry is not None and not (self._node.settings.allow_plain or is_loopback(request.peer)):
            self._node.exposed.add(entry.id)

    def _judge(self, arrival: Arrival, method: str, length: int | None) -> Decision:
        """Whose key it is, and whether it may do this now."""
        node, service = self._node, arrival.service
        assert arrival.taken is not None
        entry = arrival.entry = self._look_up(arrival, arrival.taken.value)
        if entry is None:
            raise Refused(UNKNOWN)
        if service is None or entry.service_id != service.id:
            # The journal keeps the true code; the stranger learns only that the key is unknown here.
            raise Refused(refuse(Code.SERVICE_DENIED))
        origin = arrival.headers.get(b"origin")
        call = arrival.call = Call(
            method,
            arrival.path,
            service.service.name,
            arrival.label or service.service.default_host,
            arrival.address,
            None if origin is None else origin.decode("latin-1"),
            listener=arrival.listener,
        )
        price = service.service.price_micros
        decision, arrival.reserved = node.judge(
            entry, call, arrival.now, price, address_bytes(arrival.address), length or 0
        )
        if decision.code is not Code.VALID:
            raise Refused(decision)
        arrival.cost = price
        arrival.secret = node.index.secret(entry, arrival.now.wall)
        if arrival.secret is None:
            raise Refused(refuse(Code.SECRET_UNAVAILABLE))
        return decision

    def _accept(self, arrival: Arrival, request: Request, decision: Decision) -> None:
        """Have the call recorded, and carried when its record stands."""
        runtime, entry, call, taken = arrival.runtime, arrival.entry, arrival.call, arrival.taken
        service, secret = arrival.service, arrival.secret
        assert runtime and entry and call and taken and service and secret
        opened, personal = self._records.opened(arrival, request.method, decision)
        exchange = Exchange(
            self._node,
            runtime,
            needles=LiveNeedles(self._node, entry.id, runtime.needles, self.runtime),
            key_id=entry.id,
            call=call,
            call_id=opened.call,
            origin=service.service.origin(arrival.label),
            taken=taken,
            secret=secret,
            reserved=arrival.reserved,
            cost=arrival.cost,
            started_ns=arrival.now.monotonic,
            request=request,
        )
        self._node.turn.record(
            opened,
            personal=personal,
            then=exchange.start,
            otherwise=exchange.withdraw,
            failed=exchange.break_off,
            accepts=True,
        )
        self._node.enter(exchange)

    def _find_address(self, arrival: Arrival, peer: str) -> Decision | None:
        """Note the caller's address, or return why it cannot be known."""
        facts = arrival.headers
        try:
            arrival.address = self._client_address.find(
                peer, facts.get(b"x-forwarded-for"), facts.get(b"forwarded")
            )
        except AddressUnclear:
            # Counted at the proxy that sent it, which is all that is known.
            arrival.address = self._client_address.peer(peer)
            return refuse(Code.MALFORMED, "The forwarding headers cannot be believed.")
        return None

    def _route(self, raw: bytes) -> tuple[ServiceEntry | None, str | None, bytes]:
        """``/SERVICE/REST`` or ``/SERVICE:HOST/REST``."""
        slash = raw.find(b"/", 1)
        head, rest = (raw[1:], b"/") if slash < 0 else (raw[1:slash], raw[slash:])
        name, _, host = head.decode("latin-1").partition(":")
        service = self._node.index.services.get(name)
        if (
            service is None
            or service.service.placement is None
            or (host and host not in service.service.hosts)
        ):
            return None, None, rest
        return service, host or None, rest

    def _look_up(self, arrival: Arrival, value: str) -> KeyEntry | None:
        raw = value.encode()
        index = self._node.index
        print_ = fingerprint(raw, index.index_key)
        entry = index.find(print_)
        if entry is None:
            arrival.fingerprint = print_.hex()
        return entry

    def runtime(self, service: ServiceEntry) -> ServiceRuntime:
        """The service compiled, anew after each change of it or of its secrets."""
        made = service.runtime
        if not isinstance(made, ServiceRuntime):
            settings = self._node.settings
            public = (
                f"{settings.scheme}://{settings.public_name[0] if settings.public_name else settings.listen}"
            )
            address = f"{public}:{settings.gateway_port}/{service.service.name}".encode()
            made = service.runtime = ServiceRuntime(
                service.service, self._node.index.secrets_of(service.id), self._own, settings, address
            )
            earlier = self._runtimes.get(service.id)
            if earlier is not None:
                earlier.retire()
            self._runtimes[service.id] = made
        return made

    def drop_unused(self) -> None:
        """Let go of what was compiled for services that are gone, with their connections and keys."""
        living = {service.id for service in self._node.index.services.values()}
        for service_id in [name for name in self._runtimes if name not in living]:
            self._runtimes.pop(service_id).retire()

    def _refuse(self, arrival: Arrival, request: Request, decision: Decision) -> None:
        """Record what the journal is to know of a refusal, then tell the caller what it is."""
        if arrival.reserved is not None:
            self._node.counters.give_back(arrival.reserved, arrival.now)
            arrival.reserved = None
        shown = UNKNOWN if decision.code is Code.SERVICE_DENIED else decision
        own = arrival.operation is not None
        # What is no HTTP at all is no failed sign-in.
        if arrival.address is not None and (arrival.entry is None or decision.code is Code.SERVICE_DENIED):
            # Without a key of this service it is a stranger's call: many of them must not fill the disk.
            unusable = shown.code in (Code.MALFORMED, Code.UNKNOWN_KEY)
            verdict = self.floods.meet(arrival.address, arrival.now, fills=unusable)
            if verdict.throttled is not None:
                shown = verdict.throttled
            if not verdict.record_singly:
                self.floods.count(arrival.address, decision.code, arrival.now)
                return request.answer(problem(shown, None, status=_status_of(request, shown), own=own))
        elif arrival.entry is not None:
            service = None if arrival.service is None else arrival.service.service.name
            if not self.floods.meet_key(arrival.entry.id, service, decision.code, arrival.now):
                return request.answer(problem(shown, None))
        opened, personal = self._records.opened(arrival, request.method, decision)
        answer = problem(shown, opened.call, status=_status_of(request, shown), own=own)
        ended = self._node.clock.now()
        closed = Closed(
            opened.call,
            ended.wall,
            End.REFUSED,
            code=Code.THROTTLED if shown.code is Code.THROTTLED else None,
            status=answer[0],
            bytes_out=len(answer[2]),
            last_byte_ms=milliseconds(arrival.now.monotonic, ended),
        )
        self._node.turn.record(
            opened,
            closed,
            personal=personal,
            then=lambda: request.answer(answer),
            otherwise=lambda: request.answer(problem(refuse(Code.NOT_READY), None)),
            failed=request.abort,
        )

    def _health(self, request: Request) -> WholeAnswer:
        if not self._node.answers_to(request.joined(b"host")):
            return problem(refuse(Code.HOST_UNKNOWN), None)
        return readiness(self._node.missing() if request.raw_path == b"/readyz" else [])


def _status_of(request: Request, shown: Decision) -> int | None:
    """The status of a refusal where it is not its code's own: what is no HTTP at all is no failed sign-in."""
    formless = request.fault is Fault.FORM and shown.code is Code.MALFORMED
    return HTTPStatus.BAD_REQUEST if formless else None
