"""Sweeps that are drawn, so that the truth is known: how good each arm is, and how it scores on items."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """How sweeps are drawn: score = level + arm + item + this arm's own on the cluster and on the item + judge's noise.

    Attributes:
        spread: Standard deviation of the candidates' true means.
        best_alike: So many candidates are copies of the best one.
        incumbent: Its true mean against the candidates' population mean; None: there is none. ``base`` likewise.
        against_best: Both are counted from the best candidate of the sweep instead.
        integers: Scores are rounded and cut to 0-5, and an arm's true mean is that of such scores.
        dev: Items of the dev set.
        challenge: Items of the challenge set.
        rounds: ``evaluate.dev``, ``start`` and ``items`` of ``champion.contenders``, as a sweep's YAML has them; None
            for rounds that spend alike.
        item, by_cluster, by_item, judge: Standard deviations; the last three add up to a variance of 1.
        cluster: Items of one conversation.
    """

    name: str
    spread: float
    best_alike: int = 1
    incumbent: float | None = -0.2
    base: float = -1.0
    against_best: bool = False
    integers: bool = False
    level: float = 3.0
    dev: int = 500
    challenge: int = 50
    rounds: tuple[int, int, int] | None = None
    item: float = 0.7
    by_cluster: float = 0.3
    by_item: float = 0.6
    judge: float = 0.55**0.5
    cluster: int = 2
    num_candidates: int = 20

    @property
    def num_references(self) -> int:
        return 1 if self.incumbent is None else 2


@dataclass(frozen=True)
class Drawn:
    """One sweep. Rows are the candidates, then the incumbent if there is one, then the base."""

    truth: Floats  # shape (arms,)
    dev: Floats  # shape (arms, items)
    challenge: Floats
    dev_groups: NDArray[np.intp]
    challenge_groups: NDArray[np.intp]


def draw(world: World, rng: np.random.Generator) -> Drawn:
    """One sweep of a world."""
    candidates = rng.normal(0, world.spread, world.num_candidates)
    order = np.argsort(-candidates)
    candidates[order[: world.best_alike]] = candidates[order[0]]
    origin = candidates.max() if world.against_best else 0.0
    references = [origin + one for one in (world.incumbent, world.base) if one is not None]
    arms = world.level + np.concatenate([candidates, references])
    total = world.dev + world.challenge
    groups = np.arange(total) // world.cluster
    groups[world.dev :] = groups[world.dev - 1] + 1 + np.arange(world.challenge) // world.cluster
    shape = (arms.size, total)
    scores = arms[:, None] + rng.normal(0, world.item, total)
    scores += rng.normal(0, world.by_cluster, (arms.size, groups[-1] + 1))[:, groups]
    scores += rng.normal(0, np.hypot(world.by_item, world.judge), shape)
    if world.integers:
        scores = np.clip(np.round(scores), 0, 5)
        arms = mean_of_integers(arms, _deviation(world))
    return Drawn(
        arms,
        scores[:, : world.dev],
        scores[:, world.dev :],
        groups[: world.dev],
        groups[world.dev :] - groups[world.dev],
    )


def mean_of_integers(means: Floats, deviation: float) -> Floats:
    """The mean of normal values that are rounded and cut to 0-5: the sum over t = 1 … 5 of P(value > t - 1/2)."""
    steps = np.arange(1, 6) - 0.5
    return norm.sf((steps[:, None] - means) / deviation).sum(axis=0)  # type: ignore[no-any-return]


def _deviation(world: World) -> float:
    return float(np.sqrt(world.item**2 + world.by_cluster**2 + world.by_item**2 + world.judge**2))
