"""How far two raters agree: quadratic weighted kappa, Spearman's ρ and shares, with intervals by bootstrap."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

DRAWS = 2000


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; None where it is not defined, as a kappa of raters that never vary."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Agreement:
    """A judge's scores against a person's labels.

    Attributes:
        n: Pairs; ``num_clusters`` the items they belong to.
        kappa: Quadratic weighted.
        exact: Share of pairs less than half a point apart; ``within_1``, at most one point.
        bias: The judge's mean less the person's, in points.
    """

    n: int
    num_clusters: int
    kappa: Estimate
    spearman: Estimate
    exact: Estimate
    within_1: Estimate
    bias: Estimate

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def kappa(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Cohen's kappa with quadratic weights; None where it is not defined.

    With these weights 1 − Σ w·observed / Σ w·expected is 1 − mean((x−y)²) / (var x + var y + (mean x − mean y)²), which
    also holds for scores between the levels. Source: Fleiss and Cohen, The equivalence of weighted kappa and the
    intraclass correlation coefficient (1973).
    """
    n = len(one)
    if n == 0:
        return None
    mean_x, mean_y = math.fsum(one) / n, math.fsum(other) / n
    spread = math.fsum((x - mean_x) ** 2 for x in one) + math.fsum((y - mean_y) ** 2 for y in other)
    expected = spread / n + (mean_x - mean_y) ** 2
    observed = math.fsum((x - y) ** 2 for x, y in zip(one, other, strict=True)) / n
    return 1 - observed / expected if expected > 1e-12 else None


def agreement(
    scores: Sequence[float], labels: Sequence[float], clusters: Sequence[Hashable], draws: int = DRAWS, seed: int = 0
) -> Agreement:
    """How far ``scores[i]`` agrees with ``labels[i]``, with percentile intervals of a bootstrap over clusters.

    Args:
        clusters: What is drawn: pairs of one item are not independent of each other.
        draws: Bootstrap samples.
    """
    import numpy as np

    x, y = np.asarray(scores, float), np.asarray(labels, float)
    names = list(dict.fromkeys(clusters))
    places = {name: place for place, name in enumerate(names)}
    cluster = np.asarray([places[name] for name in clusters], int)
    members = [np.flatnonzero(cluster == place) for place in range(len(names))]
    difference = np.abs(x - y)
    terms = [np.ones_like(x), x, y, x * x, y * y, x * y, difference < 0.5, difference <= 1 + 1e-9]
    sums = np.zeros((len(names), len(terms)))
    np.add.at(sums, cluster, np.stack(terms, axis=1).astype(float))
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, max(1, len(names)), (draws, len(names)))
    counts = np.stack([np.bincount(row, minlength=len(names)) for row in drawn]) if names else np.zeros((0, 0))
    boot = _from_sums(counts @ sums)
    ranks = [_spearman(x[rows], y[rows]) for rows in (np.concatenate([members[i] for i in row]) for row in drawn)]
    boot["spearman"] = np.asarray([math.nan if rank is None else rank for rank in ranks])
    whole = {key: float(value[0]) for key, value in _from_sums(sums.sum(0, keepdims=True)).items()}
    whole["spearman"] = math.nan if (rank := _spearman(x, y)) is None else rank

    def estimate(key: str) -> Estimate:
        if math.isnan(whole[key]):
            return Estimate(None)
        found = boot[key][~np.isnan(boot[key])]
        low, high = (float(end) for end in np.quantile(found, [0.025, 0.975])) if len(found) else (None, None)
        return Estimate(whole[key], low, high)

    keys = ("kappa", "spearman", "exact", "within_1", "bias")
    return Agreement(len(x), len(names), **{key: estimate(key) for key in keys})


def _from_sums(sums: Any) -> dict[str, Any]:
    """The statistics that follow from sums over pairs; ``sums`` is (samples, terms)."""
    import numpy as np

    n, x, y, xx, yy, xy, exact, near = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = (xx - x * x / n + yy - y * y / n) / n + ((x - y) / n) ** 2
        kappas = np.where(expected > 1e-12, 1 - (xx + yy - 2 * xy) / n / expected, np.nan)
        return {"kappa": kappas, "exact": exact / n, "within_1": near / n, "bias": (x - y) / n}


def _spearman(x: Any, y: Any) -> float | None:
    """Spearman's ρ; None where one side never varies."""
    import numpy as np
    from scipy.stats import rankdata

    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(rankdata(x), rankdata(y))[0, 1])
