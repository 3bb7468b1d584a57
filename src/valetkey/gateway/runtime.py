"""What a worker compiles for one service: intake, way upstream, needles, media endpoints."""

from __future__ import annotations

import re
from collections.abc import Callable

from valetkey.decision.call import Call
from valetkey.decision.restrictions.patterns import EndpointPattern, PatternIndex
from valetkey.gateway.credentials import Intake
from valetkey.gateway.entries import ServiceEntry
from valetkey.gateway.facts import SecretVersion
from valetkey.gateway.node import Node
from valetkey.gateway.scrub import Needles
from valetkey.gateway.upstream import Upstream
from valetkey.services.catalogue import load_preset
from valetkey.services.dialling import OwnListeners
from valetkey.services.placement import Basic
from valetkey.services.service import Service
from valetkey.settings import Settings

# Vendors say it in many words; a 403 that speaks of the credential as such is about ours, one that speaks of
# a missing right is about the call.
_ABOUT_A_KEY = re.compile(
    rb"(invalid|incorrect|expired|revoked|disabled|deactivated|missing|unknown|bad)[ _-]{1,3}"
    rb"((api|access|secret|auth)[ _-]?)?(key|token|credentials?|authentication)",
    re.IGNORECASE,
)


class ServiceRuntime:
    """One service ready to carry calls."""

    def __init__(
        self,
        service: Service,
        secrets: list[SecretVersion],
        own: OwnListeners,
        settings: Settings,
        address: bytes,
    ) -> None:
        self.service = service
        self.intake = Intake.compile(service)
        self.upstream = Upstream(service, own, connect_timeout=settings.connect_timeout)
        self.ceiling = min(service.ceiling, settings.max_body_mb * 1_000_000)
        self.public_address = address
        self.needles = needles_of(service, secrets)
        self._users = 0
        self._retired = False
        media = load_preset(service.preset).media if service.preset else ()
        self._media = PatternIndex([EndpointPattern(pattern) for pattern in media]) if media else None

    def use(self) -> None:
        """A call goes through it."""
        self._users += 1

    def leave(self) -> None:
        """The call has ended."""
        self._users -= 1
        self._close_when_unused()

    def retire(self) -> None:
        """The service has changed: calls in hand end on this one, new ones use the next."""
        self._retired = True
        self._close_when_unused()

    def _close_when_unused(self) -> None:
        if self._retired and not self._users:
            self.upstream.close()

    def is_media(self, call: Call) -> bool:
        """Whether the endpoint answers with files, so that a Range makes sense."""
        if self._media is None or call.method is None or call.path is None:
            return False
        return self._media.find(call.method, call.host, call.path.segments) is not None

    def speaks_of_our_key(self, body: bytes) -> bool:
        """Whether an error body is about the key that we put in."""
        return self.needles.occur_in(body) or _ABOUT_A_KEY.search(body) is not None


def needles_of(service: Service, secrets: list[SecretVersion]) -> Needles:
    """Everything answers of this service are scrubbed of."""
    parts = {value.encode() for version in secrets for value in version.parts.values()}
    if isinstance(service.placement, Basic):
        # A secret with a colon is user:password, and an upstream may say either alone.
        parts |= {side for part in parts for side in part.split(b":", 1) if side}
    users = [service.placement.user.encode()] if isinstance(service.placement, Basic) else []
    return Needles.build(sorted(parts), users)


class LiveNeedles:
    """What the answers of one open call are scrubbed of: a secret may be set while it is open."""

    __slots__ = ("_generation", "_index", "_key_id", "_needles", "_node", "_runtime_of")

    def __init__(
        self,
        node: Node,
        key_id: str,
        needles: Needles,
        runtime_of: Callable[[ServiceEntry], ServiceRuntime],
    ) -> None:
        self._node = node
        self._key_id = key_id
        self._needles = needles
        self._runtime_of = runtime_of
        self._index = node.index
        self._generation = node.index.generation

    @property
    def now(self) -> Needles:
        """Those that hold now."""
        index = self._node.index
        if index.generation != self._generation or index is not self._index:
            self._index, self._generation = index, index.generation
            key = index.get(self._key_id)
            service = None if key is None else index.services.get(index.service_name(key.service_id))
            if service is not None:
                self._needles = self._runtime_of(service).needles
        return self._needles
