"""The key index of one worker: every key by its fingerprint, compiled when first used, changed in place.

There is no decision cache. A change is in force when `apply` returns, which is what the control process waits
for before it answers whoever asked for the change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf

from valetkey.decision.policy import (
    MAX_DEPTH,
    CompiledKey,
    Policy,
    Standing,
    State,
    compile_key,
    compile_policy,
)
from valetkey.decision.reservation import Level, Plan
from valetkey.decision.restrictions import CompileContext, Sticky
from valetkey.gateway.entries import KeyEntry, ServiceEntry
from valetkey.gateway.facts import (
    AgreementFact,
    ClockFact,
    CredentialFact,
    DroppedFact,
    Fact,
    KeyFact,
    LimitsFact,
    NetworkFact,
    PartyFact,
    PolicyFact,
    SecretFact,
    SecretVersion,
    ServiceFact,
)
from valetkey.gateway.policies import Policies

_STATES = {state.value: state for state in State}


class KeyIndex:
    """All facts of one worker."""

    def __init__(self) -> None:
        self.index_key = b""
        self.generation = 0
        """Grows with every change; an open record names the generation it was decided under."""
        self.services: dict[str, ServiceEntry] = {}
        """By name."""
        self._service_names: dict[str, str] = {}
        self._keys: dict[bytes, KeyEntry] = {}
        self._by_id: dict[str, KeyEntry] = {}
        self._children: dict[str, set[str]] = {}
        self._policies = Policies()
        self.parties: dict[str, PartyFact] = {}
        self._networks: dict[str, tuple[str, ...]] = {}
        self._listeners: dict[str, str] = {}
        """Named networks that are an address of ours."""
        self._secrets: dict[tuple[str, str, str], SecretFact] = {}
        self._credentials: dict[bytes, CredentialFact] = {}
        self._limits: dict[tuple[str, str], Level] = {}
        """Limits that several keys share, by level and subject."""
        self._agreements: dict[str, AgreementFact] = {}
        """By partner."""
        self.newest = 0.0
        """What the clock must not be far behind."""
        self._shared: dict[str, str] = {}
        self._incomplete: set[str] = set()
        """Keys compiled while something they need was missing: tried again after every change."""
        self._appliers: dict[type, Callable[..., Iterable[str]]] = {
            ClockFact: self._apply_clock,
            LimitsFact: self._apply_limits,
            AgreementFact: self._apply_agreement,
            ServiceFact: self._apply_service,
            SecretFact: self._apply_secret,
            NetworkFact: self._apply_network,
            PolicyFact: self._apply_policy,
            PartyFact: self._apply_party,
            KeyFact: self._apply_key,
            DroppedFact: self._apply_dropped,
            CredentialFact: self._apply_credential,
        }

    # -- looking up

    def find(self, fingerprint: bytes) -> KeyEntry | None:
        """The key with this fingerprint, whatever its state."""
        return self._keys.get(fingerprint)

    def get(self, key_id: str) -> KeyEntry | None:
        """The key with this id."""
        return self._by_id.get(key_id)

    def credential(self, fingerprint: bytes) -> CredentialFact | None:
        """The living service credential with this fingerprint."""
        return self._credentials.get(fingerprint)

    def agreement_id(self, entry: KeyEntry) -> str | None:
        """The agreement of the key's holder, if that is a partner with one."""
        found = self._agreements.get(entry.holder_id)
        return None if found is None else found.id

    def service_name(self, service_id: str) -> str:
        """Name of a service, or its id when it is gone."""
        return self._service_names.get(service_id, service_id)

    def holder_name(self, entry: KeyEntry) -> str:
        """Name of the key's holder."""
        party = self.parties.get(entry.holder_id)
        return party.name if party is not None else entry.holder_id

    def secret(self, entry: KeyEntry, wall: float) -> SecretVersion | None:
        """The newest version that has not expired of the secret this key stands for."""
        known = self._secrets.get((entry.service_id, entry.environment_id, entry.secret_name))
        for version in () if known is None else known.versions:
            if version.expires is None or version.expires > wall:
                return version
        return None

    def secrets_of(self, service_id: str) -> list[SecretVersion]:
        """All versions of a service's secrets, just retired ones too: what its answers are scrubbed of."""
        return [
            version
            for fact in self._secrets.values()
            if fact.service_id == service_id
            for version in (*fact.versions, *fact.retired)
        ]

    def line(self, entry: KeyEntry) -> list[KeyEntry]:
        """The key and what it comes from, as far as that is known."""
        line = [entry]
        while (above := line[-1].parent_id) is not None and len(line) < MAX_DEPTH:
            parent = self._by_id.get(above)
            if parent is None:
                break
            line.append(parent)
        return line

    def compiled(self, entry: KeyEntry) -> CompiledKey:
        """The key ready to be judged. A policy that cannot be compiled any more suspends the key: fail closed."""
        made = entry.compiled
        if made is None:
            made = entry.compiled = self._compile(entry)
        return made

    def plan(self, key_id: str) -> Plan | None:
        """The limits of the key with this id; None where they cannot be told any more."""
        entry = self._by_id.get(key_id)
        made = None if entry is None else self.compiled(entry)
        return None if made is None or key_id in self._incomplete else made.plan

    @property
    def count(self) -> int:
        """How many keys are held."""
        return len(self._by_id)

    # -- changing

    def apply(self, facts: Iterable[Fact]) -> list[str]:
        """Put facts in force and return the ids of keys that no longer stand as they stood."""
        touched: list[str] = []
        for fact in facts:
            touched.extend(self._appliers[type(fact)](fact))
        if self._incomplete:
            self._forget(self._incomplete)
            self._incomplete.clear()
        self.generation += 1
        return list(dict.fromkeys(touched))

    def descendants(self, key_id: str) -> list[str]:
        """The key and all that descends from it."""
        found = [key_id]
        for identifier in found:
            found.extend(self._children.get(identifier, ()))
        return found

    def _apply_key(self, fact: KeyFact) -> Iterable[str]:
        old = self._by_id.get(fact.id)
        if old is not None and old.fingerprint != fact.fingerprint:
            self._keys.pop(old.fingerprint, None)
        share = self._shared.setdefault
        entry = KeyEntry(
            id=fact.id,
            fingerprint=fact.fingerprint,
            kind=share(fact.kind, fact.kind),
            service_id=share(fact.service_id, fact.service_id),
            environment_id=share(fact.environment_id, fact.environment_id),
            holder_id=share(fact.holder_id, fact.holder_id),
            policy_id=share(fact.policy_id, fact.policy_id),
            secret_name=share(fact.secret_name, fact.secret_name),
            state=_STATES[fact.state],
            expires=inf if fact.expires is None else fact.expires,
            block=fact.block,
            parent_id=fact.parent_id,
        )
        self._keys[fact.fingerprint] = entry
        self._by_id[fact.id] = entry
        self._policies.take(entry.policy_id)
        if old is not None:
            self._policies.let_go(old.policy_id)
        if fact.parent_id is not None:
            self._children.setdefault(fact.parent_id, set()).add(fact.id)
        if old is None:
            return ()
        return self._forget(self.descendants(fact.id))

    def _apply_dropped(self, fact: DroppedFact) -> Iterable[str]:
        entry = self._by_id.pop(fact.id, None)
        if entry is None:
            return ()
        self._keys.pop(entry.fingerprint, None)
        self._incomplete.discard(fact.id)
        siblings = self._children.get(entry.parent_id or "", set())
        siblings.discard(fact.id)
        if not siblings:
            self._children.pop(entry.parent_id or "", None)
        self._policies.let_go(entry.policy_id)
        if self._policies.forget_unused(entry.policy_id):
            self._shared.pop(entry.policy_id, None)
        return (fact.id,)

    def _apply_service(self, fact: ServiceFact) -> Iterable[str]:
        old_name = self._service_names.pop(fact.id, None)
        if old_name is not None:
            held = self.services.get(old_name)
            if held is not None and held.id == fact.id:
                del self.services[old_name]
        if fact.service is not None:
            self.services[fact.service.name] = ServiceEntry(fact.id, fact.service, fact.locked)
            self._service_names[fact.id] = fact.service.name
        self._policies.forget_service(fact.id)
        return self._forget(e.id for e in self._by_id.values() if e.service_id == fact.id)

    def _apply_secret(self, fact: SecretFact) -> Iterable[str]:
        self._secrets[fact.service_id, fact.environment_id, fact.name] = fact
        entry = self.services.get(self.service_name(fact.service_id))
        if entry is not None:
            entry.runtime = None
        return ()

    def _apply_network(self, fact: NetworkFact) -> Iterable[str]:
        self._networks.pop(fact.name, None)
        self._listeners.pop(fact.name, None)
        if fact.listener is None:
            self._networks[fact.name] = fact.blocks
        else:
            self._listeners[fact.name] = fact.listener
        return self._forget_policies(self._policies.naming(fact.name))

    def _apply_policy(self, fact: PolicyFact) -> Iterable[str]:
        return self._forget_policies({fact.id}) if self._policies.tell(fact.id, fact.document) else ()

    def _apply_party(self, fact: PartyFact) -> Iterable[str]:
        known = fact.id in self.parties
        self.parties[fact.id] = fact
        if not known:
            return ()
        return self._forget_with_descendants(e.id for e in self._by_id.values() if e.holder_id == fact.id)

    def _apply_clock(self, fact: ClockFact) -> Iterable[str]:
        self.newest = fact.newest
        return ()

    def _apply_limits(self, fact: LimitsFact) -> Iterable[str]:
        level = Level.compile(fact.level, fact.block, fact.limits)
        known = self._limits.get((fact.level, fact.subject))
        self._limits[fact.level, fact.subject] = level
        if known == level:
            return ()
        entries = self._by_id.values()
        if fact.level == "holder":
            self._forget_with_descendants(e.id for e in entries if e.holder_id == fact.subject)
        else:
            self._forget(e.id for e in entries if fact.level == "workspace" or e.service_id == fact.subject)
        return ()  # a limit decides who comes in; who is in is cut by its bytes at most, as they pass

    def _apply_agreement(self, fact: AgreementFact) -> Iterable[str]:
        old = self._agreements.get(fact.party_id)
        self._agreements[fact.party_id] = fact
        for policy_id in fact.policies.values():
            self._policies.take(policy_id)
        for policy_id in () if old is None else old.policies.values():
            self._policies.let_go(policy_id)
        return self._forget_with_descendants(
            e.id for e in self._by_id.values() if e.holder_id == fact.party_id
        )

    def _apply_credential(self, fact: CredentialFact) -> Iterable[str]:
        if fact.living:
            self._credentials[fact.fingerprint] = fact
        else:
            self._credentials.pop(fact.fingerprint, None)
        return ()

    def _forget_policies(self, policy_ids: set[str]) -> list[str]:
        if not policy_ids:
            return []
        self._policies.forget_compiled(policy_ids)
        bound = {a.party_id for a in self._agreements.values() if policy_ids & set(a.policies.values())}
        return self._forget_with_descendants(
            e.id for e in self._by_id.values() if e.policy_id in policy_ids or e.holder_id in bound
        )

    def _forget_with_descendants(self, key_ids: Iterable[str]) -> list[str]:
        return self._forget({below for key_id in key_ids for below in self.descendants(key_id)})

    def _forget(self, key_ids: Iterable[str]) -> list[str]:
        touched = list(key_ids)
        for key_id in touched:
            entry = self._by_id.get(key_id)
            if entry is not None:
                entry.compiled = None
        return touched

    # -- compiling

    def _compile(self, entry: KeyEntry) -> CompiledKey:
        name = self._service_names.get(entry.service_id)
        service = self.services.get(name) if name is not None else None
        if service is None or name is None:
            return self._dead(entry, entry.service_id, [])
        lineage = self.line(entry)
        standings = [Standing(link.state, link.expires) for link in lineage]
        for link in lineage:
            holder = self.parties.get(link.holder_id)
            if holder is None:
                self._incomplete.add(entry.id)
            if holder is None or holder.removed:
                standings.append(Standing(State.REVOKED))
        if lineage[-1].parent_id is not None:
            return self._dead(entry, name, standings)
        agreed = [self._agreements[h] for h in _holders(lineage) if h in self._agreements]
        for agreement in agreed:
            lives = not agreement.ended and service.id in agreement.policies
            begins = -inf if agreement.begins is None else agreement.begins
            standings.append(Standing(State.ACTIVE if lives else State.REVOKED, agreement.ends, begins))
        if any(service.id not in agreement.policies for agreement in agreed):
            return self._dead(entry, name, standings)
        try:
            ids = [link.policy_id for link in lineage] + [a.policies[service.id] for a in agreed]
            policies = [
                self._policies.compiled(one, service.id, service.service, self._networks, self._listeners)
                for one in ids
            ]
            levels = [
                Level.compile(
                    "key" if place == 0 else "ancestor",
                    link.block,
                    policies[place].policy.limits,
                    sticky=policies[place].policy.find(Sticky) is not None,
                )
                for place, link in enumerate(lineage)
            ]
            levels += [Level.compile("agreement", a.block, a.limits) for a in agreed]
            levels += self._shared_levels(lineage)
            return compile_key(
                service=name,
                service_locked=service.locked,
                standings=standings,
                policies=policies,
                levels=[level for level in levels if level.limited],
                agreed=len(agreed),
            )
        except (LookupError, ValueError):
            # A policy of a newer version, a name that is gone, a block that cannot be.
            return self._dead(entry, name, standings)

    def _shared_levels(self, lineage: list[KeyEntry]) -> Iterable[Level]:
        """Holders of the key and of what it comes from, each once; then the service, then the workspace."""
        if not self._limits:
            return []
        subjects = [("holder", holder) for holder in _holders(lineage)]
        subjects += [("service", lineage[0].service_id), ("workspace", "")]
        return [level for subject in subjects if (level := self._limits.get(subject)) is not None]

    def _dead(self, entry: KeyEntry, service: str, standings: list[Standing]) -> CompiledKey:
        """What cannot be compiled is suspended, unless it has ended for good: fail closed."""
        self._incomplete.add(entry.id)
        return compile_key(
            service=service,
            service_locked=False,
            standings=[*standings, Standing(State.SUSPENDED)],
            policies=[_EMPTY],
            levels=[],
        )


def _holders(lineage: list[KeyEntry]) -> Iterable[str]:
    return dict.fromkeys(link.holder_id for link in lineage)


_EMPTY = compile_policy(Policy(), CompileContext())
