"""The difference of two arms on the same items: a paired, clustered, studentised bootstrap.

Clusters (the items of one conversation) are drawn with replacement, and all their items with them. Each draw gives the
difference's distance from the observed one in its own standard errors, t* = (d* - d) / s*. The interval is
d ± q s, q being the 95th percentile of |t*|, and p is the share of draws with |t*| at least |d| / s: the symmetric
bootstrap-t, whose coverage is off by O(n⁻²) where percentiles are off by O(n⁻¹) (Hall, The Bootstrap and Edgeworth
Expansion, 1992, section 3.6). docs/decision.md has the coverage that was measured against other intervals.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.decision.scores import Floats

NUM_DRAWS = 9_999  # (draws + 1) · 0.05 is a whole number, so that p and interval agree
MIN_CLUSTERS = 10  # with fewer, resampling says nothing: there is no verdict
_CELLS = 2_000_000  # draws × clusters that are held at once
_ROUNDING = 1e-12  # what is below this share of the largest value is zero but for rounding


@dataclass(frozen=True)
class Estimate:
    """A mean with what chance may have done to it.

    Attributes:
        n: Items that it is over.
        num_clusters: Groups that they come from.
        num_missing: Items left out because a score is missing.
        mean: None without items.
        se: Standard error, clusters drawn as a whole; None with fewer than two clusters.
        draws: |t*| of every draw, ascending; empty where clusters are too few for a verdict.
    """

    n: int
    num_clusters: int
    num_missing: int
    mean: float | None
    se: float | None
    draws: Floats = field(repr=False)

    @property
    def decidable(self) -> bool:
        """Whether there are clusters enough for an interval and a p-value."""
        return self.draws.size > 0

    @property
    def p(self) -> float | None:
        """Two-sided p-value of a mean of zero; None where there is no verdict.

        It is not below that of a sign test whose clusters all agree, 2^(1 - clusters): so few can tell no more.
        """
        if not self.decidable:
            return None
        assert self.mean is not None
        assert self.se is not None
        if self.mean == 0:
            return 1.0
        t = abs(self.mean) / self.se if self.se > 0 else np.inf
        num_beyond = self.draws.size - int(np.searchsorted(self.draws, t, side="left"))
        return max((1 + num_beyond) / (1 + self.draws.size), 2.0 ** (1 - self.num_clusters))

    def interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """Two-sided interval; infinite where the draws give no bound, None where there is no verdict."""
        if not self.decidable:
            return None
        assert self.mean is not None
        assert self.se is not None
        if self.se == 0:
            return self.mean, self.mean
        place = int(np.ceil(round(level * (self.draws.size + 1), 9)))
        critical = float(self.draws[place - 1]) if place <= self.draws.size else np.inf
        return self.mean - critical * self.se, self.mean + critical * self.se


def estimate(
    values: ArrayLike,
    groups: NDArray[np.intp] | None = None,
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
    min_clusters: int = MIN_CLUSTERS,
) -> Estimate:
    """The mean of values, of which those of one group belong together.

    Args:
        values: Shape (items,); NaN is missing and left out.
        groups: Shape (items,): the number of each item's group; without, each item is a group of its own.
        num_draws: Of the bootstrap.
        seed: Equal arguments give equal results.
        min_clusters: With fewer there is a mean but no verdict.
    """
    every = np.asarray(values, dtype=np.float64)
    present = ~np.isnan(every)
    kept = every[present]
    where = np.arange(every.size) if groups is None else groups
    _, codes = np.unique(where[present], return_inverse=True)
    sums, sizes = np.bincount(codes, weights=kept), np.bincount(codes).astype(np.float64)
    num_missing = int(every.size - kept.size)
    if kept.size == 0:
        return Estimate(0, 0, num_missing, None, None, np.empty(0))
    mean = float(sums.sum() / sizes.sum())
    residuals = sums - mean * sizes
    residuals[np.abs(residuals) <= _ROUNDING * np.max(np.abs(sums))] = 0.0
    # Squares of very small residuals would vanish. A power of two changes no digit.
    exponent = int(np.frexp(np.max(np.abs(residuals)))[1])
    residuals = np.ldexp(residuals, -exponent)
    se = float(np.ldexp(_distance_and_se(np.ones((1, sums.size)), residuals, sizes)[1][0], exponent))
    if sums.size < max(2, min_clusters):
        return Estimate(kept.size, sums.size, num_missing, mean, se if sums.size > 1 else None, np.empty(0))
    draws = np.sort(np.abs(_studentised(residuals, sizes, num_draws, seed)))
    return Estimate(kept.size, sums.size, num_missing, mean, se, draws)


def paired(
    first: ArrayLike,
    second: ArrayLike,
    groups: NDArray[np.intp] | None = None,
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
    min_clusters: int = MIN_CLUSTERS,
) -> Estimate:
    """The mean of ``first - second`` over the items that both have. Arguments as of ``estimate``."""
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    return estimate(differences, groups, num_draws, seed, min_clusters)


def counts(num_clusters: int, num_draws: int, rng: np.random.Generator) -> Floats:
    """How often each cluster is drawn, shape (draws, clusters): as many clusters a draw as there are."""
    drawn = rng.integers(num_clusters, size=(num_draws, num_clusters))
    flat = (drawn + num_clusters * np.arange(num_draws)[:, None]).ravel()
    return np.bincount(flat, minlength=num_draws * num_clusters).reshape(num_draws, num_clusters).astype(np.float64)


def _studentised(residuals: Floats, sizes: Floats, num_draws: int, seed: int) -> Floats:
    """t* of every draw."""
    rng = np.random.default_rng(seed)
    at_once = max(1, _CELLS // residuals.size)
    found = np.empty(num_draws)
    for start in range(0, num_draws, at_once):
        stop = min(num_draws, start + at_once)
        distances, errors = _distance_and_se(counts(residuals.size, stop - start, rng), residuals, sizes)
        # Clusters that are all alike have no error of their own: such a draw is infinitely far off, or hits the mean.
        with np.errstate(divide="ignore", invalid="ignore"):
            found[start:stop] = np.where(distances == 0, 0.0, distances / errors)
    return found


def _distance_and_se(drawn: Floats, residuals: Floats, sizes: Floats) -> tuple[Floats, Floats]:
    """How far each draw's mean lies from the observed one, and its standard error: that of a ratio of cluster sums.

    Args:
        drawn: How often each cluster is drawn, shape (draws, clusters).
        residuals: A cluster's sum less what the observed mean expects of it, shape (clusters,).
        sizes: Items of each cluster, shape (clusters,).
    """
    num_clusters = residuals.size
    num_items = drawn @ sizes
    distances = drawn @ residuals / num_items
    squares = drawn @ residuals**2 - 2 * distances * (drawn @ (residuals * sizes)) + distances**2 * (drawn @ sizes**2)
    squares[squares <= _ROUNDING * num_clusters * np.max(residuals**2)] = 0.0
    distances[np.abs(distances) <= _ROUNDING * np.max(np.abs(residuals))] = 0.0
    return distances, np.sqrt(num_clusters / max(1, num_clusters - 1) * squares) / num_items
