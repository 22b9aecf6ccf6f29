"""Kappa and its company against scikit-learn and SciPy, and the coverage of their intervals."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score

from tracking.meters.judge.agreement import agreement, kappa

GRADES = st.integers(0, 5)


@given(st.lists(st.tuples(GRADES, GRADES), min_size=2, max_size=60))
def test_kappa_is_that_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    x, y = [one for one, _ in pairs], [other for _, other in pairs]
    found = kappa(x, y)
    if len(set(x) | set(y)) == 1:
        assert found is None, "two raters that only ever say the same one thing show nothing"
    else:
        expected = cohen_kappa_score(x, y, labels=list(range(6)), weights="quadratic")
        assert found == pytest.approx(expected, abs=1e-9)
        assert kappa(y, x) == pytest.approx(found)


@given(st.lists(st.tuples(GRADES, GRADES, st.integers(0, 4)), min_size=2, max_size=40))
def test_the_whole_is_that_of_its_parts(rows: list[tuple[int, int, int]]) -> None:
    x, y = [float(row[0]) for row in rows], [float(row[1]) for row in rows]
    found = agreement(x, y, [row[2] for row in rows], draws=20)
    assert (found.n, found.num_clusters) == (len(rows), len({row[2] for row in rows}))
    assert found.kappa.value == (None if kappa(x, y) is None else pytest.approx(kappa(x, y)))
    if len(set(x)) > 1 and len(set(y)) > 1:
        assert found.spearman.value == pytest.approx(spearmanr(x, y).statistic)
    else:
        assert found.spearman.value is None
    assert found.exact.value == pytest.approx(sum(a == b for a, b in zip(x, y, strict=True)) / len(rows))
    assert found.within_1.value == pytest.approx(sum(abs(a - b) <= 1 for a, b in zip(x, y, strict=True)) / len(rows))
    assert found.bias.value == pytest.approx((sum(x) - sum(y)) / len(rows))
    for one in (found.kappa, found.spearman, found.exact, found.within_1, found.bias):
        assert one.low is None or one.high is None or one.low <= one.high


def test_perfect_and_opposite() -> None:
    x = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert agreement(x, x, range(6)).kappa.value == 1.0
    assert agreement(x, x, range(6)).exact.low == 1.0
    assert kappa(x, x[::-1]) == -1.0
    assert kappa([], []) is None
    assert kappa([4.5, 2.0], [4.0, 2.5]) == pytest.approx(1 - 0.25 / (1.5625 + 0.5625))


def _sample(rng: random.Random, num_items: int) -> tuple[list[float], list[float], list[int]]:
    """Items with three answers each; how a judge errs is partly the item's."""
    scores, labels, clusters = [], [], []
    for item in range(num_items):
        shift = rng.gauss(0, 0.8)
        for _ in range(3):
            label = rng.randint(0, 5)
            scores.append(float(min(5, max(0, round(label + shift + rng.gauss(0, 0.5))))))
            labels.append(float(label))
            clusters.append(item)
    return scores, labels, clusters


def test_intervals_cover_what_is_true_as_often_as_they_say() -> None:
    """Over 100 samples of 60 items, the 95 % interval holds the value of a very large sample in at least 88."""
    rng = random.Random(3)
    scores, labels, _ = _sample(rng, 20_000)
    true = {"kappa": kappa(scores, labels), "bias": sum(a - b for a, b in zip(scores, labels)) / len(scores)}
    covered = dict.fromkeys(true, 0)
    for _ in range(100):
        found = agreement(*_sample(rng, 60), draws=200)
        for name, value in true.items():
            estimate = getattr(found, name)
            covered[name] += estimate.low <= value <= estimate.high
    assert all(88 <= count <= 100 for count in covered.values()), covered
