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
    said = await what_it_says(answer)
    return said is None or runtime.speaks_of_our_key(said)


async def what_it_says(answer: Answer) -> bytes | None:
    """The beginning of a refusal's body, opened; None when it broke off. What was read stays to be handed on."""
    body = b""
    try:
        async with asyncio.timeout(REFUSAL_SECONDS):
            while len(body) < MAX_REFUSAL_BODY and (piece := await answer.read()):
                body += piece
    except AnswerBroken:
        return None
    except TimeoutError:
        pass
    answer.unread(body)
    plain = b""
    try:
        for piece in Decoder(answer.coding or b"").decode(body):
            plain += piece
            if len(plain) >= MAX_REFUSAL_BODY:
                break
    except CodingRefused:
        return body  # judged again, and refused, when it is handed on
    return plain
