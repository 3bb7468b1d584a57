"""The reference of verify: Granian's embedded server, parsing the same JSON, answering a constant. A process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import uvloop

from valetkey.gateway.verify import Question
from valetkey.server.listener import Listener

CONSTANT = (
    b'{"valid":true,"code":"VALID","sentence":"The call is allowed.","call":"00000000000000000000000000",'
    b'"key_id":"key_aaaaaaaaaaaaaaaa","kind":"private","holder":"holder 1","endpoint":"GET /v1/**"}'
)


_decode = msgspec.json.Decoder(Question).decode


async def answer(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[..., Any]) -> None:
    """Parse the question as verify does; answer as long an answer as verify gives."""
    event = await receive()
    _decode(event["body"])
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(CONSTANT)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": CONSTANT, "more_body": False})


async def _serve(port: int) -> None:
    await Listener(answer, port=port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
