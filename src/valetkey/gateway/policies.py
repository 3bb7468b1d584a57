"""The policies of one worker: told as documents, read and compiled for a service when a key first needs them."""

from __future__ import annotations

import msgspec

from valetkey.decision.policy import CompiledPolicy, Policy, compile_policy
from valetkey.decision.restrictions import Networks
from valetkey.services.catalogue import compile_context
from valetkey.services.service import Service


class Policies:
    """By their ids."""

    def __init__(self) -> None:
        self._documents: dict[str, str] = {}
        self._parsed: dict[str, Policy] = {}
        self._compiled: dict[tuple[str, str], CompiledPolicy] = {}
        """By policy and service."""
        self._used: dict[str, int] = {}
        """How many keys and agreements have a policy."""

    def tell(self, policy_id: str, document: str) -> bool:
        """Take a document; whether it stands in the place of another one."""
        known = self._documents.get(policy_id)
        self._documents[policy_id] = document
        if known is None or known == document:
            return False
        self._parsed.pop(policy_id, None)
        return True

    def take(self, policy_id: str) -> None:
        """One more has it."""
        self._used[policy_id] = self._used.get(policy_id, 0) + 1

    def let_go(self, policy_id: str) -> None:
        """One less has it."""
        left = self._used[policy_id] = self._used[policy_id] - 1
        if not left:
            del self._used[policy_id]

    def forget_unused(self, policy_id: str) -> bool:
        """Forget it if nobody has it: whoever has it next, is told with it. Whether that was so."""
        if policy_id in self._used:
            return False
        self._documents.pop(policy_id, None)
        self._parsed.pop(policy_id, None)
        self.forget_compiled({policy_id})
        return True

    def compiled(
        self,
        policy_id: str,
        service_id: str,
        service: Service,
        networks: dict[str, tuple[str, ...]],
        listeners: dict[str, str],
    ) -> CompiledPolicy:
        """Ready to judge calls of a service. Raises LookupError and ValueError for what cannot be compiled."""
        made = self._compiled.get((policy_id, service_id))
        if made is None:
            policy = self._parsed.get(policy_id)
            if policy is None:
                policy = msgspec.json.decode(self._documents[policy_id], type=Policy)
                self._parsed[policy_id] = policy
            context = compile_context(service, networks, listeners)
            made = self._compiled[policy_id, service_id] = compile_policy(policy, context)
        return made

    def naming(self, network: str) -> set[str]:
        """Those that name a network. One that was never read has made no compiled key."""
        return {name for name, policy in self._parsed.items() if _names_network(policy, network)}

    def forget_compiled(self, policy_ids: set[str]) -> None:
        """What these are compiled to does not hold any more."""
        for pair in [pair for pair in self._compiled if pair[0] in policy_ids]:
            del self._compiled[pair]

    def forget_service(self, service_id: str) -> None:
        """What is compiled for a service does not hold any more."""
        for pair in [pair for pair in self._compiled if pair[1] == service_id]:
            del self._compiled[pair]


def _names_network(policy: Policy, name: str) -> bool:
    networks = policy.find(Networks)
    return isinstance(networks, Networks) and name in networks.allow
