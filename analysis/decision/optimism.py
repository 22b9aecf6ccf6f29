"""The winner's dev score, corrected for having been chosen as the best of many.

The best of k noisy means is partly lucky. Arms are taken as drawn from one population of true means: y_ij = b_j + a_i +
noise, items b free, arms a_i with variance τ². Each arm is shrunk towards the others as far as its noise asks for:
Henderson's best linear unbiased prediction (Biometrics 31, 1975), with τ² by restricted maximum likelihood; with as
many items for all arms it is of the kind of James and Stein's (Efron and Morris, JASA 70, 1975). Arms that left early
do no harm: that they left depends on scores that are seen, and then likelihood stays valid (Rubin, Inference and
missing data, Biometrika 63, 1976). docs/decision.md has what it leaves of the bias, measured against other ways.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.decision.scores import Floats

_GRID = np.concatenate([[0.0], np.geomspace(1e-3, 1e6, 181)])  # τ² in units of the arms' mean error variance


@dataclass(frozen=True)
class Corrected:
    """Attributes:
    mean: The arm's mean over the items that it was scored on.
    corrected: The same, shrunk.
    spread: Standard deviation of the arms' true means, as estimated.
    """

    mean: float
    corrected: float
    spread: float

    @property
    def optimism(self) -> float:
        """What luck is estimated to have added."""
        return self.mean - self.corrected


def corrected(values: Floats, arm: int, groups: NDArray[np.intp] | None = None) -> Corrected | None:
    """The mean of the chosen arm, corrected.

    Args:
        values: Of every arm that was in the running, shape (arms, items); NaN where an arm was not scored.
        arm: The chosen one's row.
        groups: Shape (items,): the number of each item's group.

    Returns:
        None where there is nothing to correct by: the arm has no scores, or no item has two arms.
    """
    present = ~np.isnan(values)
    items = present[arm]
    num_arms = present.sum(axis=0)
    shared = num_arms > 1
    if not (items & shared).any():
        return None
    mean = float(values[arm][items].mean())
    effects = _Effects(values[:, shared], None if groups is None else groups[shared])
    lucky = effects.plain - effects.shrunk
    # What an item is worth is read from the arms that were scored on it, so their luck counts for it too.
    of_items = (lucky @ present[:, items]) / num_arms[items]
    return Corrected(mean, mean - float(lucky[arm] - of_items.mean()), effects.spread)


class _Effects:
    """How far each arm lies from the others: by least squares, and shrunk."""

    def __init__(self, values: Floats, groups: NDArray[np.intp] | None) -> None:
        present = ~np.isnan(values)
        per_item = present.sum(axis=0)
        centred = np.where(present, values - np.nansum(values, axis=0) / per_item, 0.0)
        joint = present.astype(np.float64)
        information = np.diag(joint.sum(axis=1)) - (joint / per_item) @ joint.T  # of the arms, items eliminated
        eigenvalues, vectors = np.linalg.eigh(information)
        seen = eigenvalues > 1e-9 * eigenvalues[-1]  # not the arms' common level, which items take up
        eigenvalues, vectors = eigenvalues[seen], vectors[:, seen]
        contrasts = vectors.T @ centred.sum(axis=1) / eigenvalues
        self.plain: Floats = vectors @ contrasts
        fitted = np.where(present, self.plain[:, None] - (self.plain @ joint) / per_item, 0.0)
        freedom = max(1, int(present.sum()) - values.shape[1] - int(seen.sum()))
        noise = _noise(centred - fitted, freedom, groups)
        errors = noise / eigenvalues  # variances of the contrasts
        between = _between(contrasts, errors)
        kept = between / (between + errors) if noise > 0 else np.ones_like(errors)
        self.shrunk: Floats = vectors @ (kept * contrasts)
        self.spread = float(np.sqrt(between))


def _noise(residuals: Floats, freedom: int, groups: NDArray[np.intp] | None) -> float:
    """Variance of one score around arm and item, inflated where scores of one group stray together."""
    total = float((residuals**2).sum())
    if groups is None or total == 0:
        return total / freedom
    _, codes = np.unique(groups, return_inverse=True)
    sums = np.stack([np.bincount(codes, weights=row) for row in residuals])
    return max(1.0, float((sums**2).sum()) / total) * total / freedom


def _between(contrasts: Floats, errors: Floats) -> float:
    """τ² by restricted maximum likelihood: contrasts are independent, with variances τ² + errors."""
    if not errors.mean() > 0:
        return float((contrasts**2).mean())
    grid = _GRID * errors.mean()
    variances = grid[:, None] + errors
    deviance = (np.log(variances) + contrasts**2 / variances).sum(axis=1)
    return float(grid[np.argmin(deviance)])
