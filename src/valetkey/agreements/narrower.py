"""What a key is held to takes from it more than it says, or all: told at issue, so that no caller finds out first.

It is held to the agreement with its holder and to the keys that it comes from. Pure.
"""

from __future__ import annotations

import msgspec

from valetkey.decision.limits import Limits
from valetkey.decision.policy import Policy
from valetkey.decision.restrictions import AnyRestriction, Endpoints, Hosts, Networks, Origins
from valetkey.decision.restrictions.base import CompileContext
from valetkey.decision.restrictions.networks import Network, parse_network
from valetkey.decision.restrictions.patterns import EndpointPattern, covers, overlap
from valetkey.decision.restrictions.wording import NAME


class Above(msgspec.Struct, frozen=True):
    """One thing that a key is held to."""

    name: str
    """As a sentence begins with it."""
    policy: Policy
    limits: Limits


def narrower(
    policy: Policy, above: Above, context: CompileContext, *, unsaid: bool = True
) -> tuple[str, ...]:
    """What will surprise: that nothing is left, or the sentences of `above` that do not follow from the policy.

    `unsaid`: whether also of what the policy says nothing about.
    """
    apart = [
        f"No call can pass: {above.name} allows \u201c{restriction.sentence()}\u201d, this key "
        f"\u201c{own.sentence()}\u201d, and they have nothing in common."
        for restriction in above.policy.restrictions
        if (own := policy.find(type(restriction))) is not None and _apart(own, restriction, context)
    ]
    if apart:
        return tuple(apart)
    less = [
        f"{restriction.sentence()}."
        for restriction in above.policy.restrictions
        if ((own := policy.find(type(restriction))) is not None or unsaid)
        and not _within(own, restriction, context)
    ]
    less += _limits_beyond(policy.limits, above.limits, unsaid).sentences()
    return (f"{above.name} allows less than this key alone would: {' '.join(less)}",) if less else ()


def _within(own: AnyRestriction | None, above: AnyRestriction, context: CompileContext) -> bool:
    if own == above:
        return True
    if isinstance(own, Networks) and isinstance(above, Networks):
        theirs = _blocks(above, context)
        return all(_inside(block, theirs) for block in _blocks(own, context))
    if isinstance(own, Endpoints) and isinstance(above, Endpoints):
        allow, their_allow = _patterns(own.allow, context), _patterns(above.allow, context)
        deny, their_deny = _patterns(own.deny, context), _patterns(above.deny, context)
        allowed = not their_allow or (bool(allow) and all(_covered(one, their_allow) for one in allow))
        return allowed and all(
            _covered(one, deny) or (bool(allow) and not any(overlap(one, mine) for mine in allow))
            for one in their_deny
        )
    if isinstance(own, Hosts | Origins) and isinstance(above, Hosts | Origins):
        return set(own.allow) <= set(above.allow)
    return False


def _apart(own: AnyRestriction, above: AnyRestriction, context: CompileContext) -> bool:
    """Whether no call satisfies both, as far as can be told."""
    if isinstance(own, Networks) and isinstance(above, Networks):
        mine, theirs = _blocks(own, context), _blocks(above, context)
        # What arrives at a listener may come from anywhere.
        return not any(
            isinstance(a, str) or isinstance(b, str) or (a.version == b.version and a.overlaps(b))
            for a in mine
            for b in theirs
        )
    if isinstance(own, Endpoints) and isinstance(above, Endpoints):
        allow, their_allow = _patterns(own.allow, context), _patterns(above.allow, context)
        if allow and their_allow and not any(overlap(a, b) for a in allow for b in their_allow):
            return True
        deny, their_deny = _patterns(own.deny, context), _patterns(above.deny, context)
        return (bool(allow) and all(_covered(one, their_deny) for one in allow)) or (
            bool(their_allow) and all(_covered(one, deny) for one in their_allow)
        )
    if isinstance(own, Hosts) and isinstance(above, Hosts):
        return not set(own.allow) & set(above.allow)
    return False


def _blocks(networks: Networks, context: CompileContext) -> list[Network | str]:
    """The blocks; a listener by its name."""
    found: list[Network | str] = []
    for entry in networks.allow:
        if not NAME.fullmatch(entry):
            found.append(parse_network(entry))
        elif entry in context.listeners:
            found.append(entry)
        else:
            found += [parse_network(block) for block in context.networks.get(entry, ())]
    return found


def _inside(block: Network | str, others: list[Network | str]) -> bool:
    return any(
        block == other
        or (
            not isinstance(block, str)
            and not isinstance(other, str)
            and block.version == other.version
            and block.subnet_of(other)  # type: ignore[arg-type]
        )
        for other in others
    )


def _patterns(entries: tuple[str, ...], context: CompileContext) -> list[EndpointPattern]:
    texts = [text for entry in entries for text in ((entry,) if "/" in entry else context.endpoints[entry])]
    return [EndpointPattern(text) for text in texts]


def _covered(pattern: EndpointPattern, others: list[EndpointPattern]) -> bool:
    return any(covers(other, pattern) for other in others)


def _limits_beyond(own: Limits, above: Limits, unsaid: bool) -> Limits:
    """Those of the limits above that the key's own do not keep within by themselves."""
    rate, concurrency, uses = above.rate, above.concurrency, above.uses
    if rate is not None and (
        not unsaid
        if own.rate is None
        else own.rate.interval >= rate.interval and own.rate.burst <= rate.burst
    ):
        rate = None
    if concurrency is not None and (
        not unsaid if own.concurrency is None else own.concurrency <= concurrency
    ):
        concurrency = None
    if uses is not None and (not unsaid if own.uses is None else own.uses <= uses):
        uses = None
    counts = {quota.window: quota.count for quota in own.quotas}
    amounts = {budget.window: budget.micros for budget in own.budgets}
    sizes = {volume.window: volume.size for volume in own.bytes}
    more = 1 if unsaid else 0
    return Limits(
        rate=rate,
        concurrency=concurrency,
        uses=uses,
        quotas=tuple(q for q in above.quotas if counts.get(q.window, q.count + more) > q.count),
        budgets=tuple(b for b in above.budgets if amounts.get(b.window, b.micros + more) > b.micros),
        bytes=tuple(v for v in above.bytes if sizes.get(v.window, v.size + more) > v.size),
    )
