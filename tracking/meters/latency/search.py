"""The highest rate at which an SLO is kept, looked for by trying rates. Decisions alone: nothing is measured here."""

import math
from collections.abc import Sequence

CLOSE = 1.1  # rates within this factor are told apart by nothing that a few hundred requests show


def next_rate(tried: Sequence[tuple[float, bool]]) -> float | None:
    """The rate to try next; None where the highest one that is kept is known closely enough.

    Doubled while the SLO is kept, halved while it is not, then the middle of the highest rate that was kept and the
    lowest above it that was not, on a scale of factors. Chance may keep a rate and break a lower one: the higher one
    then stands, since it was kept.

    Args:
        tried: One or more rates, each with whether the SLO was kept.
    """
    kept = max((rate for rate, was_kept in tried if was_kept), default=0.0)
    broken = min((rate for rate, was_kept in tried if not was_kept and rate > kept), default=math.inf)
    if kept == 0:
        return broken / 2
    if broken == math.inf:
        return kept * 2
    return math.sqrt(kept * broken) if broken / kept > CLOSE else None
