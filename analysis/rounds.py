"""The rounds in which a sweep's trials are judged on dev; see ``decision.halving``."""

import math

from analysis.decision.halving import Round
from sweeps.spec import Champion


def rounds_of(champion: Champion, num_trials: int, first: int | None) -> tuple[Round, ...]:
    """All trials on the first items, then fewer and fewer of the best on more; nothing where all is judged at once.

    Args:
        num_trials: All of them.
        first: Items that every trial is judged on, ``evaluate.dev``; None for all there are.
    """
    contenders = champion.contenders
    if contenders is None or first is None or contenders.items <= first:
        return ()
    keep = max(1, champion.confirm.top)
    sizes = [min(contenders.start, num_trials)]
    while sizes[-1] > keep:
        sizes.append(max(keep, math.ceil(sizes[-1] / 2)))
    growth = contenders.items / first
    stops = [round(first * growth ** (number / len(sizes))) for number in range(1, len(sizes) + 1)]
    return (Round(num_trials, first), *(Round(size, stop) for size, stop in zip(sizes, stops, strict=True)))
