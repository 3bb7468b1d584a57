"""Whether an upstream's 401 or 403 is about the key that we put in: then the caller gets an answer of ours."""

from __future__ import annotations

import asyncio

from valetkey.gateway.runtime import ServiceRuntime
from valetkey.gateway.scrub import CodingRefused, Decoder
from valetkey.wire.upstream import Answer, AnswerBroken

REFUSAL_SECONDS = 2.0
"""A refusal comes whole or not at all; what has come by then is judged."""
MAX_REFUSAL_BODY = 16_384
"""So much of a 403 is read to see whether it is about our key."""


async def is_about_our_key(answer: Answer, runtime: ServiceRuntime) -> bool:
    """A 401 always is: the caller's key was taken out. What was read of another is put back."""
    if answer.status == 401:
        return True
    body = b""
    try:
        async with asyncio.timeout(REFUSAL_SECONDS):
            while len(body) < MAX_REFUSAL_BODY and (piece := await answer.read()):
                body += piece
    except AnswerBroken:
        return True
    except TimeoutError:
        pass
    plain = body
    try:
        plain = b"".join(Decoder(answer.coding or b"").decode(body))
    except CodingRefused:
        pass  # judged again, and refused, when it is handed on
    answer.unread(body)
    return runtime.speaks_of_our_key(plain)
