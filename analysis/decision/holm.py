"""Several comparisons at once: Holm's step-down correction, and Bonferroni's simultaneous intervals.

p is corrected by Holm (A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6, 1979), which
needs no independence and is never weaker than Bonferroni. Intervals at 1 - alpha / m hold all together at 1 - alpha
(Dunn, Multiple comparisons among means, JASA 56, 1961). Holm can find a difference that such an interval, being wider,
does not exclude: verdicts go by p.
"""

from collections.abc import Sequence


def adjusted(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p-values, in the same order.

    A comparison without a verdict (None) stays None and is still counted: the family is what was planned.
    """
    m = len(p_values)
    told = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    found: list[float | None] = [None] * m
    so_far = 0.0
    for rank, (p, place) in enumerate(told):
        so_far = max(so_far, min(1.0, (m - rank) * p))
        found[place] = so_far
    return found


def joint_level(level: float, num_comparisons: int) -> float:
    """The level at which each of so many intervals is drawn so that all hold together at ``level``."""
    return 1 - (1 - level) / max(1, num_comparisons)
