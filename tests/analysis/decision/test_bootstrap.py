"""The paired, clustered bootstrap, by example and for all scores."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis.decision.bootstrap import counts, estimate, paired
from analysis.decision.scores import Floats

DRAWS = 199
score = st.one_of(st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), st.floats(0, 5), st.just(math.nan))
rows = st.integers(1, 40).flatmap(
    lambda n: st.tuples(arrays(np.float64, n, elements=score), arrays(np.float64, n, elements=score))
)


@given(rows, st.integers(0, 5))
def test_identical_arms_are_not_told_apart(both: tuple[Floats, Floats], seed: int) -> None:
    found = paired(both[0], both[0], num_draws=DRAWS, seed=seed)
    if found.decidable:
        assert found.mean == 0
        assert found.p == 1
        assert found.interval() == (0, 0)
    else:
        assert found.num_clusters < 10


@given(rows, st.integers(1, 4))
def test_swapped_arms_give_the_same_with_the_other_sign(both: tuple[Floats, Floats], size: int) -> None:
    groups = np.arange(both[0].size) // size
    one = paired(both[0], both[1], groups, num_draws=DRAWS)
    other = paired(both[1], both[0], groups, num_draws=DRAWS)
    assert (one.n, one.num_clusters, one.num_missing, one.p) == (
        other.n,
        other.num_clusters,
        other.num_missing,
        other.p,
    )
    if one.mean is not None:
        assert other.mean == -one.mean
    if (interval := one.interval()) is not None:
        assert other.interval() == (-interval[1], -interval[0])


@given(rows)
def test_what_is_missing_in_either_arm_is_as_if_it_were_not_there(both: tuple[Floats, Floats]) -> None:
    first, second = both
    there = ~(np.isnan(first) | np.isnan(second))
    found, kept = paired(first, second, num_draws=DRAWS), paired(first[there], second[there], num_draws=DRAWS)
    assert found.n == kept.n == there.sum()
    assert found.num_missing == first.size - found.n
    assert (found.mean, found.se, found.p, found.interval()) == (kept.mean, kept.se, kept.p, kept.interval())


@given(rows)
@example((np.zeros(10), np.array([0.0, *[9.53176604e-196] * 9])))  # whose squares vanish
def test_p_is_below_a_level_where_the_interval_excludes_zero(both: tuple[Floats, Floats]) -> None:
    found = paired(*both, num_draws=DRAWS)
    interval = found.interval(0.95)
    if interval is not None and found.p is not None and 0 < found.p < 1:
        assert (found.p <= 0.05) == (not interval[0] <= 0 <= interval[1])


@pytest.mark.parametrize("n", [1, 5, 9])
def test_few_clusters_give_a_mean_and_no_verdict(n: int) -> None:
    found = paired(np.full(n, 5.0), np.zeros(n))
    assert (found.n, found.mean) == (n, 5.0)
    assert found.p is None
    assert found.interval() is None
    many_items = paired(np.full(90, 5.0), np.zeros(90), np.arange(90) // 10)
    assert (many_items.n, many_items.num_clusters, many_items.p) == (90, 9, None)


def test_no_items_at_all() -> None:
    found = paired([math.nan, 1.0], [1.0, math.nan])
    assert (found.n, found.num_missing, found.mean, found.se, found.p) == (0, 2, None, None, None)


def test_a_difference_that_never_varies_is_as_sure_as_a_sign_test() -> None:
    found = paired(np.full(12, 0.3), np.full(12, 0.1))
    assert found.interval() == pytest.approx((0.2, 0.2))
    assert found.p == pytest.approx(max(1 / 10_000, 2.0**-11))
    assert paired(np.full(12, 0.3), np.full(12, 0.1), num_draws=9_999).p == found.p


def test_one_item_that_differs_proves_nothing() -> None:
    first = np.zeros(100)
    first[0] = 5.0
    found = paired(first, np.zeros(100))
    assert found.p is not None
    assert found.p > 0.3
    assert found.interval() == (-math.inf, math.inf)  # a third of the draws lack it: no bound can be told


def test_items_of_one_conversation_are_no_independent_evidence() -> None:
    rng = np.random.default_rng(0)
    conversations = rng.normal(0.3, 1, 20)
    items, groups = np.repeat(conversations, 10), np.repeat(np.arange(20), 10)
    alone, together = estimate(items), estimate(items, groups)
    once = estimate(conversations)
    assert alone.se is not None
    assert together.se is not None
    assert together.se > 2.5 * alone.se
    assert together.se == pytest.approx(once.se)
    assert together.p == once.p


def test_seeded() -> None:
    values = np.random.default_rng(0).normal(0.2, 1, 50)
    assert estimate(values).p == estimate(values).p
    assert estimate(values, seed=1).interval() != estimate(values).interval()


def test_the_standard_error_and_the_interval_of_normal_values() -> None:
    values = np.random.default_rng(0).normal(0.5, 1, 400)
    found = estimate(values)
    assert found.se is not None
    assert found.se == pytest.approx(values.std(ddof=1) / 20)
    interval = found.interval()
    assert interval is not None
    assert interval == pytest.approx((values.mean() - 1.966 * found.se, values.mean() + 1.966 * found.se), abs=0.01)


def test_draws_are_of_as_many_clusters_as_there_are() -> None:
    drawn = counts(7, 50, np.random.default_rng(0))
    assert drawn.shape == (50, 7)
    assert (drawn.sum(axis=1) == 7).all()
    assert drawn.std() > 0.5
