"""The winner's dev score, corrected for having been chosen."""

import numpy as np
import pytest

from analysis.decision.halving import ranked, schedule
from analysis.decision.optimism import corrected
from tests.benchmarks.decision import as_judged


def test_equal_arms_are_shrunk_to_their_common_mean() -> None:
    rng = np.random.default_rng(0)
    naive, fixed = [], []
    for _ in range(200):
        items = rng.normal(0, 1, 100)
        values = 3 + items + rng.normal(0, 1, (20, 100))
        arm = int(values.mean(axis=1).argmax())
        found = corrected(values, arm)
        assert found is not None
        assert found.mean == pytest.approx(values[arm].mean())
        assert found.optimism >= -1e-9
        naive.append(found.mean - 3 - items.mean())
        fixed.append(found.corrected - 3 - items.mean())
    assert np.mean(naive) == pytest.approx(0.187, abs=0.01)  # the mean of the highest of 20, in standard errors: 1.867
    assert abs(np.mean(fixed)) < 0.05


@pytest.mark.parametrize("spread", [0.1, 0.3])
def test_after_halving_too(spread: float) -> None:
    rng = np.random.default_rng(1)
    rounds = schedule(20, 300, 1_500)
    left = []
    for _ in range(200):
        truth, items = rng.normal(0, spread, 20), rng.normal(0, 1, 300)
        values = truth[:, None] + items + rng.normal(0, 1, (20, 300))
        arm = ranked(rounds, values)[0]
        judged = as_judged(rounds, values)
        found = corrected(judged, arm, np.arange(300) // 3)
        assert found is not None
        left.append(found.corrected - truth[arm] - items[: rounds[-1].stop].mean())
    assert abs(np.mean(left)) < 0.03


def test_arms_that_differ_clearly_are_left_alone() -> None:
    values = np.arange(5.0)[:, None] + np.random.default_rng(0).normal(0, 0.1, (5, 50))
    found = corrected(values, 4)
    assert found is not None
    assert found.corrected == pytest.approx(found.mean, abs=0.01)
    assert found.spread == pytest.approx(1.6, abs=0.4)


def test_items_that_stray_together_count_as_fewer() -> None:
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(0, 1, (8, 20)), 10, axis=1)
    arm = int(values.mean(axis=1).argmax())
    alone, together = corrected(values, arm), corrected(values, arm, np.repeat(np.arange(20), 10))
    assert alone is not None
    assert together is not None
    assert together.optimism > alone.optimism + 0.05


def test_nothing_to_correct_by() -> None:
    nan = np.nan
    assert corrected(np.array([[1.0, 2.0]]), 0) is None
    assert corrected(np.array([[nan, nan], [1.0, 2.0]]), 0) is None
    assert corrected(np.array([[1.0, nan], [nan, 2.0]]), 0) is None
    same = corrected(np.full((3, 4), 2.0), 1)
    assert same is not None
    assert same.corrected == 2.0
