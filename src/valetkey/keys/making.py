"""How a key comes to be, whoever asks for it: the row, the audit entry, what is shown once."""

from __future__ import annotations

import msgspec
from sqlalchemy import insert

from valetkey.access.actor import ActorKind
from valetkey.access.operation import Unit
from valetkey.access.sessions import words
from valetkey.decision.policy import Policy, State
from valetkey.decision.restrictions import Networks, Sticky
from valetkey.decision.restrictions.networks import everywhere
from valetkey.durations import as_minute, parse_instant, parse_span
from valetkey.keys.drafting import Terms
from valetkey.keys.format import generate
from valetkey.keys.kinds import KeyKind, defaults_of
from valetkey.parties.operations import Party, PartyKind, find_party, get_party, make_party
from valetkey.services.policies import context_of, patterns, policy_id
from valetkey.services.queries import StoredService, get_environment
from valetkey.services.service import Kind
from valetkey.store import tables
from valetkey.store.blocks import next_block, spare_block
from valetkey.vault.fingerprint import fingerprint
from valetkey.vault.keyring import INDEX, service_index
from valetkey.vault.queries import has_living_secret
from valetkey.vault.sealing import IssuedKeyContext


class IssuedKey(msgspec.Struct, frozen=True):
    """What issuing answers: the only time the value of a key that is not public is shown."""

    id: str
    key: str | None
    kind: str
    service: str
    holder: str
    environment: str
    label: str
    last4: str
    expires: float | None
    sentences: tuple[str, ...]
    parent: str | None = None
    """The key that it comes from, of a derived one."""
    holder_made: bool = False
    """Whether the holder was not known before and was made."""
    replayed: bool = False
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"IssuedKey(id={self.id!r}, key=***)"


def asked_end(unit: Unit, kind: KeyKind, expires: str | None, terms: Terms) -> float | None:
    """When a new key is to end, as asked or by its kind's default. Raises `Invalid`."""
    if expires is None and terms.uses is None:
        # A temporary key that ends by uses needs no time; one that says nothing gets the default of both.
        expires = defaults_of(kind).expires
    return None if expires is None else parse_instant(expires, unit.wall)


def ends_earlier(unit: Unit, expires: str | None, end: float | None, held_to: str) -> tuple[str, ...]:
    """What is said where a key ends with what it is held to, and so before the end that was asked for."""
    if expires is None or end is None:
        return ()
    asked, ends = as_minute(parse_instant(expires, unit.wall)), as_minute(end)
    return () if ends >= asked else (f"It ends with {held_to}, on {ends}, and not on {asked} as asked.",)


def make_key(
    unit: Unit,
    stored: StoredService,
    *,
    kind: KeyKind,
    environment: str,
    holder: Party,
    policy: Policy,
    secret: str,
    label: str,
    expires: float | None,
    holder_made: bool = False,
    parent: str | None = None,
    session: str | None = None,
    asked_by: str | None = None,
) -> IssuedKey:
    """Write a key's row. Whether it may be, the caller has found out. `asked_by`: the call that waits for it."""
    environment_id = get_environment(unit.connection, unit.workspace, environment)
    plain = generate("vk", kind, unit.random)
    value = plain.reveal()
    identifier = unit.new_id("key")
    review = defaults_of(kind).review
    own = stored.service.kind is Kind.OWN
    unit.connection.execute(
        insert(tables.keys).values(
            id=identifier,
            workspace_id=unit.workspace,
            environment_id=environment_id,
            service_id=stored.id,
            kind=kind.value,
            fingerprint=fingerprint(value, unit.keyring.key(unit.connection, INDEX)),
            service_fingerprint=fingerprint(
                value, unit.keyring.key(unit.connection, service_index(stored.id))
            )
            if own
            else None,
            last4=plain.last4,
            label=label,
            holder_id=holder.id,
            policy_id=policy_id(unit, policy),
            secret_name=secret,
            state=State.ACTIVE.value,
            block=spare_block(unit.connection) if parent is not None else next_block(unit.connection),
            created=unit.wall,
            expires=expires,
            review=None if review is None else unit.wall + parse_span(review),
            parent_id=parent,
            session_id=session,
            pinned=None if policy.find(Sticky) is None else "",
            asked_by=asked_by,
            sealed=unit.keyring.seal(
                plain, IssuedKeyContext(unit.workspace, stored.id, environment_id, identifier)
            )
            if kind is KeyKind.PUBLIC
            else None,
        )
    )
    service = stored.service.name
    unit.subject = f"key:{identifier}"
    unit.details |= {
        "service": service,
        "kind": kind.value,
        "holder": holder.name,
        "policy": msgspec.to_builtins(policy),
        "expires": expires,
    }
    sentences = policy.sentences()
    if parent is not None:
        unit.details["parent"] = parent
        sentences += (f"Never more than {parent}, which it comes from and ends with.",)
    if session is not None:
        unit.details["session"] = words(session)
        sentences += (f"Ends with {words(session)}.",)
    unit.touch("key", identifier)
    return IssuedKey(
        identifier,
        plain.reveal_text(),
        kind.value,
        service,
        holder.name,
        environment,
        label,
        plain.last4,
        expires,
        sentences,
        parent,
        holder_made,
        warnings=_warnings(unit, policy, stored, environment_id, secret),
    )


def holder_named(unit: Unit, name: str | None) -> tuple[Party, bool]:
    """The party of that name, made where nobody has it; None is the caller. And whether it was made."""
    if name is not None:
        found = find_party(unit.connection, unit.workspace, name)
        if found is not None:
            return found, False
        return make_party(unit, name, PartyKind.APPLICATION), True
    own = unit.actor.name
    found = find_party(unit.connection, unit.workspace, own)
    if found is None:
        if unit.actor.kind is not ActorKind.LOCAL_OWNER:
            return get_party(unit.connection, unit.workspace, own), False
        found = make_party(unit, own, PartyKind.PERSON)
    return found, False


def _warnings(
    unit: Unit, policy: Policy, stored: StoredService, environment_id: str, secret: str
) -> tuple[str, ...]:
    """What will surprise: said at issue, so that no caller finds out first."""
    service = stored.service
    said = []
    if service.kind is not Kind.OWN and not has_living_secret(
        unit.connection, stored.id, environment_id, secret, unit.wall
    ):
        name = service.name if secret == "default" else f"{service.name}/{secret}"  # noqa: S105
        said.append(f"{name} has no secret yet, so calls are refused. Set it: valetkey secret set {name}")
    if policy.limits.budgets and service.price_micros is None and service.kind is not Kind.OWN:
        said.append(
            f"{service.name} has no price, so a budget refuses every call. "
            f"Set one: valetkey service change {service.name} --price 0.01"
        )
    networks = policy.find(Networks)
    if isinstance(networks, Networks):
        named = context_of(unit, service).networks
        blocks = [block for entry in networks.allow for block in named.get(entry, (entry,)) if "/" in block]
        said += [
            f"Its networks hold every {version} address, so they keep nobody out who comes from one."
            for version in everywhere(blocks)
        ]
    if any(pattern.segments[:1] == (service.name,) for pattern in patterns(policy)):
        said.append(f"Endpoints are written without the service's name: /v1/…, not /{service.name}/v1/…")
    return tuple(said)
