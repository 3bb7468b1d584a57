"""Every answer Valetkey gives to a call has exactly one of these codes.

The order of the members is the order of the checks: the first check that fails names the code.
Codes are only ever added, never renamed: scripts and journals of others rely on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PROBLEM_TYPES = "https://valetkey.dev/codes#"
"""Problem types are names, not addresses to fetch (RFC 9457, section 3.1.1)."""


class Code(StrEnum):
    """One answer. The value is what stands on the wire and in the journal."""

    TLS_REQUIRED = "TLS_REQUIRED"
    HOST_UNKNOWN = "HOST_UNKNOWN"
    METHOD_REFUSED = "METHOD_REFUSED"
    NOT_SUPPORTED = "NOT_SUPPORTED"
    MALFORMED = "MALFORMED"
    PATH_REFUSED = "PATH_REFUSED"
    TOO_LARGE = "TOO_LARGE"
    UNKNOWN_KEY = "UNKNOWN_KEY"
    SERVICE_DENIED = "SERVICE_DENIED"
    REVOKED = "REVOKED"
    SUSPENDED = "SUSPENDED"
    EXPIRED = "EXPIRED"
    SERVICE_LOCKED = "SERVICE_LOCKED"
    ADDRESS_BLOCKED = "ADDRESS_BLOCKED"
    NETWORK_DENIED = "NETWORK_DENIED"
    ORIGIN_DENIED = "ORIGIN_DENIED"
    HOST_DENIED = "HOST_DENIED"
    ENDPOINT_DENIED = "ENDPOINT_DENIED"
    SCHEDULE_DENIED = "SCHEDULE_DENIED"
    ROLE_DENIED = "ROLE_DENIED"
    POLICY_DENIED = "POLICY_DENIED"
    CONTEXT_MISSING = "CONTEXT_MISSING"
    USES_EXHAUSTED = "USES_EXHAUSTED"
    THROTTLED = "THROTTLED"
    RATE_LIMITED = "RATE_LIMITED"
    CONCURRENCY_LIMITED = "CONCURRENCY_LIMITED"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    BUDGET_EXCEEDED = "BUDGET_EXCEEDED"
    VALID = "VALID"
    SECRET_UNAVAILABLE = "SECRET_UNAVAILABLE"  # noqa: S105 - a code, not a secret
    UPSTREAM_REFUSED_SECRET = "UPSTREAM_REFUSED_SECRET"  # noqa: S105
    UPSTREAM_FAILED = "UPSTREAM_FAILED"
    UPSTREAM_TIMEOUT = "UPSTREAM_TIMEOUT"
    NOT_READY = "NOT_READY"

    @property
    def info(self) -> CodeInfo:
        """Status, sentence and next step of this code."""
        return CODES[self]


@dataclass(frozen=True, slots=True)
class CodeInfo:
    """What a person and a program are told beside the code."""

    status: int
    """HTTP status of the refusal (200 for VALID)."""
    sentence: str
    """What happened, as a person would like to read it."""
    next_step: str
    """What to do about it."""
    waiting_helps: bool = False
    """Whether the same call may pass later by itself; if not, clients are told not to retry."""


_ASK_HOLDER = "Ask whoever gave you this key for one that opens it."

CODES: dict[Code, CodeInfo] = {
    Code.TLS_REQUIRED: CodeInfo(
        400, "This port speaks TLS, and the request came in plain text.", "Use https:// in the address."
    ),
    Code.HOST_UNKNOWN: CodeInfo(
        421,
        "This gateway does not answer to that host name.",
        "Use the host name the gateway was given; its owner adds one with serve --public-name.",
    ),
    Code.METHOD_REFUSED: CodeInfo(
        405, "That HTTP method is not accepted.", "Use GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS."
    ),
    Code.NOT_SUPPORTED: CodeInfo(
        501, "The gateway does not carry that kind of connection.", "Use plain HTTP requests."
    ),
    Code.MALFORMED: CodeInfo(
        401,
        "The call does not carry exactly one well-formed key.",
        "Send one valet key, where this API expects its key.",
    ),
    Code.PATH_REFUSED: CodeInfo(
        400, "The path can be read in more than one way.", "Send the path in its plain form."
    ),
    Code.TOO_LARGE: CodeInfo(413, "The call is larger than is accepted here.", "Send less at once."),
    Code.UNKNOWN_KEY: CodeInfo(
        401,
        "This key is not known here.",
        "Check that it was copied whole, and that the address begins with /SERVICE/.",
    ),
    Code.SERVICE_DENIED: CodeInfo(403, "This key does not open this service.", _ASK_HOLDER),
    Code.REVOKED: CodeInfo(401, "This key was revoked.", "Ask whoever gave it to you for a new one."),
    Code.SUSPENDED: CodeInfo(403, "This key is suspended.", "Ask whoever gave it to you to resume it."),
    Code.EXPIRED: CodeInfo(401, "This key has expired.", "Ask whoever gave it to you for a new one."),
    Code.SERVICE_LOCKED: CodeInfo(423, "This service is locked.", "Wait until its owner unlocks it."),
    Code.ADDRESS_BLOCKED: CodeInfo(403, "Calls from this address are blocked.", "Ask the gateway's owner."),
    Code.NETWORK_DENIED: CodeInfo(
        403, "This key may not be used from this network.", "Call from a network the key is meant for."
    ),
    Code.ORIGIN_DENIED: CodeInfo(
        403, "This key may not be used from this web origin.", "Call from a site the key is meant for."
    ),
    Code.HOST_DENIED: CodeInfo(403, "This key does not open this host.", _ASK_HOLDER),
    Code.ENDPOINT_DENIED: CodeInfo(403, "This key does not open this endpoint.", _ASK_HOLDER),
    Code.SCHEDULE_DENIED: CodeInfo(
        403, "This key is not valid at this time of the week.", "Call within the key's schedule."
    ),
    Code.ROLE_DENIED: CodeInfo(403, "The key's role does not include this operation.", _ASK_HOLDER),
    Code.POLICY_DENIED: CodeInfo(403, "A policy refuses this call.", "Ask the gateway's owner which one."),
    Code.CONTEXT_MISSING: CodeInfo(
        403, "A policy needs a fact that this call does not carry.", "Ask the gateway's owner which one."
    ),
    Code.USES_EXHAUSTED: CodeInfo(
        401, "All uses of this key are spent.", "Ask whoever gave it to you for a new one."
    ),
    Code.THROTTLED: CodeInfo(
        429, "Too many unusable keys came from this address.", "Wait, then send a key that works.", True
    ),
    Code.RATE_LIMITED: CodeInfo(429, "Calls come faster than this key allows.", "Wait, then retry.", True),
    Code.CONCURRENCY_LIMITED: CodeInfo(
        429, "As many calls are open as this key allows.", "Wait until one ends, then retry.", True
    ),
    Code.QUOTA_EXCEEDED: CodeInfo(
        403, "The key's quota for this period is spent.", "Wait for the next period or ask for more."
    ),
    Code.BUDGET_EXCEEDED: CodeInfo(
        403,
        "The key's budget for this period does not cover this call.",
        "Wait for the next period or ask for more.",
    ),
    Code.VALID: CodeInfo(200, "The call is allowed.", "Nothing to do."),
    Code.SECRET_UNAVAILABLE: CodeInfo(
        502, "The gateway has no working key for this service.", "The gateway's owner must set one."
    ),
    Code.UPSTREAM_REFUSED_SECRET: CodeInfo(
        502,
        "The service refused the gateway's own key.",
        "The gateway's owner must check the key kept for this service.",
    ),
    Code.UPSTREAM_FAILED: CodeInfo(
        502, "The service could not be reached or broke off.", "Try again later.", True
    ),
    Code.UPSTREAM_TIMEOUT: CodeInfo(504, "The service did not answer in time.", "Try again later.", True),
    Code.NOT_READY: CodeInfo(503, "The gateway cannot decide right now.", "Try again in a moment.", True),
}
