"""What a temporary key can be tied to, as it is stored: the token that asked for it, or a process of this machine."""

from __future__ import annotations

from valetkey.processes import RunningProcess


def process_session(process: RunningProcess) -> str:
    """The session that is that process."""
    return f"process:{process.pid}:{process.started}:{process.boot}"


def token_session(token_id: str) -> str:
    """The session of whoever shows that token."""
    return f"token:{token_id}"


def process_of(session: str) -> RunningProcess | None:
    """The process of `process_session`; None for a token's session."""
    kind, _, rest = session.partition(":")
    if kind != "process":
        return None
    pid, started, boot = rest.split(":")
    return RunningProcess(int(pid), int(started), boot)


def words(session: str) -> str:
    """``process 4711`` or ``token tok_…``, for people."""
    kind, name = session.split(":")[:2]
    return f"{kind} {name}"
