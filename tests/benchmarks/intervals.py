"""How often 95 % intervals of a paired difference hold the truth: the interval that is taken, and others."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from analysis.decision.bootstrap import counts, estimate
from tests.benchmarks.drawn_sweeps import Floats, mean_of_integers

NUM_SAMPLES = 2_000
NUM_DRAWS = 599
SIZES = (40, 100, 200)

Sample = tuple[Floats, NDArray[np.intp]]  # differences and their groups


@dataclass(frozen=True)
class Kind:
    """Differences of a kind, and their true mean."""

    name: str
    truth: float
    sample: Callable[[int, np.random.Generator], Sample]


def _continuous(n: int, rng: np.random.Generator) -> Sample:
    return rng.normal(0.2, 2**0.5, n), np.arange(n)


def _integers(n: int, rng: np.random.Generator) -> Sample:
    item = rng.normal(0, 0.7, n)
    arms = [np.clip(np.round(level + item + rng.normal(0, 1, n)), 0, 5) for level in (4.4, 4.2)]
    return arms[0] - arms[1], np.arange(n)


def _few(n: int, rng: np.random.Generator) -> Sample:
    return rng.choice([0.0, 1.0, -1.0], n, p=[0.85, 0.1, 0.05]), np.arange(n)


def _skewed(n: int, rng: np.random.Generator) -> Sample:
    return rng.choice([0.0, 3.0], n, p=[0.92, 0.08]), np.arange(n)


def _clustered(n: int, rng: np.random.Generator) -> Sample:
    sizes = rng.integers(1, 4, n)
    groups = np.repeat(np.arange(n), sizes)[:n]
    return 0.2 + rng.normal(0, 0.7, n)[groups] + rng.normal(0, 1, n), groups


_INTEGERS = mean_of_integers(np.array([4.4, 4.2]), (1 + 0.7**2) ** 0.5)
KINDS = (
    Kind("normal, standard deviation 1.4", 0.2, _continuous),
    Kind("integers 0-5 near the top", float(_INTEGERS[0] - _INTEGERS[1]), _integers),
    Kind("15 % of items differ, by 1", 0.05, _few),
    Kind("8 % of items differ, by +3", 0.24, _skewed),
    Kind("conversations of 1 to 3 items", 0.2, _clustered),
)


def coverage() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of the table, and its conditions."""
    rows = []
    for kind in KINDS:
        for n in SIZES:
            hits = np.zeros((4, 2))
            for number in range(NUM_SAMPLES):
                rng = np.random.default_rng([7, number])
                differences, groups = kind.sample(n, rng)
                for place, (low, high) in enumerate(_intervals(differences, groups, number)):
                    hits[place] += (kind.truth < low, kind.truth > high)
            below, above = 100 * hits.T / NUM_SAMPLES
            names = ("symmetric bootstrap-t (Podium)", "percentile", "BCa", "Student's t")
            told = {
                name: f"{100 - below[place] - above[place]:.1f} ({below[place]:.1f}, {above[place]:.1f})"
                for place, name in enumerate(names)
            }
            rows.append({"differences": kind.name, "items": n, **told})
    conditions = {
        "cells": "% of 95 % intervals that hold the true mean (that lie above it, that lie below it)",
        "samples": NUM_SAMPLES,
        "bootstrap draws": NUM_DRAWS,
        "standard error of a coverage of 95 %": f"{100 * (0.05 * 0.95 / NUM_SAMPLES) ** 0.5:.2f} points",
    }
    return rows, conditions


def _intervals(differences: Floats, groups: NDArray[np.intp], seed: int) -> list[tuple[float, float]]:
    found = estimate(differences, groups, NUM_DRAWS, seed)
    ours = found.interval()
    assert ours is not None
    assert found.mean is not None
    assert found.se is not None
    sums: Floats = np.bincount(groups, weights=differences).astype(np.float64)
    sizes: Floats = np.bincount(groups).astype(np.float64)
    drawn = counts(sums.size, NUM_DRAWS, np.random.default_rng(seed))
    means = np.sort(drawn @ sums / (drawn @ sizes))
    margin = float(t.ppf(0.975, sums.size - 1)) * found.se
    return [
        ours,
        _quantiles(means, 0.025, 0.975),
        _bca(means, found.mean, sums, sizes),
        (found.mean - margin, found.mean + margin),
    ]


def _quantiles(ordered: Floats, low: float, high: float) -> tuple[float, float]:
    places = [int(np.clip(round(share * (ordered.size + 1)), 1, ordered.size)) - 1 for share in (low, high)]
    return float(ordered[places[0]]), float(ordered[places[1]])


def _bca(ordered: Floats, mean: float, sums: Floats, sizes: Floats) -> tuple[float, float]:
    """Efron's bias-corrected and accelerated interval (Better bootstrap confidence intervals, JASA 82, 1987)."""
    share = (np.sum(ordered < mean) + 0.5 * np.sum(ordered == mean)) / ordered.size
    bias = norm.ppf(np.clip(share, 1e-3, 1 - 1e-3))
    without = (sums.sum() - sums) / (sizes.sum() - sizes)
    distance = without.mean() - without
    spread = np.sum(distance**2)
    acceleration = np.sum(distance**3) / (6 * spread**1.5) if spread > 0 else 0.0
    shifted = [bias + z for z in (norm.ppf(0.025), norm.ppf(0.975))]
    low, high = (float(norm.cdf(bias + one / (1 - acceleration * one))) for one in shifted)
    return _quantiles(ordered, low, high)
