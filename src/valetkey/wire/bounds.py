"""How much and how long, for callers in every version of HTTP."""

HEAD_SECONDS = 10.0
"""A caller has so long to send a request head; silent connections are closed after it."""
KEEPALIVE_SECONDS = 75.0
"""A connection is kept so long after an answer."""
LINGER_SECONDS = 1.0
"""A caller that was answered before it had sent everything has so long to read why."""
MAX_HEAD_BYTES = 32_768
"""Request line and headers together."""
MAX_FIELDS = 128
"""Header fields of a request."""
READ_BYTES = 16_384
"""Bytes that are parsed in one go: so many requests as stand in them are made at once."""
REQUESTS_A_TURN = 4
"""Requests of one connection that are answered before the others have their turn."""
MAX_AHEAD = 8
"""So many requests may wait behind the one that is open, and those that stand in one piece with the last."""
MAX_HELD = 65_536
"""Bytes that may wait unparsed; more stays in the kernel."""
MAX_DROPPED = 1_000_000
"""So many bytes are read and dropped on a connection that is about to end."""
STALL_MS = 60_000
"""A caller that takes nothing for so long is dropped by the kernel (TCP_USER_TIMEOUT)."""
WAITING_BYTES = 65_536
"""So much of an answer may wait in the worker before its sender is made to wait."""
