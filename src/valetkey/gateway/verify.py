"""POST /v1/verify: an own service asks whether a key may do something. The answer is the decision itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated

import msgspec
from msgspec import Meta

from valetkey.decision.address import Address, parse_address
from valetkey.decision.call import Call, Decision, Now
from valetkey.decision.codes import CODES, Code
from valetkey.decision.decide import UNKNOWN, refuse
from valetkey.decision.limits import MAX_BYTES
from valetkey.decision.listener import Listener, parse_listener
from valetkey.decision.path import JudgedPath, PathRefused, judge_path
from valetkey.decision.reservation import BeingCounted, Reserved
from valetkey.decision.restrictions.patterns import KNOWN_METHODS
from valetkey.gateway.client_address import address_bytes
from valetkey.gateway.counted import STILL_COUNTING, when_counted
from valetkey.gateway.entries import KeyEntry
from valetkey.gateway.logged import free_text, masked
from valetkey.gateway.node import Node, milliseconds
from valetkey.gateway.refusal import plain_answer, problem
from valetkey.journal.records import Closed, End, Opened, Personal
from valetkey.log import note_failure
from valetkey.vault.fingerprint import fingerprint
from valetkey.wire.request import CallerGone, Request

QUESTION_SECONDS = 10.0
"""A question is one packet or two; whoever takes longer holds a connection for nothing."""
_NO_CREDENTIAL = refuse(Code.MALFORMED, "Verify needs a service credential as bearer.")
MAX_ASKERS = 64
"""Own services whose fingerprint is remembered."""
MAX_QUESTION = 65_536
"""A question is a key and a few facts; so much is read of it."""


class Question(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What is asked. A fact that is left out refuses wherever the key's restrictions need it."""

    key: str
    method: str | None = None
    path: str | None = None
    address: str | None = None
    origin: str | None = None
    listener: str | None = None
    """Address of the own service at which the call arrived, with its port."""
    operation: str | None = None
    cost: float | str | None = None
    """Price of this call in the currency of the budgets, instead of the service's own."""
    bytes: Annotated[int, Meta(ge=0, le=MAX_BYTES)] = 0
    """What the call moves, both ways, where a limit counts that."""

    def __repr__(self) -> str:
        return "Question(***)"


class Answer(msgspec.Struct, gc=False, omit_defaults=True):
    """What is answered, always with status 200."""

    valid: bool
    code: Code
    sentence: str
    call: str
    key_id: str | None = None
    kind: str | None = None
    holder: str | None = None
    endpoint: str | None = None
    limit: str | None = None
    retry_after: float | None = None
    next_step: str | None = None


_decode = msgspec.json.Decoder(Question).decode
_encode = msgspec.json.Encoder().encode


_UNREADABLE = _encode(
    Answer(
        False,
        Code.MALFORMED,
        'The question is not valid; send {"key": …, "method": …, "path": …}.',
        "",
        next_step=CODES[Code.MALFORMED].next_step,
    )
)


class _Judged:
    """What is known of one question."""

    __slots__ = (
        "address",
        "decision",
        "entry",
        "fingerprint",
        "listener",
        "now",
        "path",
        "reserved",
        "service",
    )

    def __init__(self, now: Now, service: str, fingerprint: str, entry: KeyEntry | None) -> None:
        self.now = now
        self.service = service
        self.fingerprint = fingerprint
        self.entry = entry
        self.path: JudgedPath | None = None
        self.address: Address | None = None
        self.listener: Listener | None = None
        self.decision = UNKNOWN
        self.reserved: Reserved | None = None


