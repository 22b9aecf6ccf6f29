"""How the choice flips: who would win under another limit, and at another worth of a dollar or a second."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Candidate:
    """A trial as the choice sees it: what it is worth (more is better), and what it costs (less is better)."""

    trial: str
    quality: float
    cost: float


@dataclass(frozen=True)
class Segment:
    """From ``start`` to ``end`` of a limit or a worth, this trial wins. ``end`` is None at the last one."""

    start: float
    end: float | None
    trial: str


def by_limit(candidates: Sequence[Candidate]) -> tuple[Segment, ...]:
    """Who has the highest quality among those within a limit on cost, for every limit.

    Below the first segment nobody is within it.
    """
    return _segments([(one.cost, one.trial) for one in leaders(candidates)])


def leaders(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Those that no other beats in both, the cheapest first: the Pareto front, one of each quality."""
    found: list[Candidate] = []
    for one in sorted(candidates, key=lambda one: (one.cost, -one.quality)):
        if not found or one.quality > found[-1].quality:
            found.append(one)
    return tuple(found)


def by_worth(candidates: Sequence[Candidate]) -> tuple[Segment, ...]:
    """Who has the highest ``quality - worth * cost``, for every worth from 0 on: the upper envelope of lines.

    A price that is k times as high is a worth that is k times as high.
    """
    if not candidates:
        return ()
    place = min(candidates, key=lambda one: (-one.quality, one.cost))
    found, at = [(0.0, place.trial)], 0.0
    while True:
        # Where a cheaper one overtakes: the first crossing of the line that leads now.
        crossings = [
            ((place.quality - one.quality) / (place.cost - one.cost), one.cost, one)
            for one in candidates
            if one.cost < place.cost
        ]
        if not crossings:
            return _segments(found)
        at, _, place = min(crossings, key=lambda crossing: crossing[:2])
        found.append((at, place.trial))


def candidates(
    metrics: Mapping[str, Mapping[str, float]], quality: str, cost: str, mode: str = "max"
) -> tuple[Candidate, ...]:
    """The trials that have both metrics.

    Args:
        metrics: By trial.
        mode: Whether more of ``quality`` is better; else its negative counts.
    """
    sign = 1.0 if mode == "max" else -1.0
    return tuple(
        Candidate(trial, sign * values[quality], values[cost])
        for trial, values in metrics.items()
        if quality in values and cost in values
    )


def _segments(starts: Sequence[tuple[float, str]]) -> tuple[Segment, ...]:
    inner = [Segment(start, end, trial) for (start, trial), (end, _) in pairwise(starts) if end > start]
    return (*inner, Segment(starts[-1][0], None, starts[-1][1])) if starts else ()
