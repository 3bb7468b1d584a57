"""POST /v1/derive: who holds a key makes a temporary one from it, as for an agent, authenticated by the key alone.

The worker judges and records the call; the control process makes the key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from valetkey.decision.call import Call, Decision
from valetkey.decision.codes import Code
from valetkey.decision.decide import UNKNOWN, refuse
from valetkey.decision.reservation import BeingCounted
from valetkey.gateway.arrival import Arrival, Refused
from valetkey.gateway.client_address import address_bytes
from valetkey.gateway.counted import STILL_COUNTING, when_counted
from valetkey.gateway.entries import KeyEntry
from valetkey.gateway.node import Node, milliseconds
from valetkey.gateway.refusal import NO_RETRY, problem
from valetkey.journal.records import Closed, End, Opened, Personal
from valetkey.log import note_failure
from valetkey.wire.request import CallerGone, Request, WholeAnswer

AskControl = Callable[[str, str, bytes], Awaitable[tuple[int, bytes]]]
"""Key id, id of the call and body of the request -> status and body of the answer. Raises ConnectionError without
a control process."""
OPERATION = "derive"
"""How records name such a call."""
MAX_BODY = 65_536
"""A body names a few terms; so much is read of it."""
BODY_SECONDS = 10.0
ANSWER_SECONDS = 10.0
"""Longest wait for the control process, which itself waits until every worker knows the key or is fenced: 2.5 s."""

NOT_REPEATED = Decision(
    Code.MALFORMED,
    "Idempotency-Key is not taken here: what is sent twice makes two keys.",
    own_next_step="Leave it out, or have whoever runs the gateway derive: valetkey key derive --idempotency-key TEXT.",
)
"""Who sends that header counts on it."""


class _Told(msgspec.Struct):
    """What is read of a refusal of the control process."""

    code: str


async def nobody_to_ask(key_id: str, call: str, body: bytes) -> tuple[int, bytes]:
    """Stands for a control process that is not there. Raises ConnectionError."""
    raise ConnectionError


class Derive:
    """The endpoint, behind the same form checks, floods and records as every call."""

    def __init__(
        self,
        node: Node,
        ask: AskControl,
        look_up: Callable[[Arrival, str], KeyEntry | None],
        opened: Callable[[Arrival, str, Decision], tuple[Opened, Personal]],
        refuse_call: Callable[[Arrival, Request, Decision], None],
    ) -> None:
        self._node = node
        self._ask = ask
        self._look_up = look_up
        self._opened = opened
        self._refuse = refuse_call
        self._waiting: set[asyncio.Task[None]] = set()

    def answer(self, arrival: Arrival, request: Request) -> None:
        """Answer when the body is here, by what holds then."""
        task = asyncio.get_running_loop().create_task(self._answer(arrival, request))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _answer(self, arrival: Arrival, request: Request) -> None:
        try:
            try:
                body = await request.read_whole(MAX_BODY, BODY_SECONDS)
                if body is None:
                    raise Refused(refuse(Code.TOO_LARGE))
                decision = await when_counted(lambda: self._judge(arrival, len(body)))
            except Refused as refused:
                return self._refuse(arrival, request, refused.decision)
            except BeingCounted:
                return self._refuse(arrival, request, STILL_COUNTING)
            await self._derive(arrival, request, decision, body)
        except CallerGone:
            pass
        except Exception as error:
            note_failure(error)
            request.abort()

    def _judge(self, arrival: Arrival, size: int) -> Decision:
        """By what holds now, also where the body took its time."""
        node = self._node
        assert arrival.taken is not None
        arrival.now = node.clock.now()
        entry = arrival.entry = self._look_up(arrival, arrival.taken.value)
        if node.unready() is not None:
            raise Refused(refuse(Code.NOT_READY))
        if entry is None:
            raise Refused(UNKNOWN)
        service = node.index.service_name(entry.service_id)
        arrival.service = node.index.services.get(service)
        origin = arrival.headers.get(b"origin")
        call = arrival.call = Call(
            "POST",
            None,
            service,
            None,
            arrival.address,
            None if origin is None else origin.decode("latin-1"),
            derives=True,
            listener=arrival.listener,
        )
        # It counts as a call of the key, and costs no money.
        decision, arrival.reserved = node.judge(
            entry, call, arrival.now, 0, address_bytes(arrival.address), size
        )
        if not decision.allowed:
            raise Refused(decision)
        return decision

    async def _derive(self, arrival: Arrival, request: Request, decision: Decision, body: bytes) -> None:
        node, entry = self._node, arrival.entry
        assert entry is not None
        opened, personal = self._opened(arrival, "POST", decision)
        if not await self._recorded(opened, personal):
            if arrival.reserved is not None:
                node.counters.give_back(arrival.reserved, arrival.now)
            return request.answer(problem(refuse(Code.NOT_READY), None))
        end, code = End.COMPLETE, None
        answer: WholeAnswer | None
        if request.joined(b"idempotency-key"):
            answer = problem(NOT_REPEATED, opened.call, status=400, title="The request is wrong")
        else:
            answer = await self._asked(entry.id, opened.call, body)
        if answer is None:
            end, code = End.INTERRUPTED, Code.NOT_READY
            answer = problem(refuse(Code.NOT_READY), opened.call)
        status: int | None = answer[0]
        if request.answered:
            # The caller left while it waited. What was made for it ends: nobody has it.
            end, status = End.CLIENT_GONE, None
        if arrival.reserved is not None:
            node.counters.settle(arrival.reserved, None, len(body) + (0 if code else len(answer[2])))
        now = node.clock.now()
        node.turn.record(
            Closed(
                opened.call,
                now.wall,
                end,
                code=code,
                status=status,
                bytes_in=len(body),
                bytes_out=0 if status is None else len(answer[2]),
                last_byte_ms=milliseconds(arrival.now.monotonic, now),
                cost=0,
            ),
            then=lambda: request.answer(answer),
            otherwise=request.abort,
            failed=request.abort,
        )

    async def _asked(self, key_id: str, call: str, body: bytes) -> WholeAnswer | None:
        """What the control process answers. None when it did not: the call is over all the same."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                status, told = await self._ask(key_id, call, body)
        except (ConnectionError, TimeoutError):
            return None
        except Exception as error:
            note_failure(error)
            return None
        if status < 400:
            return status, [(b"content-type", b"application/json"), (b"cache-control", b"no-store")], told
        headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]
        headers.append((b"x-valetkey-code", msgspec.json.decode(told, type=_Told).code.encode()))
        if status < 500:
            headers += NO_RETRY
        return status, headers, told

    async def _recorded(self, opened: Opened, personal: Personal) -> bool:
        stands: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._node.turn.record(
            opened,
            personal=personal,
            then=lambda: stands.set_result(True),
            otherwise=lambda: stands.set_result(False),
            accepts=True,
        )
        return await stands
