"""One allowed call on its way to the upstream and back: streamed both ways, scrubbed, timed, cut when told.

Only this object puts the real key in, and only for the call that was judged to make it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from valetkey.decision.call import Call
from valetkey.decision.codes import Code
from valetkey.decision.decide import refuse
from valetkey.decision.reservation import Plan, Reserved
from valetkey.gateway.answer import sieve
from valetkey.gateway.counted import COUNTING_PAUSE, COUNTING_TRIES
from valetkey.gateway.counters_file import CountersUnavailable
from valetkey.gateway.credentials import Taken
from valetkey.gateway.facts import SecretVersion
from valetkey.gateway.node import Node
from valetkey.gateway.outcome import Outcome
from valetkey.gateway.refusal import problem
from valetkey.gateway.refused_secret import is_about_our_key
from valetkey.gateway.runtime import LiveNeedles, ServiceRuntime
from valetkey.gateway.scrub import CodingRefused, Decoder, Scrubber, scrub_bytes
from valetkey.gateway.spending import Spending
from valetkey.gateway.turn import Step, nothing
from valetkey.gateway.upstream import UpstreamFailed
from valetkey.journal.records import End
from valetkey.log import note_failure
from valetkey.services.origin import Origin
from valetkey.services.placement import SecretRefused
from valetkey.wire.request import CallerGone, Request
from valetkey.wire.upstream import Answer, AnswerBroken, Body

SMALL_BODY = 65_536
"""A body up to this many bytes is read whole before the call goes upstream: no half call, less work."""
SLOWEST_BODY = 250
"""Bytes a second: a body that comes more slowly holds a connection for nothing, a byte a minute for days."""
WORK_A_TURN = 131_072
"""Bytes of an answer that are handed on before other calls have their turn: few that came can open to very many."""
EMPTY_WORK = 512
"""A piece of an answer costs as much as so many bytes, however little is in it."""


class BodyTooLarge(Exception):
    """The caller sent more than the service accepts."""


class Exchange:
    """A call that was allowed."""

    __slots__ = (
        "_answer", "_begun", "_call_id", "_end", "_needles", "_node", "_origin", "_outcome",
        "_refund", "_request", "_runtime", "_secret", "_since", "_spending", "_taken", "_task",
        "call", "deadline", "key_id",
    )  # fmt: skip

    def __init__(
        self,
        node: Node,
        runtime: ServiceRuntime,
        *,
        needles: LiveNeedles,
        key_id: str,
        call: Call,
        call_id: str,
        origin: Origin,
        taken: Taken,
        secret: SecretVersion,
        reserved: Reserved | None,
        cost: int | None,
        started_ns: int,
        request: Request,
    ) -> None:
        self._node = node
        self._runtime = runtime
        # From now on, not only once it is carried: a service that changes meanwhile must not close its way upstream.
        runtime.use()
        self._needles = needles
        self.key_id = key_id
        self.call = call
        self._call_id = call_id
        self._origin = origin
        self._taken = taken
        self._secret = secret
        self._spending = Spending(node, reserved, cost, started_ns)
        self._outcome = Outcome(node.clock, started_ns)
        self._request = request
        self._task: asyncio.Task[None] | None = None
        self._begun = False
        self._end: End | None = None
        self._answer: Answer | None = None
        self._refund = False
        self._since = time.monotonic()
        self.deadline = self._since + node.settings.body_timeout
        """When the sweep cuts it (seconds of the monotonic clock): moved on with every sign of life."""

    # -- ended from outside

    def cut(self, end: End, why: Code) -> bool:
        """Hand nothing more on, in either direction; in force when this returns. False when it had ended before.

        A caller that has had no answer yet is told `why`; an answer that has begun ends in a reset.
        """
        if self._end is not None:
            return False
        # A caller whose answer has begun got no other code than the one it was allowed with.
        self._outcome.code = None if self._request.started else why
        self._stop(end)
        if self._request.started:
            self._request.abort()
        return True

    def _stop(self, end: End) -> None:
        self._end = end
        if self._answer is not None:
            self._answer.close()
        if self._task is not None and self._begun:
            # A task that is cancelled before its first step never takes it.
            self._task.cancel()

    def follow(self, plan: Plan) -> None:
        """The key's limits are now those of `plan`: what this call has moved counts at those of bytes too."""
        try:
            self._spending.follow(plan, self._request.received + self._outcome.bytes_out)
        except CountersUnavailable:
            self.cut(End.INTERRUPTED, Code.NOT_READY)

    def caller_gone(self) -> None:
        """The caller's connection has ended."""
        if self._end is None:
            self._stop(End.CLIENT_GONE)

    def body_came(self, whole: bool) -> None:
        """A sign of life from the caller."""
        settings = self._node.settings
        if self._answer is not None:
            return
        now = time.monotonic()
        if whole:
            self.deadline = now + settings.first_byte_timeout
        else:
            due = self._since + self._request.received / SLOWEST_BODY
            self.deadline = min(now, due) + settings.body_timeout

    # -- the way

    def start(self) -> None:
        """Carry the call, now that its record stands."""
        if self._request.answered:
            self.caller_gone()
        self._request.watch(self)
        self.body_came(self._request.complete)
        self._task = asyncio.get_running_loop().create_task(self._run())

    def withdraw(self) -> None:
        """The call could not be recorded, so it is not made and spends nothing."""
        self._call_id = ""
        self._spending.give_back()
        self._node.leave(self)
        self._runtime.leave()
        self._request.answer(problem(refuse(Code.NOT_READY), None))

    def break_off(self) -> None:
        """The call could not be begun although its record stands."""
        self._finish(End.INTERRUPTED)
        self._request.abort()

    async def _run(self) -> None:
        self._begun = True
        try:
            if self._end is None:
                await self._carry()
            elif self._outcome.code is not None:
                self._refuse(self._outcome.code, self._end)
        except asyncio.CancelledError:
            if self._end is None:
                self._end = End.INTERRUPTED
                raise
            if self._task is not None:
                self._task.uncancel()
            if self._outcome.code is not None and not self._request.started:
                self._refuse(self._outcome.code, self._end)
        except Exception as error:
            note_failure(error)
            if self._answer is not None:
                self._answer.close()
            if not self._request.started and self._call_id:
                self._refuse(Code.UPSTREAM_FAILED)
            else:
                self._request.abort()
        finally:
            self._finish(self._end or End.UPSTREAM_FAILED)
            self._task = None

    async def _carry(self) -> None:
        runtime, taken, call, request = self._runtime, self._taken, self.call, self._request
        media = runtime.is_media(call)
        try:
            headers, query = runtime.intake.put_in(taken, self._secret.parts, media=media)
        except SecretRefused:
            self._spending.give_back()
            return self._refuse(Code.SECRET_UNAVAILABLE, End.REFUSED)
        body: Body = None
        try:
            length = request.length
            if length is None or length > SMALL_BODY:
                body = self._pieces()
            elif length:
                body = await self._whole()
            path = call.path
            assert path is not None and call.method is not None
            target = path.text.encode()
            if query:
                target += b"?" + query
            answer = await runtime.upstream.send(call.method, self._origin, target, headers, body, length)
        except UpstreamFailed as failure:
            if self._end is not None:
                return self._refuse(self._outcome.code or Code.QUOTA_EXCEEDED, self._end)
            if request.received > runtime.ceiling:
                # Whoever sends the body says of one that was refused only that sending failed.
                return self._refuse(Code.TOO_LARGE, End.REFUSED)
            self._outcome.cause = str(failure)
            if failure.sent is False:
                self._spending.give_back()
            return self._refuse(Code.UPSTREAM_FAILED)
        except BodyTooLarge:
            if self._end is not None:
                return self._refuse(self._outcome.code or Code.QUOTA_EXCEEDED, self._end)
            return self._refuse(Code.TOO_LARGE, End.REFUSED)
        except CallerGone:
            return None
        self._answer = answer
        await self._hand_on(answer)

    async def _pieces(self) -> AsyncIterator[bytes]:
        """The caller's body as it comes. Raises `BodyTooLarge`, and `CallerGone` for one that broke off."""
        request, ceiling = self._request, self._runtime.ceiling
        while piece := await request.read():
            self._outcome.bytes_in += len(piece)
            # What is known by its length was counted before the call, and passes.
            if request.received > ceiling or not await self._passes():
                raise BodyTooLarge
            yield piece

    async def _whole(self) -> bytes:
        """The caller's body at once."""
        if self._request.complete:
            self._outcome.bytes_in = self._request.received
            return self._request.taken()
        return b"".join([piece async for piece in self._pieces()])

    async def _hand_on(self, answer: Answer) -> None:
        status = self._outcome.upstream_status = answer.status
        if status in (401, 403) and await is_about_our_key(answer, self._runtime):
            answer.close()
            return self._refuse(Code.UPSTREAM_REFUSED_SECRET)
        if status == 206 and not (self._taken.range and self._runtime.is_media(self.call)):
            # A piece that nobody asked for could begin in the middle of a key.
            answer.close()
            return self._refuse(Code.UPSTREAM_FAILED)
        # Given back at the end: until then the call holds its place.
        self._refund = status >= 500 and self._runtime.service.refund_on_failure
        coding, decoder = answer.coding, None
        if coding is not None:
            try:
                decoder = Decoder(coding)
            except CodingRefused:
                if not self._runtime.service.pass_unreadable:
                    answer.close()
                    return self._refuse(Code.UPSTREAM_FAILED)
        unpacked = decoder is not None
        decoder = None if decoder is None or decoder.is_identity else decoder
        length = answer.length if decoder is None else None
        # With its head an answer without a body is whole.
        bodyless = length == 0 or self.call.method == "HEAD" or status in (204, 304)
        # With most answers all of it is here already: it goes out in one piece.
        body = answer.taken() if answer.whole and decoder is None and not bodyless else None
        known = 0 if bodyless else length if body is None else len(body)
        meter = self._spending.meter
        if known and meter is not None and not await meter.reach(self._outcome.moved + known):
            # Better none of it than a part that is of no use.
            answer.close()
            return self._refuse(meter.refusal.code, meter.end)
        needles = self._needles.now
        headers = sieve(answer.headers, self._runtime.service, self._runtime.public_address, needles)
        if unpacked:
            headers = [pair for pair in headers if pair[0] != b"content-encoding"]
        self._outcome.answered(status)
        if bodyless:
            return self._finish(End.COMPLETE, lambda: self._request.start(status, headers, length))
        if body is not None:
            body = scrub_bytes(body, needles)
            self._outcome.bytes_out = len(body)
            return self._finish(End.COMPLETE, lambda: self._request.start(status, headers, len(body), body))
        self._request.start(status, headers, length)
        await self._stream(answer, Scrubber(needles), decoder, length)

    async def _stream(
        self, answer: Answer, scrubber: Scrubber, decoder: Decoder | None, length: int | None
    ) -> None:
        idle, request = self._node.settings.idle_timeout, self._request
        received = work = 0
        try:
            while True:
                self.deadline = time.monotonic() + idle
                piece = await answer.read()
                if not piece:
                    break
                received += len(piece)
                scrubber.needles = self._needles.now
                for part in (piece,) if decoder is None else decoder.decode(piece):
                    work += len(part) + EMPTY_WORK
                    if work > WORK_A_TURN:
                        work = 0
                        await asyncio.sleep(0)
                    clean = scrubber.feed(part)
                    if received == length:
                        # The last bytes are here: the record is closed before they are handed on.
                        clean += scrubber.finish()
                        return self._last(clean) if await self._passes(len(clean)) else None
                    if clean:
                        if not await self._passes(len(clean)):
                            return
                        self._outcome.bytes_out += len(clean)
                        request.write(clean)
                        if request.blocked:
                            await request.drain()
            if decoder is not None:
                decoder.finish()
        except (AnswerBroken, CodingRefused) as broken:
            self._outcome.cause = str(broken)
            # The upstream broke off: the caller must see a broken answer, not a complete one.
            self._end = self._end or End.UPSTREAM_FAILED
            answer.close()
            return request.abort()
        rest = scrubber.finish()
        if await self._passes(len(rest)):
            self._last(rest)

    async def _passes(self, size: int = 0) -> bool:
        """Whether what came of the caller's body, and so many bytes more of the answer, may pass. If not, it is cut."""
        meter = self._spending.meter
        if meter is None or await meter.reach(self._outcome.moved + size):
            return True
        self.cut(meter.end, meter.refusal.code)
        return False

    def _last(self, body: bytes) -> None:
        self._outcome.bytes_out += len(body)
        self._finish(End.COMPLETE, lambda: self._request.end(body))

    def _refuse(self, code: Code, end: End = End.UPSTREAM_FAILED) -> None:
        self._outcome.code = code
        meter = self._spending.meter
        refusal = None if meter is None else meter.refusal
        answer = problem(refusal if refusal and refusal.code is code else refuse(code), self._call_id)
        self._outcome.answered(answer[0])
        self._outcome.bytes_out = len(answer[2])
        self._finish(end, lambda: self._request.answer(answer))

    # -- the end

    def _finish(self, end: End, then: Step = nothing) -> None:
        """Settle, close the record, leave: once, whatever comes after. `then`: what is handed on after it."""
        if self._call_id == "":
            return
        call_id, self._call_id = self._call_id, ""
        self._close(call_id, end, then, COUNTING_TRIES)

    def _close(self, call_id: str, end: End, then: Step, tries: int) -> None:
        if tries and self._spending.counting:
            asyncio.get_running_loop().call_later(
                COUNTING_PAUSE, self._close_late, call_id, end, self._end, then, tries - 1
            )
            return
        node = self._node
        if self._refund:
            self._spending.give_back()
        self._spending.settle(self._outcome.spent(self._request.received))
        node.leave(self)
        self._runtime.leave()
        node.turn.record(
            self._outcome.closed(call_id, end, self._request.received, self._spending),
            then=then,
            otherwise=self._request.abort,
            failed=self._request.abort,
        )

    def _close_late(self, call_id: str, end: End, ended: End | None, then: Step, tries: int) -> None:
        if self._end is not None and self._end is not ended:
            # Cut meanwhile: what was to be handed on is not.
            end, then = self._end, self._request.abort
        self._close(call_id, end, then, tries)