class Verify:
    """The endpoint."""

    def __init__(self, node: Node, new_call_id: Callable[[float], str]) -> None:
        self._node = node
        self._new_call_id = new_call_id
        self._waiting: set[asyncio.Task[None]] = set()
        self._fingerprints: dict[bytes, bytes] = {}
        """Of credentials that were good: the few own services ask again and again. Whether one still is, is
        looked up each time."""

    def answer(self, request: Request) -> None:
        """Answer one question, now if it is here."""
        node = self._node
        if not node.answers_to(request.joined(b"host")):
            return request.answer(problem(refuse(Code.HOST_UNKNOWN), None))
        if request.method != "POST":
            return request.answer(
                problem(refuse(Code.METHOD_REFUSED, "Verify is asked by POST."), None, own=True)
            )
        if node.unready() is not None:
            return request.answer(problem(refuse(Code.NOT_READY), None))
        authorization = request.joined(b"authorization")
        credential = self._fingerprints.get(authorization) or self._fingerprint_of(authorization)
        known = None if credential is None else node.index.credential(credential)
        if credential is None or known is None:
            self._fingerprints.pop(authorization, None)
            return request.answer(problem(_NO_CREDENTIAL, None))
        if len(self._fingerprints) < MAX_ASKERS:
            self._fingerprints[authorization] = credential
        if request.complete:
            body = request.taken()
            try:
                return self._consider(request, body, known.service_id)
            except BeingCounted:
                return self._begin(self._consider_when_counted(request, body, credential))
        self._begin(self._wait(request, credential))

    def _begin(self, answering: Coroutine[None, None, None]) -> None:
        waiting = asyncio.get_running_loop().create_task(answering)
        self._waiting.add(waiting)
        waiting.add_done_callback(self._waiting.discard)

    async def _wait(self, request: Request, credential: bytes) -> None:
        """Answer when the question is here, by what holds then."""
        try:
            body = await request.read_whole(MAX_QUESTION, QUESTION_SECONDS)
        except CallerGone:
            return
        except Exception as error:
            note_failure(error)
            return request.abort()
        await self._consider_when_counted(request, body, credential)

    async def _consider_when_counted(self, request: Request, body: bytes | None, credential: bytes) -> None:
        try:
            await when_counted(lambda: self._consider_anew(request, body, credential))
        except BeingCounted:
            request.answer(problem(STILL_COUNTING, None))
        except Exception as error:
            note_failure(error)
            request.abort()

    def _consider_anew(self, request: Request, body: bytes | None, credential: bytes) -> None:
        # A change may have come meanwhile: what is judged now is recorded before the next one.
        known = self._node.index.credential(credential)
        if known is None:
            return request.answer(problem(_NO_CREDENTIAL, None))
        if self._node.unready() is not None:
            return request.answer(problem(refuse(Code.NOT_READY), None))
        self._consider(request, body, known.service_id)

    def _consider(self, request: Request, body: bytes | None, service_id: str) -> None:
        if body is None or len(body) > MAX_QUESTION:
            return request.answer(problem(refuse(Code.TOO_LARGE), None))
        try:
            question = _decode(body)
            cost = _micros(question.cost)
        except (msgspec.DecodeError, ValueError, ArithmeticError):
            return request.answer(plain_answer(200, _UNREADABLE))
        judged = self._judge(question, service_id, cost)
        try:
            self._record(request, question, judged)
        except BaseException:
            if judged.reserved is not None:
                self._node.counters.give_back(judged.reserved, judged.now)
            raise

    def _fingerprint_of(self, authorization: bytes) -> bytes | None:
        scheme, _, credential = authorization.partition(b" ")
        return (
            fingerprint(credential.strip(), self._node.index.index_key)
            if scheme.lower() == b"bearer"
            else None
        )

    def _judge(self, question: Question, service_id: str, cost: int | None) -> _Judged:
        """Whose key it is and whether it may do this now; what it may is reserved."""
        node = self._node
        index = node.index
        service_name = index.service_name(service_id)
        service = index.services.get(service_name)
        print_ = fingerprint(question.key.encode("utf-8", "replace"), index.index_key)
        judged = _Judged(node.clock.now(), service_name, print_.hex(), index.find(print_))
        if question.method is not None and question.method not in KNOWN_METHODS:
            judged.decision = refuse(Code.METHOD_REFUSED)
            return judged
        try:
            if question.address is not None:
                judged.address = parse_address(question.address)
            if question.listener is not None:
                judged.listener = parse_listener(question.listener)
            if question.path is not None:
                target = question.path.partition("?")[0].encode("utf-8", "replace")
                judged.path = judge_path(
                    target, encoded_slash=service is not None and service.service.encoded_slash
                )
        except PathRefused as error:
            judged.decision = refuse(Code.PATH_REFUSED, str(error))
            return judged
        except ValueError as error:
            judged.decision = refuse(Code.MALFORMED, str(error))
            return judged
        if judged.entry is not None:
            address = judged.address
            call = Call(
                question.method,
                judged.path,
                service_name,
                None,
                address,
                question.origin,
                listener=judged.listener,
            )
            if cost is None and service is not None:
                cost = service.service.price_micros
            judged.decision, judged.reserved = node.judge(
                judged.entry,
                call,
                judged.now,
                cost,
                None if address is None else address_bytes(address),
                question.bytes,
            )
        return judged

    def _record(self, request: Request, question: Question, judged: _Judged) -> None:
        """Have it recorded, and answered when the record stands."""
        node, index = self._node, self._node.index
        now, decision, entry, reserved = judged.now, judged.decision, judged.entry, judged.reserved
        identifier = self._new_call_id(now.wall)
        holder = None if entry is None else index.holder_name(entry)
        cost = None if reserved is None else reserved.cost_micros
        opened = Opened(
            call=identifier,
            time=now.wall,
            code=decision.code,
            workspace="default",
            service=judged.service,
            key_id=None if entry is None else entry.id,
            key_kind=None if entry is None else entry.kind,
            fingerprint=judged.fingerprint if entry is None else None,
            holder=holder,
            agreement=None if entry is None else index.agreement_id(entry),
            method=question.method if question.method in KNOWN_METHODS else None,
            path=None if judged.path is None else masked(judged.path.text),
            endpoint=decision.endpoint,
            operation=free_text(question.operation),
            policy=None if entry is None else entry.policy_id,
            limit=decision.limit,
            cost_reserved=cost,
            index_generation=index.generation,
        )
        ended = node.clock.now()
        closed = Closed(
            identifier,
            ended.wall,
            End.COMPLETE if decision.allowed else End.REFUSED,
            status=200,
            bytes_in=question.bytes if decision.allowed else 0,
            last_byte_ms=milliseconds(now.monotonic, ended),
            cost=cost,
        )
        body = _encode(_answer(decision, identifier, entry, holder))

        def say() -> None:
            if reserved is not None:
                # The own service carries the call itself: what verify knows of it ends here.
                node.counters.settle(reserved)
            request.answer(plain_answer(200, body))

        def withdraw() -> None:
            if reserved is not None:
                node.counters.give_back(reserved, now)
            request.answer(problem(refuse(Code.NOT_READY), None))

        address = None if judged.address is None else judged.address.text
        node.turn.record(
            opened,
            closed,
            personal=Personal(address, None, free_text(question.origin)),
            then=say,
            otherwise=withdraw,
            failed=request.abort,
            accepts=decision.allowed,
        )


def _answer(decision: Decision, identifier: str, entry: KeyEntry | None, holder: str | None) -> Answer:
    # Another service's key is unknown to this one: whose it is stays between its holder and its service.
    known = entry is not None and decision.code is not Code.SERVICE_DENIED
    return Answer(
        valid=decision.allowed,
        code=decision.code,
        sentence=decision.sentence,
        call=identifier,
        key_id=entry.id if known and entry is not None else None,
        kind=entry.kind if known and entry is not None else None,
        holder=holder if known else None,
        endpoint=decision.endpoint,
        limit=decision.limit,
        retry_after=decision.retry_after,
        next_step=None if decision.allowed else decision.next_step,
    )


def _micros(cost: float | str | None) -> int | None:
    """Money as asked, in millionths, rounded up. Raises ValueError for what is no price."""
    if cost is None:
        return None
    from decimal import ROUND_CEILING, Decimal

    micros = (Decimal(str(cost)) * 1_000_000).to_integral_value(ROUND_CEILING)
    if not 0 <= micros <= 10**15:
        raise ValueError("That is no price.")
    return int(micros)
