"""Reads request bodies: at most so many bytes, in time, JSON of sane depth, of exactly the type that is asked for."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import msgspec
from litestar import Request

from valetkey.api.faults import struct_of, unknown_field, wrong_body
from valetkey.api.problems import MediaTypeRefused, TooLarge, TooSlow
from valetkey.errors import Invalid

MAX_BODY_BYTES = 1_048_576
"""A request of this API is a form filled in by a person or a script: 1 MiB is far beyond the longest."""
BODY_TIMEOUT = 30.0
"""Seconds for a whole body, so that slow senders cannot hold the control process."""
MAX_DEPTH = 32
"""Nesting of JSON; our deepest request has four levels. Decoders recurse, so depth costs stack."""

# A string that never ends matches to the end: otherwise each quote in it would be tried again, for hours.
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL)
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_UTF8 = (b"", b"charset=utf-8", b'charset="utf-8"')


async def read_body(scope: dict[str, Any], receive: Any) -> bytes:
    """The whole body. Raises `TooLarge`, `TooSlow`, and `Invalid` where the client left halfway."""
    declared = _header(scope, b"content-length")
    if declared is not None and (not declared.isdigit() or int(declared[:20]) > MAX_BODY_BYTES):
        raise _too_large()
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Invalid("The request broke off.", "Send it again.")
                piece = message.get("body", b"")
                size += len(piece)
                if size > MAX_BODY_BYTES:
                    raise _too_large()
                pieces.append(piece)
                if not message.get("more_body", False):
                    return b"".join(pieces)
    except TimeoutError:
        raise TooSlow("The body did not arrive in time.", "Send it again, faster.") from None


def check_body(scope: dict[str, Any], body: bytes) -> None:
    """Refuse what no decoder should be bothered with. Raises `MediaTypeRefused` and `Invalid`."""
    kind, _, parameter = (_header(scope, b"content-type") or b"application/json").lower().partition(b";")
    if kind.strip() != b"application/json" or parameter.strip() not in _UTF8:
        raise MediaTypeRefused("The body is not said to be JSON.", "Send Content-Type: application/json.")
    if _NUL.search(body):
        raise Invalid("The body holds a NUL character.", "Leave it out.")
    depth = 0
    for mark in re.findall(rb"[\[\]{}]", _STRING.sub(b"", body)):
        depth += 1 if mark in b"[{" else -1
        if depth > MAX_DEPTH:
            raise Invalid("The body is nested too deeply.", f"Use at most {MAX_DEPTH} levels.")


class StrictRequest(Request[Any, Any, Any]):
    """A request whose JSON is decoded once, strictly, into the type that the handler names.

    Litestar itself would take ``"5"`` for 5 and quote the value in the error.
    """

    async def json(self) -> Any:
        annotation = self.route_handler.parsed_fn_signature.parameters["data"].annotation
        body = await self.body()
        made = decode(body, annotation)
        struct = struct_of(annotation)
        # Whatever a type of a room allows: a field that nobody reads is a mistake to be told.
        if (
            made is not None
            and struct is not None
            and not struct.__struct_config__.forbid_unknown_fields
            and decode(body, dict[str, msgspec.Raw]).keys() - set(struct.__struct_encode_fields__)
        ):
            raise unknown_field(struct, body=body)
        return made


def decode(body: bytes, kind: Any) -> Any:
    """`body` as a `kind`. Raises `Invalid`, which quotes nothing of it."""
    fault: Invalid
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        fault = wrong_body(error, kind, body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        fault = Invalid("The body is not valid JSON.", "Send one JSON object in UTF-8.")
    raise fault


def _header(scope: dict[str, Any], name: bytes) -> bytes | None:
    return next((value for key, value in scope["headers"] if key.lower() == name), None)


def _too_large() -> TooLarge:
    return TooLarge("The body is too large.", f"Send at most {MAX_BODY_BYTES} bytes.")
