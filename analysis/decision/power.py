"""How many more items would decide a comparison, if the difference is what was observed."""

import math
from dataclasses import dataclass
from statistics import NormalDist

from analysis.decision.bootstrap import Estimate
from analysis.decision.rule import DecisionRule


@dataclass(frozen=True)
class Need:
    """More items that would decide.

    Attributes:
        items: 0 where it is decided; None where the scores tell nothing (fewer than two clusters).
        beyond: More than ``items`` are needed, which is the cap.
    """

    items: int | None
    beyond: bool = False

    def __str__(self) -> str:
        if self.items is None:
            return "an unknown number of"
        return f"more than {self.items:,}" if self.beyond else f"{self.items:,}"

    @property
    def size(self) -> float:
        """For comparing needs: an unknown one is the largest."""
        return math.inf if self.items is None else self.items + 0.5 * self.beyond


def items_needed(difference: Estimate, alpha: float, rule: DecisionRule) -> Need:
    """Items beyond those there are, so that a two-sided test at ``alpha`` finds the observed difference.

    With n items, a difference d and a standard error s that is paired and clustered, it is found with probability
    ``rule.power`` at N = n ((z_{1-alpha/2} + z_power) s / d)² items, and with as many groups as a verdict needs. The
    answer is N - n: how much larger a new sealed set must be. Adding items until a test succeeds would be another test.
    """
    if difference.mean is None or difference.se is None:
        return Need(None)
    if difference.mean == 0:
        return Need(rule.max_items, beyond=True)
    z = NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(rule.power)
    enough = difference.n * max((z * difference.se / difference.mean) ** 2, rule.min_clusters / difference.num_clusters)
    more = max(1, math.ceil(enough - difference.n))
    return Need(rule.max_items, beyond=True) if more > rule.max_items else Need(more)
