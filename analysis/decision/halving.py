"""Judging that goes where it can still change the winner: sequential halving of items among arms.

All arms are judged on the first items, the better half on more, and so on; each round spends about as much (Karnin,
Koren and Somekh, Almost optimal exploration in multi-armed bandits, ICML 2013). Arms of one round see the same items,
so that what an item is worth meets all of them alike, and no score is thrown away: a round compares over all so far.

Everything is decided from the schedule and the scores there are. Who is asked again after an interruption decides the
same.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from analysis.decision.scores import Floats, Scores
from sweeps.errors import InvalidInput, Problem

KEEP = 3
REDUCTION = 2.0


@dataclass(frozen=True)
class Round:
    """So many arms are judged on the items before ``stop`` that they have not been judged on yet."""

    num_arms: int
    stop: int


@dataclass(frozen=True)
class Judging:
    """What to judge next: every arm on every item."""

    number: int  # of the round, from 0
    arms: tuple[str, ...]
    items: tuple[str, ...]


def schedule(
    num_arms: int, num_items: int, budget: int, keep: int = KEEP, reduction: float = REDUCTION
) -> tuple[Round, ...]:
    """Rounds that spend a budget.

    Args:
        num_arms: At the start.
        num_items: There are; no arm is judged on more.
        budget: Judged items, summed over arms.
        keep: Arms that come to the end.
        reduction: Each round has so many times fewer arms.

    Returns:
        Rounds with fewer and fewer arms. Where the budget suffices for all arms on all items, it is one.

    Raises:
        InvalidInput: The budget does not suffice for one item each, or a number is out of range.
    """
    problems = [
        Problem(name, f"must be at least 1, but got {value}")
        for name, value in (("arms", num_arms), ("items", num_items), ("keep", keep))
        if value < 1
    ]
    if not reduction > 1:
        problems.append(Problem("reduction", f"must be above 1, but got {reduction:g}"))
    if budget < num_arms and not problems:
        rule = f"must suffice to judge every arm once, but got {budget} for {num_arms} arms"
        problems.append(Problem("budget", rule, f"give at least {num_arms}"))
    if problems:
        raise InvalidInput(problems)
    sizes = [num_arms]
    while sizes[-1] > keep:
        sizes.append(max(keep, min(sizes[-1] - 1, math.ceil(sizes[-1] / reduction))))
    if budget >= num_arms * num_items:
        return (Round(num_arms, num_items),)
    low, high = 0.0, float(budget) + 1  # of the share of the budget that one round may spend
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _cost(_rounds(sizes, num_items, middle)) <= budget else (low, middle)
    rounds = tuple(_rounds(sizes, num_items, low))
    # A budget too small for rounds is spent in one.
    return rounds if rounds and rounds[0].num_arms == num_arms else (Round(num_arms, budget // num_arms),)


def _rounds(sizes: Sequence[int], num_items: int, share: float) -> list[Round]:
    rounds: list[Round] = []
    stop = 0
    for size in sizes:
        further = min(num_items, stop + int(share / size))
        if further > stop:
            rounds.append(Round(size, further))
        stop = further
    return rounds


def _cost(rounds: Sequence[Round]) -> int:
    starts = [0, *(one.stop for one in rounds)]
    return sum(one.num_arms * (one.stop - start) for one, start in zip(rounds, starts, strict=False))


def next_round(rounds: Sequence[Round], scores: Mapping[str, Scores], items: Sequence[str]) -> Judging | None:
    """What is to be judged next; None at the end.

    Args:
        rounds: By ``schedule``.
        scores: Of every arm that takes part, in an order that decides between equal ones; empty at the start. An item
            that is there with None was judged in vain, and is not asked for again.
        items: In the order of judging.

    Returns:
        The first round that is not complete: its arms, and the items that one of them lacks. What an arm already has
        of them is not to be judged again.
    """
    arms = tuple(scores)
    values = _values(scores, items)
    for number, one in enumerate(rounds):
        here = [arms[row] for row in standing(rounds[: number + 1], values)]
        lacking = tuple(item for item in items[: one.stop] if any(item not in scores[arm] for arm in here))
        if lacking:
            return Judging(number, tuple(here), lacking)
    return None


def standing(rounds: Sequence[Round], values: Floats) -> list[int]:
    """The arms that are in the last of these rounds, best first by the rounds before it.

    Args:
        values: Shape (arms, items), in the order of judging; NaN where missing. What lies beyond a round is not seen.
    """
    alive = list(range(len(values)))
    for one, following in pairwise(rounds):
        alive = best_first(values, alive, one.stop)[: following.num_arms]
    return alive


def ranked(rounds: Sequence[Round], values: Floats) -> list[int]:
    """All arms, best first."""
    alive = list(range(len(values)))
    out: list[int] = []
    for place, one in enumerate(rounds):
        alive = best_first(values, alive, one.stop)
        following = rounds[place + 1].num_arms if place + 1 < len(rounds) else len(alive)
        alive, left = alive[:following], alive[following:]
        out = left + out
    return alive + out


def best_first(values: Floats, arms: Sequence[int], stop: int) -> list[int]:
    """Arms by their mean distance from what the others have on the same items; an arm without scores is last.

    With every score there, that is the order of means. A missing one does its arm neither good nor harm.
    """
    seen = values[np.asarray(arms, dtype=np.intp), :stop]
    present: NDArray[np.bool_] = ~np.isnan(seen)
    per_item = np.maximum(1, present.sum(axis=0))
    distance = np.where(present, seen - np.nansum(seen, axis=0) / per_item, 0.0)
    num_scores = present.sum(axis=1)
    means = np.where(num_scores > 0, distance.sum(axis=1) / np.maximum(1, num_scores), -np.inf)
    return [arms[place] for place in np.argsort(-np.round(means, 12), kind="stable")]


def _values(scores: Mapping[str, Scores], items: Sequence[str]) -> Floats:
    rows = [[math.nan if (value := row.get(item)) is None else value for item in items] for row in scores.values()]
    return np.array(rows, dtype=np.float64).reshape(len(scores), len(items))
