"""Rules about what the database holds: keys, services and secrets. Nothing secret is among the facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from valetkey.doctor.facts import HoldingsFacts, KeyFacts, SecretFacts
from valetkey.doctor.findings import Finding, Kind, found

DAY = 86_400
UNUSED_DAYS = 90
SECRET_ENDS_DAYS = 14
NEVER_ROTATED_DAYS = 180
"""Half a year: what most vendors ask of keys that open a production account."""
OLD_DAYS = 365


def key_findings(holdings: HoldingsFacts, wall: float) -> Iterator[Finding]:
    """Keys that nobody may need any more, or that open more than they need to."""
    keys = holdings.keys

    def those(test: Callable[[KeyFacts], bool]) -> list[str]:
        return [key.id for key in keys if test(key)]

    lasting = those(lambda key: key.expires is None)
    if lasting:
        yield found(
            Kind.KEY_WITHOUT_END,
            f"{_keys(lasting)} no end: somebody must remember to revoke.",
            f"valetkey key change {lasting[0]} --expires 90d",
            lasting,
        )
    due = those(lambda key: key.review is not None and key.review <= wall)
    if due:
        yield found(
            Kind.KEY_REVIEW_DUE,
            f"{_keys(due)} passed the review date: look whether each is still needed.",
            f"valetkey key show {due[0]}",
            due,
        )
    orphans = those(lambda key: key.holder_gone)
    if orphans:
        yield found(
            Kind.KEY_HOLDER_GONE,
            f"{_keys(orphans)} a holder that was removed: nobody answers for them.",
            f"valetkey key revoke {orphans[0]}",
            orphans,
        )
    horizon = wall - UNUSED_DAYS * DAY
    unused = those(lambda key: max(key.last_used or 0.0, key.created) < horizon)
    if unused:
        yield found(
            Kind.KEY_UNUSED,
            f"{_keys(unused)} not been used for {UNUSED_DAYS} days.",
            f"valetkey key revoke {unused[0]}",
            unused,
        )
    wide = [key for key in keys if key.wide is not None]
    if wide:
        yield found(
            Kind.PUBLIC_KEY_WIDE,
            f"{len(wide):,} public {'key opens' if len(wide) == 1 else 'keys open'} {wide[0].wide}, and anyone "
            "can read a public key.",
            f"valetkey key change {wide[0].id} --endpoint 'GET /PATH'",
            [key.id for key in wide],
        )
    unpriced = [key for key in keys if key.unpriced is not None]
    if unpriced:
        yield found(
            Kind.BUDGET_WITHOUT_PRICE,
            f"{_keys([key.id for key in unpriced])} a budget at a service without a price, as {unpriced[0].unpriced}: "
            "calls are refused as BUDGET_EXCEEDED.",
            f"valetkey service change {unpriced[0].unpriced} --price AMOUNT",
            [key.id for key in unpriced],
        )


def secret_findings(holdings: HoldingsFacts, wall: float) -> Iterator[Finding]:
    """Real keys that are missing, at their end, or old."""
    bare = holdings.services_without_secret
    if bare:
        yield found(
            Kind.SERVICE_WITHOUT_SECRET,
            f"{_services(len(bare))} no real key: calls are refused as SECRET_UNAVAILABLE.",
            f"valetkey secret set {bare[0]}",
            bare,
        )

    def those(test: Callable[[SecretFacts], bool]) -> list[str]:
        return [secret.name for secret in holdings.secrets if test(secret)]

    def ends_within(secret: SecretFacts, days: int) -> bool:
        return secret.expires is not None and secret.expires <= wall + days * DAY

    for kind, names, said in (
        (Kind.SECRET_EXPIRED, those(lambda s: ends_within(s, 0)), "expired"),
        (
            Kind.SECRET_ENDS_SOON,
            those(lambda s: ends_within(s, SECRET_ENDS_DAYS) and not ends_within(s, 0)),
            f"within {SECRET_ENDS_DAYS} days of their end",
        ),
        (
            Kind.SECRET_NEVER_ROTATED,
            those(lambda s: s.version == 1 and NEVER_ROTATED_DAYS < _age(s, wall) <= OLD_DAYS),
            f"more than {NEVER_ROTATED_DAYS} days old and still the first version",
        ),
        (Kind.SECRET_OLD, those(lambda s: _age(s, wall) > OLD_DAYS), f"more than {OLD_DAYS} days old"),
    ):
        if names:
            yield found(
                kind,
                f"{len(names):,} real {'key is' if len(names) == 1 else 'keys are'} {said}.",
                _set_again(names[0]),
                names,
            )


def _age(secret: SecretFacts, wall: float) -> float:
    return (wall - secret.created) / DAY


def _set_again(name: str) -> str:
    service, _, own = name.partition("/")
    return f"valetkey secret set {service}" + (f" --name {own}" if own else "")


def _keys(ids: list[str]) -> str:
    return f"{len(ids):,} key has" if len(ids) == 1 else f"{len(ids):,} keys have"


def _services(count: int) -> str:
    return f"{count:,} service has" if count == 1 else f"{count:,} services have"
