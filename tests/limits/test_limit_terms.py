"""Limits as people write them: to `Limits` and back, changed in part, cleared."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valetkey.decision.limits import Budget, Limits, Quota, Rate, Window
from valetkey.errors import Invalid
from valetkey.limits.terms import LimitTerms, change_limits, flags_of, limits_of

COUNTS = st.integers(1, 10**6)
LIMITS = st.builds(
    Limits,
    rate=st.none() | st.builds(Rate, count=COUNTS, per_seconds=st.sampled_from([1, 60, 3600]), burst=COUNTS),
    concurrency=st.none() | COUNTS,
    quotas=st.lists(
        st.builds(Quota, count=COUNTS, window=st.sampled_from(Window)), unique_by=lambda q: q.window
    ).map(tuple),
    budgets=st.lists(
        st.builds(Budget, micros=st.integers(0, 10**12), window=st.sampled_from(Window)),
        unique_by=lambda b: b.window,
    ).map(tuple),
)


@given(LIMITS)
def test_flags_make_the_limits_that_they_came_from(limits: Limits) -> None:
    assert limits_of(**flags_of(limits)) == limits


@given(LIMITS, LIMITS)
def test_what_is_given_replaces_and_the_rest_stays(old: Limits, new: Limits) -> None:
    changed = change_limits(old, LimitTerms(**flags_of(new)))
    for name in ("rate", "concurrency", "quotas", "budgets"):
        given_now = getattr(new, name)
        assert getattr(changed, name) == (given_now or getattr(old, name))


@given(LIMITS)
def test_everything_can_be_taken_away(old: Limits) -> None:
    nothing = LimitTerms(rate="", quotas=(), budgets=(), clear=("burst", "concurrency"))
    assert change_limits(old, nothing) == Limits()


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        (LimitTerms(burst=3), "burst"),
        (LimitTerms(rate="5"), "limits"),
        (LimitTerms(quotas=("5/week",)), "limits"),
        (LimitTerms(quotas=("5/day", "6/day")), "limits"),
        (LimitTerms(clear=("uses",)), "clear"),
        (LimitTerms(concurrency=2, clear=("concurrency",)), "clear"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(terms: LimitTerms, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        change_limits(Limits(), terms)
    assert caught.value.field == field
    assert caught.value.next_step
