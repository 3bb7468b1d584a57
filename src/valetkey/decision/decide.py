"""decide(compiled key, call, now): the only place where a call is allowed.

Pure: the same key, call and instant give the same decision in the gateway, in verify, in `key check` and in
the library. What is spent is a separate, all-or-nothing step (`reservation`).
"""

from __future__ import annotations

from collections.abc import Sequence

from valetkey.decision.address import Place
from valetkey.decision.call import Call, Decision
from valetkey.decision.codes import CODES, Code
from valetkey.decision.policy import CompiledKey, CompiledPolicy, State
from valetkey.decision.reservation import PINNED
from valetkey.decision.restrictions.base import Judge


def refuse(code: Code, sentence: str | None = None) -> Decision:
    """The decision for a code, in the code's own words unless better ones are given."""
    return Decision(code, sentence or CODES[code].sentence)


UNKNOWN = refuse(Code.UNKNOWN_KEY)
_ABOVE = " (set where this key comes from)"
_AGREED = " (set in the agreement)"
_VALID_SENTENCE = CODES[Code.VALID].sentence
_VALID = Decision(Code.VALID, _VALID_SENTENCE)


def decide(
    key: CompiledKey | None, call: Call, wall: float, pins: Sequence[tuple[bool, Place]] = ()
) -> Decision:
    """Judge one call at one instant (seconds since the epoch). None stands for a key nobody knows.

    `pins`: what the key (True) and those that it comes from (False) are pinned to.
    """
    if key is None:
        return UNKNOWN
    if call.service != key.service:
        return refuse(Code.SERVICE_DENIED)
    dead: Code | None = None
    for standing in key.standings:
        if standing.state is State.REVOKED:
            return refuse(Code.REVOKED)
        if standing.state is State.SUSPENDED or wall < standing.begins:
            dead = Code.SUSPENDED
        elif dead is None and standing.expires <= wall:
            dead = Code.EXPIRED
    if dead is not None:
        return refuse(dead)
    if key.service_locked:
        return refuse(Code.SERVICE_LOCKED)
    for own, pinned in pins:
        if call.address is None or call.address.place != pinned:
            return refuse(Code.NETWORK_DENIED, pinned_elsewhere(own))
    policies = key.policies
    if len(policies) == 1:
        for code, judge, sentence in policies[0].judges:
            if not judge(call, wall):
                return Decision(code, f"{CODES[code].sentence} {sentence}.")
    else:
        # An ancestor's network is asked before the key's own endpoint: the order of codes holds over all.
        for place, (code, judge, sentence) in _in_order(policies):
            if not judge(call, wall):
                where = "" if place == 0 else _ABOVE if place < len(policies) - key.agreed else _AGREED
                return Decision(code, f"{CODES[code].sentence} {sentence}{where}.")
    template = policies[0].endpoints.template(call)
    return _VALID if template is None else Decision(Code.VALID, _VALID_SENTENCE, template)


def pinned_elsewhere(own: bool) -> str:
    """Why a call from another address than the pinned one is refused."""
    return f"{CODES[Code.NETWORK_DENIED].sentence} {PINNED}{'' if own else _ABOVE}."


_ORDER = {code: place for place, code in enumerate(Code)}


def _in_order(
    policies: tuple[CompiledPolicy, ...],
) -> list[tuple[int, tuple[Code, Judge, str]]]:
    judges = [(place, judge) for place, policy in enumerate(policies) for judge in policy.judges]
    judges.sort(key=lambda entry: _ORDER[entry[1][0]])
    return judges
