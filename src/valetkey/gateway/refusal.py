"""A refusal on the wire: RFC 9457 problem+json with one code, one sentence, one next step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from valetkey.decision.call import Decision
from valetkey.decision.codes import CODES, PROBLEM_TYPES, Code
from valetkey.decision.restrictions.patterns import METHODS
from valetkey.readiness import Missing
from valetkey.wire.request import HeaderPairs, WholeAnswer

_encode = msgspec.json.Encoder().encode

_ALLOW = ", ".join(METHODS).encode()
NO_RETRY: HeaderPairs = [(b"x-should-retry", b"false"), (b"stripe-should-retry", b"false")]
"""What the official clients understand of "waiting does not help"."""
POST_ONLY = "Use POST."
"""What to do where Valetkey itself is asked in another way."""


def problem(
    decision: Decision,
    call_id: str | None,
    *,
    status: int | None = None,
    title: str | None = None,
    own: bool = False,
) -> WholeAnswer:
    """Status and title (the code's own where none is given), headers and body. Nothing of the request is echoed.

    `own`: Valetkey itself was asked, which is by POST alone.
    """
    info = CODES[decision.code]
    next_step = POST_ONLY if own and decision.code is Code.METHOD_REFUSED else decision.next_step
    status = status or info.status
    document: dict[str, Any] = {
        "type": f"{PROBLEM_TYPES}{decision.code.lower()}",
        "title": title or info.sentence,
        "status": status,
        "code": decision.code,
        "detail": decision.sentence,
        "next_step": next_step,
    }
    if call_id is not None:
        document["call"] = call_id
    # The official clients of OpenAI and Anthropic show what stands in `error.message`.
    document["error"] = {
        "code": decision.code,
        "message": f"{decision.sentence} {next_step}",
        "type": "valetkey",
    }
    body = _encode(document)
    headers: HeaderPairs = [
        (b"content-type", b"application/problem+json"),
        (b"cache-control", b"no-store"),
        (b"x-valetkey-code", decision.code.encode()),
    ]
    if not info.waiting_helps:
        headers += NO_RETRY
    if status == 429:
        # Stripe's package repeats a 429 only where it is told to.
        headers.append((b"stripe-should-retry", b"true"))
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="valetkey"'))
    if status == 405:
        headers.append((b"allow", b"POST" if own else _ALLOW))
    if decision.code is Code.NOT_READY:
        headers.append((b"retry-after", b"1"))
    if decision.retry_after is not None:
        headers.append((b"retry-after", str(max(1, math.ceil(decision.retry_after))).encode()))
    if decision.rate is not None:
        headers.append((b"ratelimit-policy", decision.rate.policy_header.encode()))
        headers.append((b"ratelimit", decision.rate.header.encode()))
    return status, headers, body


def plain_answer(status: int, body: bytes) -> WholeAnswer:
    """Status, headers and body of an answer in JSON that is no refusal."""
    return status, [(b"content-type", b"application/json")], body


def readiness(missing: Sequence[Missing]) -> WholeAnswer:
    """What a probe is told: ok, or in coarse words what is missing."""
    if not missing:
        return plain_answer(200, _encode({"status": "ok"}))
    status, headers, body = plain_answer(503, _encode({"status": "not ready", "missing": missing}))
    return status, [*headers, (b"retry-after", b"1"), (b"cache-control", b"no-store")], body
