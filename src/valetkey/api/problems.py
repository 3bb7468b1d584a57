"""Every error that leaves by the control API: RFC 9457 problem+json with a code, a sentence, a next step.

Nothing of the request is echoed, no traceback leaves, and what was not foreseen is logged by its type alone.
"""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)

from valetkey import log
from valetkey.api.faults import wrong_parameter
from valetkey.decision.codes import PROBLEM_TYPES
from valetkey.errors import Invalid, NotFound, NotReady, ValetkeyError
from valetkey.keys.format import mask_keys

MEDIA_TYPE = "application/problem+json"

HeaderPairs = list[tuple[bytes, bytes]]


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error as it leaves (RFC 9457)."""

    type: str
    """Name of the kind of error."""
    title: str
    """The kind of error in words; the same for the same code."""
    status: int
    """HTTP status, repeated."""
    code: str
    """Stable word for programs."""
    detail: str
    """What is wrong, in one sentence."""
    next_step: str
    """What to do about it."""
    field: str | None = None
    """Which field of the request is at fault, if one is."""
    missing: tuple[str, ...] | None = None
    """Only of `/readyz`: in coarse words, what the server is not ready for want of."""
    call: str | None = None
    """Only at the gateway: the id of the call, as the record has it."""
    error: dict[str, str] | None = None
    """Only at the gateway: code and sentences again, where the official packages of vendors look for them."""


class MethodRefused(ValetkeyError):
    """The path exists, the method does not."""

    status = 405
    code = "METHOD_REFUSED"

    def __init__(self, allow: str = "") -> None:
        super().__init__(
            "That method is not accepted here.", "Use one of the methods that the Allow header lists."
        )
        self.allow = allow


class TooSlow(ValetkeyError):
    """The body did not arrive in time."""

    status = 408
    code = "TOO_SLOW"


class TooLarge(ValetkeyError):
    """The body is larger than any request of this API."""

    status = 413
    code = "TOO_LARGE"


class MediaTypeRefused(ValetkeyError):
    """The body is said to be something else than JSON."""

    status = 415
    code = "MEDIA_TYPE_REFUSED"


class HostUnknown(ValetkeyError):
    """The Host header names somebody else: a rebound name in a browser, or a missing public name."""

    status = 421
    code = "HOST_UNKNOWN"

    def __init__(self) -> None:
        super().__init__(
            "This server does not answer to that host name.",
            "Use localhost, or start the server with --public-name NAME.",
        )


class NotSupported(ValetkeyError):
    """A kind of connection that is not carried."""

    status = 501
    code = "NOT_SUPPORTED"


class Unexpected(ValetkeyError):
    """Something failed that should not. The person learns that it was not their doing."""

    status = 500
    code = "UNEXPECTED"

    def __init__(self) -> None:
        super().__init__(
            "The server failed at this request; the reason is in its log.",
            "Try again; if it lasts, tell whoever runs the server.",
        )


TITLES: dict[str, str] = {
    "INVALID": "The request is wrong",
    "NOT_AUTHENTICATED": "Nobody is signed in",
    "NOT_PERMITTED": "Not permitted",
    "NOT_FOUND": "Not found",
    "METHOD_REFUSED": "Method not accepted",
    "TOO_SLOW": "The body came too slowly",
    "CONFLICT": "Conflict with what is there",
    "TOO_LARGE": "The body is too large",
    "MEDIA_TYPE_REFUSED": "The body is not JSON",
    "HOST_UNKNOWN": "Unknown host name",
    "UNEXPECTED": "The server failed",
    "NOT_SUPPORTED": "Not supported",
    "UNAVAILABLE": "Not available right now",
}

_encode = msgspec.json.Encoder().encode


def problem(error: ValetkeyError, call: str | None = None) -> tuple[int, HeaderPairs, bytes]:
    """Status, headers and body of an error. `call`: the id of the call at the gateway that it answers."""
    detail = _shown(error.sentence)
    next_step = _shown(error.next_step or "See what the request should be at /api/v1/openapi.json")
    body = _encode(
        Problem(
            type=f"{PROBLEM_TYPES}{error.code.lower()}",
            title=TITLES.get(error.code, "The request was refused"),
            status=error.status,
            code=error.code,
            detail=detail,
            next_step=next_step,
            field=error.field,
            missing=error.missing if isinstance(error, NotReady) else None,
            call=call,
            error=None
            if call is None
            else {"code": error.code, "message": f"{detail} {next_step}", "type": "valetkey"},
        )
    )
    headers: HeaderPairs = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
    ]
    if error.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="valetkey"'))
    if error.status == 503:
        headers.append((b"retry-after", b"1"))
    if isinstance(error, MethodRefused) and error.allow:
        headers.append((b"allow", error.allow.encode()))
    return error.status, headers, body


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The one exception handler of the application."""
    status, headers, body = problem(told(error))
    # Content-Type and Content-Length are the response's own business.
    return Response(
        body,
        status_code=status,
        media_type=MEDIA_TYPE,
        headers={
            name.decode(): value.decode() for name, value in headers if not name.startswith(b"content-")
        },
    )


def told(error: Exception) -> ValetkeyError:
    """Any exception as one that may leave."""
    if isinstance(error, ValetkeyError):
        return error
    if isinstance(error, ValidationException):
        return wrong_parameter(error)
    if isinstance(error, NotFoundException):
        return NotFound(
            "There is nothing at this address.", "See the list of addresses at /api/v1/openapi.json."
        )
    if isinstance(error, MethodNotAllowedException):
        allowed = {name.strip() for name in (error.headers or {}).get("allow", "").split(",")} - {
            "",
            "OPTIONS",
        }
        # The guard answers HEAD wherever there is a GET.
        return MethodRefused(", ".join(sorted(allowed | ({"HEAD"} if "GET" in allowed else set()))))
    if isinstance(error, HTTPException) and error.status_code == 400:
        return Invalid("The request cannot be read.", "See what it should be at /api/v1/openapi.json.")
    # The message of an unforeseen exception may carry anything, a secret too: only its type is logged.
    log.error("request_failed", kind=_type_names(error))
    return Unexpected()


def _type_names(error: BaseException) -> str:
    names = [type(error).__name__]
    while (cause := error.__cause__) is not None and len(names) < 5:
        names.append(type(cause).__name__)
        error = cause
    return " from ".join(names)


def _shown(sentence: str) -> str:
    """Whole, and with what could be a key as ``***``: a key given for a name comes back in no answer."""
    return _whole(mask_keys(sentence.encode("utf-8", "replace")).decode("utf-8", "replace"))


def _whole(sentence: str) -> str:
    """With its full stop; commands and addresses at the end of a next step stay as they can be copied."""
    return sentence if sentence.endswith((".", "!", "?", ")")) or ": " in sentence else f"{sentence}."
