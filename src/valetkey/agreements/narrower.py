"""What an agreement takes from a key that says more: told at issue, so that no caller finds out first. Pure."""

from __future__ import annotations

from valetkey.agreements.queries import Agreed
from valetkey.decision.limits import Limits
from valetkey.decision.policy import Policy
from valetkey.decision.restrictions import AnyRestriction, Endpoints, Networks


def narrower(policy: Policy, agreed: Agreed) -> tuple[str, ...]:
    """The sentences of the agreement that do not follow from the key's own policy.

    Restrictions are compared as they are written: a pattern that another one covers counts as more than agreed.
    """
    said = [
        f"{restriction.sentence()}."
        for restriction in agreed.policy.restrictions
        if not _within(policy.find(type(restriction)), restriction)
    ]
    return (*said, *_limits_beyond(policy.limits, agreed.limits).sentences())


def _within(own: AnyRestriction | None, agreed: AnyRestriction) -> bool:
    if own == agreed:
        return True
    if isinstance(own, Networks) and isinstance(agreed, Networks):
        return set(own.allow) <= set(agreed.allow)
    if isinstance(own, Endpoints) and isinstance(agreed, Endpoints):
        allowed = not agreed.allow or (bool(own.allow) and set(own.allow) <= set(agreed.allow))
        return allowed and set(own.deny) >= set(agreed.deny)
    return False


def _limits_beyond(own: Limits, agreed: Limits) -> Limits:
    """Those of the agreed limits that the key's own do not keep within by themselves."""
    rate, concurrency = agreed.rate, agreed.concurrency
    if (
        rate is not None
        and own.rate is not None
        and own.rate.interval >= rate.interval
        and own.rate.burst <= rate.burst
    ):
        rate = None
    if concurrency is not None and own.concurrency is not None and own.concurrency <= concurrency:
        concurrency = None
    counts = {quota.window: quota.count for quota in own.quotas}
    amounts = {budget.window: budget.micros for budget in own.budgets}
    return Limits(
        rate=rate,
        concurrency=concurrency,
        quotas=tuple(q for q in agreed.quotas if counts.get(q.window, q.count + 1) > q.count),
        budgets=tuple(b for b in agreed.budgets if amounts.get(b.window, b.micros + 1) > b.micros),
    )
