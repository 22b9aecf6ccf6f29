"""Strengths from pairwise verdicts: Bradley and Terry's model by evalica, with intervals clustered by item."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np

from analysis.decision.bootstrap import MIN_CLUSTERS, counts
from analysis.decision.scores import Floats
from sweeps.errors import InvalidInput, Problem

Winner = Literal["left", "right", "tie"]
_WINNERS: tuple[Winner, ...] = ("left", "right", "tie")
NUM_DRAWS = 999


class Preference(NamedTuple):
    """One verdict; one whose two orders disagree is a tie."""

    left: str
    right: str
    winner: Winner
    item: str  # verdicts on one item, or one conversation, are drawn together


@dataclass(frozen=True)
class Strength:
    """Of one arm.

    Attributes:
        num_verdicts: On it.
        wins: Their sum, a tie being half a win.
        strength: The probability of a win against an average arm, whose strength is the geometric mean of all.
        interval: At 95 %; None where there are too few items for a verdict.
    """

    arm: str
    num_verdicts: int
    wins: float
    strength: float
    interval: tuple[float, float] | None


def strengths(
    verdicts: Iterable[Preference], num_draws: int = NUM_DRAWS, seed: int = 0, min_items: int = MIN_CLUSTERS
) -> tuple[Strength, ...]:
    """Bradley-Terry strengths, best first.

    To every pair of arms one tie is added, so that who always wins, or was never compared, has a finite strength.
    Without it evalica calls arms equal of which the first always wins. Intervals are percentiles over items drawn.

    Raises:
        InvalidInput: There is no verdict, a winner is none of ``left``, ``right``, ``tie``, or an arm meets itself.
    """
    given = [Preference(*one) for one in verdicts]
    _check(given)
    arms = sorted({arm for one in given for arm in (one.left, one.right)})
    items = {item: place for place, item in enumerate(sorted({one.item for one in given}))}
    kinds = sorted({one[:3] for one in given})
    tallies = np.zeros((len(items), len(kinds)))  # of every kind of verdict on every item
    where = {kind: place for place, kind in enumerate(kinds)}
    for one in given:
        tallies[items[one.item], where[one[:3]]] += 1
    found = _fit(arms, kinds, tallies.sum(axis=0))
    spread: Floats | None = None
    if len(items) >= min_items:
        drawn = counts(len(items), num_draws, np.random.default_rng(seed)) @ tallies
        spread = np.percentile([_fit(arms, kinds, row) for row in drawn], [2.5, 97.5], axis=0)
    wins, met = _record(given)
    table = [
        Strength(
            arm,
            met[arm],
            wins[arm],
            float(found[place]),
            None if spread is None else (float(spread[0][place]), float(spread[1][place])),
        )
        for place, arm in enumerate(arms)
    ]
    return tuple(sorted(table, key=lambda one: (-one.strength, one.arm)))


def _fit(arms: Sequence[str], kinds: Sequence[tuple[str, str, Winner]], tally: Floats) -> Floats:
    import evalica

    codes = {"left": evalica.Winner.X, "right": evalica.Winner.Y, "tie": evalica.Winner.Draw}
    prior = list(combinations(arms, 2))
    fitted = evalica.bradley_terry(
        [left for left, _, _ in kinds] + [left for left, _ in prior],
        [right for _, right, _ in kinds] + [right for _, right in prior],
        [codes[winner] for _, _, winner in kinds] + [evalica.Winner.Draw] * len(prior),
        weights=[*tally, *[1.0] * len(prior)],
    )
    logs = np.log(np.array([fitted.scores[arm] for arm in arms]))
    return 1 / (1 + np.exp(-(logs - logs.mean())))  # type: ignore[no-any-return]


def _record(verdicts: Sequence[Preference]) -> tuple[Counter[str], Counter[str]]:
    wins: Counter[str] = Counter()
    met: Counter[str] = Counter()
    for one in verdicts:
        share = {"left": 1.0, "right": 0.0, "tie": 0.5}[one.winner]
        wins.update({one.left: share, one.right: 1 - share})  # type: ignore[dict-item]
        met.update((one.left, one.right))
    return wins, met


def _check(verdicts: Sequence[Preference]) -> None:
    if not verdicts:
        raise InvalidInput(Problem("verdicts", "must hold at least one comparison, but there is none"))
    problems = [
        Problem(f"verdict {number}", f"the winner must be left, right or tie, but got {one.winner!r}")
        for number, one in enumerate(verdicts, 1)
        if one.winner not in _WINNERS
    ]
    problems += [
        Problem(f"verdict {number}", f"two arms must be compared, but both are {one.left!r}")
        for number, one in enumerate(verdicts, 1)
        if one.left == one.right
    ]
    if problems:
        raise InvalidInput(problems)
